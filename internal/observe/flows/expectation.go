package flows

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// Expectation is a data connection that is expected through a pinhole, and after that the connection itself.
// It implements sessions.Meter.
type Expectation struct {
	watcher *Watcher
	pinhole pinhole.Pinhole
	opened  time.Time
	onEnd   func() // called once, when the connection has ended and its bytes are known; may be nil

	// Guarded by the watcher's lock.
	closePinhole func()         // see OnComplete; nil: nothing closes it early
	peer         netip.AddrPort // the connected peer; invalid: none
	expected     bool           // it is in watcher.expected
	searched     bool           // the table was searched for its connection
	older        *Expectation   // the next older expectation of the same target
	olderAtPort  *Expectation   // the next older expectation of the same listen port
	rivals       []*Expectation // connections that were begun as well, before one completes
	rivalOf      *Expectation   // of a rival: the expectation whose connection it may be; nil: it is none

	mu             sync.Mutex
	attempt                       // the connection
	attempts       int            // how many connections were begun
	dropped        netip.AddrPort // the sender of the last first packet, which is unanswered so far
	unexpectedPeer netip.Addr     // the last peer with another address; invalid: none
	kept           bool           // the pinhole stays open after its lifetime
	released       time.Time      // when the pinhole was closed; zero: it is open
	used           bool           // a connection has used the pinhole
	unseenSince    time.Time      // when a poll first found it released without a connection
	done           bool           // nothing more is expected
	fault          *verdict.Fault
	severed        bool // the gateway has ended the connection
}

// Expect announces the connection of a pinhole. Call it before the pinhole is open in the kernel, and
// Release the expectation when the pinhole is closed.
func (w *Watcher) Expect(p pinhole.Pinhole) *Expectation {
	x := &Expectation{watcher: w, pinhole: p, opened: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	port := p.Listen.Port()
	x.expected, x.older, x.olderAtPort = true, w.expected[p.Target], w.expectedAt[port]
	w.expected[p.Target], w.expectedAt[port] = x, x
	return x
}

// Release notes that the pinhole is closed. used: its transfer is over, so its peer has connected. A
// connection through it is followed to its end.
func (x *Expectation) Release(used bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.released, x.used = time.Now(), used
}

func (x *Expectation) isReleased() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.released.IsZero()
}

// wasUsed reports whether a connection has used the pinhole, even if the connection was not seen yet.
func (x *Expectation) wasUsed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.used
}

// quietTime is how long a connection with a closed direction must be idle before it counts as delivered: the
// table shows that the sender has closed it, but not whether the receiver has acknowledged all of it. Lost
// segments are sent again sooner.
const quietTime = 3 * time.Second

// carries reports whether the connection may still carry data: it is not half open, and not delivered.
func (x *Expectation) carries() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.halfOpen && !x.delivered()
}

// delivered reports whether all data is delivered: the transfer is over, the sender has closed its direction
// (RFC 959 section 3.3: data goes in one), and no packet has passed since. It is false if the table has no
// counters. The caller holds x.mu.
func (x *Expectation) delivered() bool {
	f := x.flow
	if !x.used || f == nil || f.State != netflow.TCPCloseWait || f.Sent.Packets == 0 ||
		x.polledAt.Sub(x.movedAt) < quietTime {
		return false
	}
	sent, received := x.payload()
	return sent == received || f.Closed == (received > sent) // equal: both are 0
}

// payload returns the bytes of data so far in the direction of the first packet, and in the other one. The
// caller holds x.mu, and x.flow may be nil.
func (x *Expectation) payload() (sent, received uint64) {
	if x.flow != nil {
		sent, received = x.watcher.table.Payload(*x.flow)
	}
	return x.segments.bytes(sent, received)
}

// searchOrExpire reports whether to search the conntrack table for an expectation that has seen no packet,
// and whether to give the expectation up. Both are false while its pinhole is open. The caller holds the
// watcher's lock.
func (x *Expectation) searchOrExpire(now time.Time) (search, expire bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.released.IsZero() {
		return false, false
	}
	if x.unseenSince.IsZero() {
		x.unseenSince = now
	}
	explained := x.used || x.searched || x.fault != nil || x.unexpectedPeer.IsValid()
	waited := now.Sub(x.unseenSince)
	expire = waited >= searchWait || explained && waited >= eventLag
	x.done = x.done || expire
	return !explained, expire
}

// finishIfReleased ends an expectation without a connection if its pinhole is closed, and reports whether it
// is.
func (x *Expectation) finishIfReleased() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	released := !x.released.IsZero()
	x.done = x.done || released
	return released
}

// finishUnanswered ends an expectation whose connection the far end did not answer.
func (x *Expectation) finishUnanswered() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fault, x.done = x.unansweredFault(causeNoAnswer), true
}

// connectedTuple returns the tuple of the connection. Its From is invalid if no peer has connected.
func (x *Expectation) connectedTuple() netflow.Tuple {
	x.watcher.mu.Lock()
	defer x.watcher.mu.Unlock()
	return x.tuple()
}

// tuple is connectedTuple for a caller that holds the watcher's lock.
func (x *Expectation) tuple() netflow.Tuple { return netflow.Tuple{From: x.peer, To: x.pinhole.Listen} }

// endpoints returns both ends of the connection. The caller holds the watcher's lock.
func (x *Expectation) endpoints() endpoints { return endpointsOf(x.peer, x.pinhole.Target) }

// Outcome returns the connection's outcome as of the last poll or segment.
func (x *Expectation) Outcome() pinhole.Outcome {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := pinhole.KernelOutcome()
	o.Counted, o.UnexpectedPeer, o.Over = true, x.unexpectedPeer, x.done
	if !x.halfOpen {
		o.Connected = x.connected
	}
	if x.severed {
		o.Failure = &pinhole.Failure{Err: errSevered}
	} else if f := x.faultSoFar(); f != nil {
		o.Failure = &pinhole.Failure{Err: errors.New(f.Verdict().Text), Fault: *f}
	}
	o.ServerReset = x.segments.cutShort && x.segments.resetByFar != x.pinhole.Active
	sent, received := x.payload()
	o.Up, o.Down = int64(sent), int64(received)
	if x.pinhole.Active { // the server has connected
		o.Up, o.Down = o.Down, o.Up
	}
	return o
}

// faultSoFar returns the connection's fault; nil: none so far. The caller holds x.mu.
func (x *Expectation) faultSoFar() *verdict.Fault {
	usedUp := x.usedUpFault()
	switch {
	case usedUp != nil:
		return usedUp
	case x.fault != nil || !x.segments.cutShort:
		return x.fault
	case x.segments.resetByFar != x.pinhole.Active:
		return &verdict.Fault{Code: verdict.CodeDataBroken, Reason: "the server broke it", Err: causeReset}
	}
	return &verdict.Fault{Code: verdict.CodeDataBroken, Reason: "the client broke it", Err: causeReset}
}

// matches reports whether a flow with the same ends is this connection.
func (x *Expectation) matches(f netflow.Flow) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.flow == nil {
		x.setFlow(f)
		return true
	}
	return x.flow.ID == f.ID
}

// arrived records a first packet to the pinhole's port. If translated is false, no rule translated it; for a
// logged one that is unknown.
func (x *Expectation) arrived(from netip.AddrPort, at time.Time, untranslated bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case from.Addr() != x.pinhole.From:
		x.unexpectedPeer = from.Addr()
	case untranslated:
		x.notTranslated(at)
	default:
		x.firstPacket(from, at)
	}
}

// setFlow records the table's entry for a connection that the log has shown. An entry with another far end
// means that the connection was not translated. The caller holds x.mu, as do the callers of the functions
// below.
func (x *Expectation) setFlow(f netflow.Flow) {
	if f.Reply.From == x.pinhole.Target {
		x.flow = &f
		return
	}
	x.notTranslated(x.connected)
}

// addSegment records a segment of the connection. fromFar: the dialled end sent it. It reports whether the
// connection is finished: the segments of a short one are enough.
func (x *Expectation) addSegment(s netflow.Segment, fromFar bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s.RST && !fromFar && !x.attempt.complete && x.segments.isUnknown(s) {
		x.failed = true
	}
	x.segments.add(s, fromFar)
	x.done = x.done || x.completeInLog() || x.failed
	return x.done
}

func (x *Expectation) segmentsClosed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.segments.closed
}

// finished reports whether the connection has ended and all its bytes are known.
func (x *Expectation) finished() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.done = x.done || x.completeInLog()
	return x.done
}

// completeInLog reports whether the segments alone complete the record, before the kernel was asked.
func (x *Expectation) completeInLog() bool {
	return !x.polled && x.segments.closed && x.segments.received.haveFirst
}

// update records the table's entry for the connection, which is the zero flow if there is none, and reports
// whether the connection is finished.
func (x *Expectation) update(f netflow.Flow, now time.Time) (finished bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.flow == nil && f.ID != 0 {
		x.setFlow(f)
	}
	if x.flow == nil {
		return x.updateMissing(now)
	}
	if f.ID != x.flow.ID { // gone; another flow may have its tuple by now
		if !x.flow.Replied && x.flow.Sent.Packets <= 1 {
			x.fault = x.unansweredFault(causeRefused)
		}
		x.done, x.failed = true, x.halfOpen
		return true
	}
	if f.Sent != x.flow.Sent || f.Received != x.flow.Received || x.movedAt.IsZero() {
		x.movedAt = now
	}
	*x.flow, x.polled, x.polledAt = f, true, now
	x.halfOpen = f.State == netflow.TCPSynReceived
	switch {
	case isReset(f) && !x.attempt.complete:
		x.done, x.failed = true, true
	case f.State.Over():
		x.done = x.segments.closed || x.sawClosed
		x.sawClosed = true
	case !f.Replied && !x.released.IsZero() && !x.used: // given up
		x.fault, x.done = x.unansweredFault(causeNoAnswer), true
	case !f.Replied && now.Sub(x.connected) > answerWait:
		waited := now.Sub(x.connected).Round(time.Second)
		x.fault = x.unansweredFault(causeNoAnswer + " for " + waited.String())
	case f.Replied:
		x.fault = nil
	}
	return x.done
}

// updateMissing records that the table has no entry for a connection that the log has shown, and reports
// whether the connection is finished: the log may be late.
func (x *Expectation) updateMissing(now time.Time) (finished bool) {
	switch {
	case x.fault != nil:
	case x.segments.received.haveFirst: // answered, and over
	case x.segments.reset:
		x.fault = x.unansweredFault(causeRefused)
	case now.Sub(x.connected) < PollInterval:
		return false
	default:
		x.notTranslated(x.connected)
	}
	x.done = true
	return true
}

// isReset reports whether the dialling end sent only the first packet and a reset: it does not know the
// connection.
func isReset(f netflow.Flow) bool {
	return f.State == netflow.TCPClose && f.Replied && f.Received.Packets > 0 && f.Sent.Packets <= 2
}

// notTranslated records why a connection of the right peer did not reach the far end, so that it does not
// count as connected. After the end of the pinhole its first packet may be the only one.
func (x *Expectation) notTranslated(at time.Time) {
	if x.fault != nil { // the first fault stays
		return
	}
	x.fault = &verdict.Fault{Code: verdict.CodeGatewayFilter, At: x.pinhole.Listen, Peer: x.pinhole.From,
		Waited: at.Sub(x.opened)}
	closed := !x.released.IsZero() && (x.fault.Waited < synInterval || at.Sub(x.released) > readLag)
	if closed || x.expired(at) {
		x.fault.Code = verdict.CodeClientTooLate
	}
	x.connected = time.Time{}
}

const (
	// synInterval is the shortest time after which TCP repeats a first packet, less the difference of clocks
	// (TCP_TIMEOUT_INIT in include/net/tcp.h is a second).
	synInterval = 900 * time.Millisecond
	// readLag is how long after its arrival a packet may be read from the log.
	readLag = 100 * time.Millisecond
)

// The causes of a connection that the far end answers with a reset, and not at all.
const (
	causeRefused  = "connection refused"
	causeNoAnswer = "no answer to the first packet"
	causeReset    = "connection reset by peer"
)

// unansweredFault returns the fault of a far end that does not accept the connection.
func (x *Expectation) unansweredFault(cause string) *verdict.Fault {
	f := &verdict.Fault{Code: verdict.CodeServerDataUnreachable, At: x.pinhole.Target, Err: cause}
	if x.pinhole.Active {
		f.Code = verdict.CodeClientDataUnreachable
	}
	return f
}
