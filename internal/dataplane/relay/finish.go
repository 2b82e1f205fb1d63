package relay

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/socket"
)

// firstPoll and lastPoll are how soon, and how often at last, Finish looks whether the last byte has been
// acknowledged: no event reports that.
const (
	firstPoll = time.Millisecond
	lastPoll  = 100 * time.Millisecond
)

// Finish waits until what came through is delivered, or cancel is closed: for the moment when the server
// calls a transfer complete. It returns nil where
//   - the transfer is over, with all of it delivered;
//   - one end has closed its direction and the other has acknowledged every byte of it, but sends nothing
//     itself and does not close, as a client may that waits for the reply;
//   - nobody came: the pinhole was never armed, or has no connection within a second;
//
// and else how the transfer broke, or ErrUnfinished where cancel was closed before.
func (t *Transfer) Finish(cancel <-chan struct{}) error {
	if !t.isArmed() {
		return nil
	}
	select {
	case <-t.done: // most often
		return t.outcome()
	default:
	}
	settled := time.NewTimer(t.settleTime)
	defer settled.Stop()
	if t.at.IsValid() {
		select {
		case <-t.connected:
		case <-t.done:
		case <-settled.C:
			return nil
		case <-cancel:
			return ErrUnfinished
		}
	}
	t.copier.shortenHandshake()
	return t.awaitDelivery(cancel, settled.C)
}

// Settled reports that Finish would not wait.
func (t *Transfer) Settled() bool {
	select {
	case <-t.done:
		return true
	default:
		return !t.isArmed()
	}
}

// awaitDelivery waits for the end of a transfer whose peer has come, or until all of it is delivered.
func (t *Transfer) awaitDelivery(cancel <-chan struct{}, settled <-chan time.Time) error {
	pause := firstPoll
	poll := time.NewTimer(pause)
	defer poll.Stop()
	late := false
	for {
		select {
		case <-t.done:
			return t.outcome()
		case <-settled:
			late = true
		case <-poll.C:
			if t.isDelivered(late) {
				return nil
			}
			pause = min(2*pause, lastPoll)
			poll.Reset(pause)
		case <-cancel:
			return ErrUnfinished
		}
	}
}

// outcome returns what Finish says of a transfer that is over.
func (t *Transfer) outcome() error {
	r := t.result
	neverCame := t.at.IsValid() && r.Connected.IsZero() && errors.Is(r.Err, ErrClosed)
	if neverCame || errors.Is(r.Err, ErrNobody) {
		return nil
	}
	return r.Err
}

// isDelivered reports whether one end has closed its direction and all of it has arrived at the other one,
// which is silent. FTP sends in one direction (RFC 959 section 3.2), so nothing else is to come. Where
// neither end has sent anything, only time (late) can tell which one was to send.
func (t *Transfer) isDelivered(late bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return false // the result says what broke it
	}
	for _, side := range []Side{From, To} {
		sent, back := t.bytes[side].Load(), t.bytes[side.other()].Load()
		if t.ended[side].Load() && back == 0 && (sent > 0 || late) && isAcknowledged(t.ends[side.other()]) {
			t.delivered = true
			return true
		}
	}
	return false
}

// isAcknowledged reports that the peer has taken everything that was sent, with the FIN, and has sent none
// itself (RFC 9293 section 3.3.2, FIN-WAIT-2).
func isAcknowledged(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var info *unix.TCPInfo
	err = socket.Control(raw, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return err == nil && info.State == unix.BPF_TCP_FIN_WAIT2
}
