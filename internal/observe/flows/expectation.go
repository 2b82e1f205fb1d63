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
	peer     netip.AddrPort // who has connected; invalid: nobody
	expected bool           // it is in watcher.expected
	searched bool           // the table was searched for its connection
	older    *Expectation   // the next older expectation of the same target

	mu             sync.Mutex
	connected      time.Time     // zero: not yet
	unexpectedPeer netip.Addr    // the last other address that has tried; invalid: none
	flow           *netflow.Flow // its last state in the table; nil: only the log has shown the connection
	segments       byteCount     // what the logged segments say
	polled         bool          // update has found it in the table
	polledAt       time.Time     // when it did so last
	movedAt        time.Time     // when it first found the packets that it found last
	sawClosed      bool          // when it was polled last it was closed; its last segments may still arrive
	released       time.Time     // when the pinhole was closed; zero: it is open
	used           bool          // a connection has used the pinhole
	unseenSince    time.Time     // when a poll first found it released, and no connection was seen
	done           bool          // nothing more is expected
	fault          *verdict.Fault
	severed        bool // the gateway has ended the connection
}

// Expect announces the connection of a pinhole. Call it before the pinhole is open in the kernel, and
// Release the expectation when the pinhole is closed.
func (w *Watcher) Expect(hole pinhole.Pinhole) *Expectation {
	x := &Expectation{watcher: w, pinhole: hole, opened: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expectedPorts[hole.Listen.Port()]++
	x.expected, x.older = true, w.expected[hole.Target]
	w.expected[hole.Target] = x
	return x
}

// Release says that the pinhole is closed. used: its transfer is over, so that somebody has connected. A
// connection through it is followed to its end.
func (x *Expectation) Release(used bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.released, x.used = time.Now(), used
}

// wasUsed reports whether a connection has used the pinhole, even if nothing has shown it yet.
func (x *Expectation) wasUsed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.used
}

// quietTime is how long no packet must pass before a connection with a closed direction counts as delivered:
// the table shows that the sender has closed it, and not whether the receiver has acknowledged all of it.
// What is lost is sent again sooner.
const quietTime = 3 * time.Second

// delivered reports whether nothing more is to come: the transfer is over, the end that sends its data has
// closed its direction (RFC 959 section 3.3: data goes in one), and nothing has passed since. If the table
// counts nothing, nobody knows.
func (x *Expectation) delivered() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
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

// connectedTuple returns the tuple of the connection. Its From is invalid if nobody has connected.
func (x *Expectation) connectedTuple() netflow.Tuple {
	x.watcher.mu.Lock()
	defer x.watcher.mu.Unlock()
	return x.tuple()
}

// tuple is connectedTuple for a caller that holds the watcher's lock.
func (x *Expectation) tuple() netflow.Tuple { return netflow.Tuple{From: x.peer, To: x.pinhole.Listen} }

// endpoints returns both ends of the connection. The caller holds the watcher's lock.
func (x *Expectation) endpoints() endpoints { return endpointsOf(x.peer, x.pinhole.Target) }

// Outcome returns what has become of the connection until the last poll or segment.
func (x *Expectation) Outcome() pinhole.Outcome {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := pinhole.KernelOutcome()
	o.Counted, o.Connected, o.UnexpectedPeer, o.Over = true, x.connected, x.unexpectedPeer, x.done
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

// faultSoFar returns what went wrong with the connection; nil: nothing so far. The caller holds x.mu.
func (x *Expectation) faultSoFar() *verdict.Fault {
	switch {
	case x.fault != nil || !x.segments.cutShort:
		return x.fault
	case x.segments.resetByFar != x.pinhole.Active:
		return &verdict.Fault{Code: verdict.CodeDataBroken, Said: "the server broke it", Err: causeReset}
	}
	return &verdict.Fault{Code: verdict.CodeDataBroken, Said: "the client broke it", Err: causeReset}
}

// Sever ends the connection. It deletes its entry from the table: as a pinhole serves no second packet, the
// next packet of either end reaches the gateway itself, which answers with a reset.
func (x *Expectation) Sever() {
	w, now := x.watcher, time.Now()
	t := x.connectedTuple()
	if !t.From.IsValid() { // the log may be late
		if found, err := w.table.Find(x.pinhole.From, x.pinhole.Listen); err == nil {
			w.onSearched(x, found, now)
		}
		if t = x.connectedTuple(); !t.From.IsValid() {
			return
		}
	}
	if found, err := w.table.Get(nil, []netflow.Tuple{t}); err == nil {
		x.update(found[0], now) // what it has carried until now
	}
	x.mu.Lock()
	id, listed := uint32(0), x.flow != nil
	if listed {
		id = x.flow.ID
	}
	x.mu.Unlock()
	if listed {
		x.sever()
		_ = w.table.Delete(t, id) // after an error it ends by itself: there is nothing else to do
	}
}

// sever notes that the gateway ends the connection.
func (x *Expectation) sever() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.done && !x.segments.closed && !x.flow.State.Over() {
		x.severed = true
	}
}

var errSevered = errors.New("the gateway has ended the data connection")

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

// unmatched records a first packet that came to the pinhole and was not translated.
func (x *Expectation) unmatched(from netip.Addr, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if from == x.pinhole.From {
		x.notTranslated(at)
		return
	}
	x.unexpectedPeer = from
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

// addSegment records a segment of the connection. fromFar: the end that was dialled has sent it. It reports
// whether the connection is finished: the segments of a short one say everything.
func (x *Expectation) addSegment(s netflow.Segment, fromFar bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.segments.add(s, fromFar)
	x.done = x.done || x.completeInLog()
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

// completeInLog reports whether the segments say everything, before the kernel was asked once.
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
		x.done = true
		return true
	}
	if f.Sent != x.flow.Sent || f.Received != x.flow.Received || x.movedAt.IsZero() {
		x.movedAt = now
	}
	*x.flow, x.polled, x.polledAt = f, true, now
	switch {
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

// notTranslated records why a connection of the right peer did not reach the far end, so that it does not
// count as connected. A pinhole serves one first packet: if a second one arrives while it is open, a filter
// of the gateway has dropped the first. Behind its end the first packet may be the only one.
func (x *Expectation) notTranslated(at time.Time) {
	if x.fault != nil { // the first fault stays
		return
	}
	x.fault = &verdict.Fault{Code: verdict.CodeGatewayFilter, At: x.pinhole.Listen, Peer: x.pinhole.From,
		Waited: at.Sub(x.opened)}
	closed := !x.released.IsZero() && (x.fault.Waited < synInterval || at.Sub(x.released) > readLag)
	if closed || x.fault.Waited >= pinhole.Lifetime {
		x.fault.Code = verdict.CodeClientTooLate
	}
	x.connected = time.Time{}
}

const (
	// synInterval is the shortest time after which TCP repeats a first packet, less what clocks differ
	// (TCP_TIMEOUT_INIT in include/net/tcp.h is a second).
	synInterval = 900 * time.Millisecond
	// readLag is how long after its arrival a packet may be read from the log.
	readLag = 100 * time.Millisecond
)

// The causes of a connection that the far end answers with a reset, and with nothing.
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
