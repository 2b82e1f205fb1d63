package relay

import (
	"errors"
	"fmt"
	"time"
)

// Close ends the pinhole. If no peer has connected, it releases the port, and no peer can connect any more.
// An existing connection continues until its ends close it; Close does not wait for that. From then on the
// end of the caller's context has no effect, and the relay breaks the connection when nothing has moved for
// the idle time. A download that is delivered after Finish ends in order, even if the client keeps its end
// open: the server's own kernel would forget such a connection, too (tcp_fin_timeout in tcp(7)).
func (c *Connection) Close() {
	if c.route != nil && c.isArmed() {
		c.route.AcceptPending()
	}
	if c.detach() {
		c.unlisten()
		c.copier.shortenHandshake()
		return
	}
	c.Sever()
	<-c.done
}

// detach leaves the connection to its ends; false: no peer has connected.
func (c *Connection) detach() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.connected:
	default:
		return false
	}
	if c.detached || c.err != nil {
		return true
	}
	c.detached = true
	if !c.inUse {
		close(c.unused)
	}
	c.unregister()
	var passed <-chan struct{}
	if c.finished {
		passed = c.finForwarded[Server]
	}
	c.watchLater(passed)
	return true
}

// watchLater begins watchDetached a little later: most connections are over by then. The caller holds the
// lock.
func (c *Connection) watchLater(passed <-chan struct{}) {
	linger := c.graceTime
	select {
	case <-passed:
		linger = 0 // the time until watchDetached counts
	default:
	}
	c.watch = time.AfterFunc(min(c.graceTime, c.idleTime), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		select {
		case <-c.done:
		default: // the connection's goroutine runs, and Relay.Close waits for it
			c.relay.start(c, func() { c.watchDetached(passed, linger) })
		}
	})
}

// watchDetached breaks a connection in which nothing has moved for the idle time. It ends a delivered one
// whose client has sent nothing in order, some time (linger) after passed, which is closed when the server's
// FIN was forwarded; nil: it does not.
func (c *Connection) watchDetached(passed <-chan struct{}, linger time.Duration) {
	idle := time.NewTicker(c.idleTime)
	defer idle.Stop()
	late := time.NewTimer(c.graceTime)
	defer late.Stop()
	late.Stop()
	for before := c.moved(); ; {
		select {
		case <-c.done:
			return
		case <-passed:
			passed = nil
			late.Reset(linger)
		case <-late.C:
			if c.bytes[Client].Load() == 0 && c.isDelivered() {
				c.Sever()
				return
			}
			late.Reset(c.graceTime)
		case <-idle.C:
			now := c.moved()
			if now == before {
				c.sever(fmt.Errorf("%w: nothing has moved in %s", ErrClosed, c.idleTime))
				return
			}
			before = now
		}
	}
}

// Sever breaks the connection: it resets both ends, or closes them in order if Finish found everything
// delivered. It does not wait. On a connection that is over it does nothing.
func (c *Connection) Sever() { c.sever(ErrClosed) }

func (c *Connection) sever(err error) {
	c.unlisten() // before done is closed, if no goroutine runs
	c.fail(err)
	c.stop()
}

// closeInOrder closes both ends so that data on its way is delivered.
func (c *Connection) closeInOrder() {
	for _, conn := range c.ends {
		conn.CloseInOrder()
	}
}

// complete ends a connection whose goroutines have ended. The caller holds the lock.
func (c *Connection) complete() {
	if c.err != errDelivered {
		c.endErr = c.err
	}
	close(c.done)
}

// errDelivered marks a connection that was severed after everything was delivered.
var errDelivered = errors.New("delivered")

// fail breaks the connection for both ends: both get a reset, never a FIN, unless everything was delivered
// before. The first error counts; later ones are its consequences.
func (c *Connection) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	close(c.broken)
	if c.delivered {
		c.err = errDelivered
		c.closeInOrder()
		return
	}
	for _, conn := range c.ends {
		if conn != nil {
			conn.Close() // a reset: see package socket
		}
	}
	if !c.armed { // and cannot be armed any more: see Arm
		c.stopTimers()
		c.complete()
	}
}
