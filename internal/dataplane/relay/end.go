package relay

import (
	"errors"
	"fmt"
	"time"

	"ftpgate/internal/dataplane/socket"
)

// Close ends the pinhole. Where nobody has come, the port is given back and nothing can come. A connection
// that has come goes on until its ends end it: Close does not wait for that. From then on the end of the
// caller's context means nothing, and the connection is broken where nothing has moved for the idle time. A
// download that is delivered after Finish ends in order, also where the client keeps its end open: the
// server's own kernel would forget such a connection, too (tcp_fin_timeout in tcp(7)).
func (t *Transfer) Close() {
	if t.route != nil && t.isArmed() {
		t.route.AcceptPending()
	}
	if t.detach() {
		t.unlisten()
		t.copier.shortenHandshake()
		return
	}
	t.Sever()
	<-t.done
}

// detach leaves the transfer to its ends; false: nobody has come.
func (t *Transfer) detach() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.connected:
	default:
		return false
	}
	if t.detached || t.err != nil {
		return true
	}
	t.detached = true
	if !t.inUse {
		close(t.unused)
	}
	t.unregister()
	var passed <-chan struct{}
	if t.finished {
		passed = t.passed[Server]
	}
	t.relay.start(t, func() { t.watchDetached(passed) })
	return true
}

// watchDetached breaks a transfer in which nothing has moved for the idle time. One that is delivered, and
// whose client has sent nothing, it ends in order some time after the server's FIN was passed on; nil: it
// does not.
func (t *Transfer) watchDetached(passed <-chan struct{}) {
	idle := time.NewTicker(t.idleTime)
	defer idle.Stop()
	late := time.NewTimer(t.graceTime)
	defer late.Stop()
	late.Stop()
	for before := t.moved(); ; {
		select {
		case <-t.done:
			return
		case <-passed:
			passed = nil
			late.Reset(t.graceTime)
		case <-late.C:
			if t.bytes[Client].Load() == 0 && t.isDelivered() {
				t.Sever()
				return
			}
			late.Reset(t.graceTime)
		case <-idle.C:
			now := t.moved()
			if now == before {
				t.sever(fmt.Errorf("%w: nothing has moved in %s", ErrClosed, t.idleTime))
				return
			}
			before = now
		}
	}
}

// Sever breaks the transfer: both ends are reset, unless Finish has found that all was delivered: then they
// are closed in order. It does not wait. On a transfer that is over it does nothing.
func (t *Transfer) Sever() { t.sever(ErrClosed) }

func (t *Transfer) sever(err error) {
	t.unlisten() // before done is closed, where nothing runs
	t.fail(err)
	t.stop()
}

// closeInOrder closes both ends so that what is still on its way is delivered.
func (t *Transfer) closeInOrder() {
	for _, c := range t.ends {
		socket.CloseInOrder(c)
	}
}

// complete fills in the result of a transfer whose goroutines have ended. The caller holds the lock.
func (t *Transfer) complete() {
	t.result.Up, t.result.Down = t.Bytes()
	t.result.UnexpectedPeers = t.unexpectedPeers
	t.result.Ended = time.Now()
	if t.err != errDelivered {
		t.result.Err = t.err
	}
	close(t.done)
}

// errDelivered stands for the failure of a transfer that was severed after all of it was delivered.
var errDelivered = errors.New("delivered")

// fail breaks the transfer for both ends: both see a reset, never a FIN, unless all was delivered before. The
// first error counts; later ones are its consequences.
func (t *Transfer) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	t.err = err
	close(t.broken)
	if t.delivered {
		t.err = errDelivered
		t.closeInOrder()
		return
	}
	for _, c := range t.ends {
		if c != nil {
			c.Close() // a reset: see package socket
		}
	}
	if !t.armed { // and never will be: see Arm
		t.complete()
	}
}
