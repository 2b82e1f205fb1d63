package relay

import (
	"errors"
	"time"
)

// firstPoll and lastPoll are the first and the longest interval in which Finish checks whether the last byte
// was acknowledged. There is no event for that: the kernel wakes a waiter on the socket for the
// acknowledgement of the FIN (tcp_rcv_state_process in net/ipv4/tcp_input.c), which a peer may delay for 40
// ms and longer, and for that of data only if the send buffer was full before. Time stamps of
// acknowledgements (SOF_TIMESTAMPING_TX_ACK) work with splice(2), too, but were no faster: see
// docs/design/0002-proxy-tracking.md. Most often the first check finds everything acknowledged.
const (
	firstPoll = 200 * time.Microsecond
	lastPoll  = 20 * time.Millisecond
)

// Finish is called when the server reports a complete download. It waits until one of these: the client has
// acknowledged every byte of the server's and got its FIN; the connection is over; nothing has moved for a
// second (the server keeps the connection open, or the client reads nothing before the reply); cancel is
// closed. If no peer has connected it returns at once, in active mode after a second, because the server's
// connection may arrive after its reply.
func (c *Connection) Finish(cancel <-chan struct{}) {
	c.mu.Lock()
	c.finished = true
	c.mu.Unlock()
	if c.awaitPeer(cancel) {
		c.copier.shortenHandshake()
		c.awaitDelivery(cancel)
	}
}

// FinishReturnsNow reports that Finish would not wait.
func (c *Connection) FinishReturnsNow() bool {
	select {
	case <-c.done:
		return true
	case <-c.connected:
		return false
	default:
		return !c.isArmed() || c.listen.IsValid() && c.peer == Client
	}
}

// awaitPeer waits for a peer that may be on its way, and reports whether it has connected and the connection
// is not over.
func (c *Connection) awaitPeer(cancel <-chan struct{}) bool {
	if c.FinishReturnsNow() {
		return false
	}
	if !c.listen.IsValid() {
		return true
	}
	late := time.NewTimer(c.graceTime)
	defer late.Stop()
	select {
	case <-c.connected:
		return true
	case <-c.done:
	case <-late.C:
	case <-cancel:
	}
	return false
}

// awaitDelivery waits until a connection whose peer has connected is over, is delivered, or does not move.
func (c *Connection) awaitDelivery(cancel <-chan struct{}) {
	pause := firstPoll
	poll := time.NewTimer(pause)
	defer poll.Stop()
	passed := c.finForwarded[Server]
	moved, at := int64(-1), time.Now()
	for !c.isDelivered() {
		select {
		case <-passed:
			passed, pause = nil, firstPoll
		case <-poll.C:
			pause = min(2*pause, lastPoll)
			switch now := c.moved(); {
			case now != moved || !c.isFlowing():
				moved, at = now, time.Now()
			case time.Since(at) >= c.graceTime:
				return
			}
		case <-c.done:
			return
		case <-cancel:
			return
		}
		poll.Reset(pause)
	}
}

// isFlowing reports whether data may flow.
func (c *Connection) isFlowing() bool {
	select {
	case <-c.flowing:
		return true
	default:
		return false
	}
}

// isDelivered reports whether the server's FIN was forwarded, and the client has acknowledged every byte
// before it. The FIN itself need not be acknowledged: a client may delay that until it has read the reply.
func (c *Connection) isDelivered() bool {
	select {
	case <-c.finForwarded[Server]:
	default:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false // Err says what broke it
	}
	const fin = 1
	n, err := unacknowledged(c.ends[Client])
	c.delivered = c.delivered || err == nil && n <= fin
	return c.delivered
}

// moved returns a number that grows with every byte forwarded or acknowledged.
func (c *Connection) moved() int64 {
	up, down := c.Bytes()
	n := up + down
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.ends {
		if conn != nil {
			unacknowledged, _ := unacknowledged(conn) // of a closed one: none
			n += up + down - int64(unacknowledged)
		}
	}
	return n
}

// Err returns why the connection broke; nil: it has not so far. A missing peer is no error.
func (c *Connection) Err() error {
	select {
	case <-c.done:
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == errDelivered {
			return nil
		}
		return c.err
	}
	neverCame := c.listen.IsValid() && c.connectedAt.IsZero() && errors.Is(c.endErr, ErrClosed)
	if neverCame || errors.Is(c.endErr, ErrNoPeer) {
		return nil
	}
	return c.endErr
}

// ServerReset reports whether the server broke the connection, by a reset or by silence, before its FIN.
func (c *Connection) ServerReset() bool {
	broken, ok := errors.AsType[*BrokenError](c.Err())
	if !ok || broken.Side == Client || c.finReceived[Server].Load() {
		return false
	}
	_, truncated := errors.AsType[*TruncatedError](broken)
	return !truncated
}

// BrokeAfterEnd reports whether the connection broke when nothing was left to be delivered: an end broke
// after its FIN when there was no data for it; or the server broke when it got the client's FIN. (A client
// that breaks before it has acknowledged a download has not got all of it.)
func (c *Connection) BrokeAfterEnd() bool {
	broken, ok := errors.AsType[*BrokenError](c.Err())
	if !ok {
		return false
	}
	other := broken.Side.other()
	sentAll := c.finReceived[broken.Side].Load() && c.bytes[other].Load() == 0
	hasAll := broken.Side == Server && c.finReceived[other].Load() && c.bytes[Server].Load() == 0
	return sentAll || hasAll
}
