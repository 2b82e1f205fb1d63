package relay

import (
	"errors"
	"time"
)

// firstPoll and lastPoll are how soon, and how often at last, Finish looks whether the last byte was
// acknowledged. No event says that: the kernel wakes up who waits on a socket for the acknowledgement of the
// FIN (tcp_rcv_state_process in net/ipv4/tcp_input.c), which a peer may put off for 40 ms and longer, and for
// that of data only where its send buffer was full before. Time stamps of acknowledgements
// (SOF_TIMESTAMPING_TX_ACK) come with splice(2), too, but were no faster: see
// docs/design/0002-proxy-tracking.md. Most often the first look finds everything acknowledged.
const (
	firstPoll = 200 * time.Microsecond
	lastPoll  = 20 * time.Millisecond
)

// Finish is for the moment when the server calls a download complete. It waits until the client has
// acknowledged every byte that the server has sent and was given its FIN, or until the transfer is over, or
// until nothing has moved for a second: then the server keeps the connection open, or the client takes
// nothing before it has read the reply. It returns at once where nobody has come; in active mode after a
// second, because the server's connection may be behind its reply. The end of cancel ends the wait.
func (t *Transfer) Finish(cancel <-chan struct{}) {
	t.mu.Lock()
	t.finished = true
	t.mu.Unlock()
	if t.awaitPeer(cancel) {
		t.copier.shortenHandshake()
		t.awaitDelivery(cancel)
	}
}

// FinishReturnsNow reports that Finish would not wait.
func (t *Transfer) FinishReturnsNow() bool {
	select {
	case <-t.done:
		return true
	case <-t.connected:
		return false
	default:
		return !t.isArmed() || t.listen.IsValid() && t.peer == Client
	}
}

// awaitPeer waits for the peer, if it may be on its way, and reports whether it has come and the transfer
// goes on.
func (t *Transfer) awaitPeer(cancel <-chan struct{}) bool {
	if t.FinishReturnsNow() {
		return false
	}
	if !t.listen.IsValid() {
		return true
	}
	late := time.NewTimer(t.graceTime)
	defer late.Stop()
	select {
	case <-t.connected:
		return true
	case <-t.done:
	case <-late.C:
	case <-cancel:
	}
	return false
}

// awaitDelivery waits for the end of a transfer whose peer has come, or until all of it is delivered, or
// nothing moves.
func (t *Transfer) awaitDelivery(cancel <-chan struct{}) {
	pause := firstPoll
	poll := time.NewTimer(pause)
	defer poll.Stop()
	passed := t.passed[Server]
	moved, at := t.moved(), time.Now()
	for !t.isDelivered() {
		select {
		case <-passed:
			passed, pause = nil, firstPoll
		case <-poll.C:
			pause = min(2*pause, lastPoll)
		case <-t.done:
			return
		case <-cancel:
			return
		}
		poll.Reset(pause)
		switch now := t.moved(); {
		case now != moved || !t.isFlowing():
			moved, at = now, time.Now()
		case time.Since(at) >= t.graceTime:
			return
		}
	}
}

// isFlowing reports whether data may flow.
func (t *Transfer) isFlowing() bool {
	select {
	case <-t.flowing:
		return true
	default:
		return false
	}
}

// isDelivered reports whether the server's FIN was passed on, and the client has acknowledged every byte
// before it. The FIN itself need not be acknowledged: a client may put that off until it has read the reply.
func (t *Transfer) isDelivered() bool {
	select {
	case <-t.passed[Server]:
	default:
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return false // the result says what broke it
	}
	const fin = 1
	n, err := unacknowledged(t.ends[Client])
	t.delivered = t.delivered || err == nil && n <= fin
	return t.delivered
}

// moved returns a number that grows with every byte that was passed on, or acknowledged by its receiver.
func (t *Transfer) moved() int64 {
	up, down := t.Bytes()
	n := up + down
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.ends {
		if c != nil {
			unacknowledged, _ := unacknowledged(c) // of a closed one: none
			n += up + down - int64(unacknowledged)
		}
	}
	return n
}

// Err returns how the transfer broke, so far; nil: it did not. It is no fault that nobody came.
func (t *Transfer) Err() error {
	select {
	case <-t.done:
	default:
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.err == errDelivered {
			return nil
		}
		return t.err
	}
	r := t.result
	neverCame := t.listen.IsValid() && r.Connected.IsZero() && errors.Is(r.Err, ErrClosed)
	if neverCame || errors.Is(r.Err, ErrNobody) {
		return nil
	}
	return r.Err
}

// ServerReset reports whether the server broke the transfer, by a reset or by silence, before its FIN.
func (t *Transfer) ServerReset() bool {
	broken, ok := errors.AsType[*BrokenError](t.Err())
	if !ok || broken.Side == Client || t.ended[Server].Load() {
		return false
	}
	_, truncated := errors.AsType[*TruncatedError](broken)
	return !truncated
}
