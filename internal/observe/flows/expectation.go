package flows

import (
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// Expectation is a data connection that is awaited, or has come. It is its own meter (journal.Meter).
type Expectation struct {
	watcher *Watcher
	pinhole pinhole.Pinhole
	opened  time.Time
	onEnd   func() // called once, when nothing more comes of it; nil: nobody asks

	// The watcher's, under its lock.
	peer     netip.AddrPort // who has come; not valid: nobody
	expected bool           // it is among those that are awaited
	searched bool           // the table was searched for it
	older    *Expectation   // an older one that leads to the same place, and is awaited as well

	mu          sync.Mutex
	connected   time.Time // zero: it has not come
	stranger    netip.Addr
	flow        *netflow.Flow // as it was seen in the kernel's table last; nil: the log alone has told of it
	segments    byteCount     // what its segments say
	polled      bool          // the kernel was asked for it
	sawClosed   bool          // it was over then, and its last segments may be under way
	released    bool          // nothing new may come
	used        bool          // something has
	unseenSince time.Time     // when that was seen
	done        bool
	fault       *verdict.Fault
}

// Expect has the watcher look out for the connection of a pinhole, from before the kernel lets it come. The
// caller releases it.
func (w *Watcher) Expect(hole pinhole.Pinhole) *Expectation {
	h := &Expectation{watcher: w, pinhole: hole, opened: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expectedPorts[hole.At.Port()]++
	h.expected, h.older = true, w.expected[hole.To]
	w.expected[hole.To] = h
	return h
}

// Release tells that the pinhole is closed; used: its transfer is over, and so somebody has come. What has come through it
// is followed to its end.
func (h *Expectation) Release(used bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released, h.used = true, used
}

// wasUsed tells whether a connection has come, though it was not heard of.
func (h *Expectation) wasUsed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.used
}

// searchOrExpire tells of a hole of which nothing was heard whether the table is to be searched for its connection, and whether
// nothing more comes of it. It is asked until then.
func (h *Expectation) searchOrExpire(now time.Time) (search, late bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.released {
		return false, false
	}
	if h.unseenSince.IsZero() {
		h.unseenSince = now
	}
	told := h.used || h.searched || h.fault != nil || h.stranger.IsValid()
	waited := now.Sub(h.unseenSince)
	late = waited >= searchWait || told && waited >= eventLag
	h.done = h.done || late
	return !told, late
}

// finishIfReleased tells whether the hole is closed; then nobody has come.
func (h *Expectation) finishIfReleased() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = h.done || h.released
	return h.released
}

// finishUnanswered tells that a connection has come that the far end did not answer.
func (h *Expectation) finishUnanswered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault, h.done = h.unansweredFault(causeNoAnswer), true
}

// connectedTuple is the tuple of the connection that has come; not valid: none has.
func (h *Expectation) connectedTuple() netflow.Tuple {
	h.watcher.mu.Lock()
	defer h.watcher.mu.Unlock()
	return h.tuple()
}

// tuple is that of the connection that has come.
func (h *Expectation) tuple() netflow.Tuple { return netflow.Tuple{From: h.peer, To: h.pinhole.At} }

// endpoints are those of the connection that has come, whatever is translated between them.
func (h *Expectation) endpoints() endpoints { return endpointsOf(h.peer, h.pinhole.To) }

// Progress tells how far the connection was at the last look.
func (h *Expectation) Progress() sessions.Progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := sessions.Progress{Connected: h.connected, Stranger: h.stranger, Over: h.done, Fault: h.fault}
	var sent, received uint64
	if h.flow != nil {
		sent, received = h.watcher.table.Payload(*h.flow)
	}
	sent, received = h.segments.bytes(sent, received)
	p.Up, p.Down = int64(sent), int64(received)
	if h.pinhole.Active { // the server has begun
		p.Up, p.Down = p.Down, p.Up
	}
	return p
}

// Sever ends the connection that has come: without its entry in the table, and with a pinhole that serves no other
// packet, what either end sends comes to the gateway itself, which answers with a reset.
func (h *Expectation) Sever() {
	w, now := h.watcher, time.Now()
	t := h.connectedTuple()
	if !t.From.IsValid() { // the log may be behind
		if found, err := w.table.Find(h.pinhole.From, h.pinhole.At); err == nil {
			w.onSearched(h, found, now)
		}
		if t = h.connectedTuple(); !t.From.IsValid() {
			return
		}
	}
	if found, err := w.table.Get(nil, []netflow.Tuple{t}); err == nil {
		h.update(found[0], now) // what it has carried until now
	}
	h.mu.Lock()
	id, listed := uint32(0), h.flow != nil
	if listed {
		id = h.flow.ID
	}
	h.mu.Unlock()
	if listed {
		_ = h.watcher.table.Delete(t, id) // else it ends by itself: nobody can do more
	}
}

// matches tells whether a flow of the same tuple is that of the connection.
func (h *Expectation) matches(f netflow.Flow) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flow == nil {
		h.setFlow(f)
		return true
	}
	return h.flow.ID == f.ID
}

// unmatched takes somebody who has come, and is not led on.
func (h *Expectation) unmatched(who netip.Addr, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if who == h.pinhole.From {
		h.notTranslated(at)
		return
	}
	h.stranger = who
}

// setFlow takes the flow of a connection that the log has told of. What the table has in its place was not led to the
// far end.
func (h *Expectation) setFlow(f netflow.Flow) {
	if f.Reply.From == h.pinhole.To {
		h.flow = &f
		return
	}
	h.notTranslated(h.connected)
}

// addSegment takes a segment of the connection, and tells whether nothing more comes: it was so short that its segments say
// everything.
func (h *Expectation) addSegment(s netflow.Segment, back bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.segments.add(s, back)
	h.done = h.done || h.completeInLog()
	return h.done
}

// segmentsClosed tells whether segments have ended the connection.
func (h *Expectation) segmentsClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.segments.closed
}

// finished tells whether the connection is over, and nothing more comes.
func (h *Expectation) finished() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = h.done || h.completeInLog()
	return h.done
}

// completeInLog tells whether the connection is over before the kernel was asked for it once.
func (h *Expectation) completeInLog() bool {
	return !h.polled && h.segments.closed && h.segments.received.haveFirst
}

// update takes the flow as it is now, the zero flow where it is gone, and tells whether nothing more comes.
func (h *Expectation) update(f netflow.Flow, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flow == nil && f.ID != 0 {
		h.setFlow(f)
	}
	if h.flow == nil {
		return h.updateMissing(now)
	}
	if f.ID != h.flow.ID { // gone, and the tuple may be somebody else's by now
		if !h.flow.Replied && h.flow.Sent.Packets <= 1 {
			h.fault = h.unansweredFault(causeRefused)
		}
		h.done = true
		return true
	}
	*h.flow, h.polled = f, true
	switch {
	case f.State.Over():
		h.done = h.segments.closed || h.sawClosed
		h.sawClosed = true
	case !f.Replied && h.released && !h.used: // given up
		h.fault, h.done = h.unansweredFault(causeNoAnswer), true
	case !f.Replied && now.Sub(h.connected) > answerWait:
		h.fault = h.unansweredFault(causeNoAnswer + " for " + now.Sub(h.connected).Round(time.Second).String())
	case f.Replied:
		h.fault = nil
	}
	return h.done
}

// updateMissing says what has become of a connection that the log has told of, and the table does not have; false: nothing
// so far, as the log may be behind.
func (h *Expectation) updateMissing(now time.Time) bool {
	switch {
	case h.fault != nil:
	case h.segments.received.haveFirst: // and it is over
	case h.segments.reset:
		h.fault = h.unansweredFault(causeRefused)
	case now.Sub(h.connected) < PollInterval:
		return false
	default:
		h.notTranslated(h.connected)
	}
	h.done = true
	return true
}

// notTranslated says why a connection of the right peer was not led to the far end, and so has not come. A pinhole serves one
// first packet: a second one comes where a filter of the gateway's own has dropped the first.
func (h *Expectation) notTranslated(at time.Time) {
	if h.fault != nil { // it was told already
		return
	}
	h.fault = &verdict.Fault{Code: verdict.CodeFiltered, At: h.pinhole.At, Peer: h.pinhole.From, Waited: at.Sub(h.opened)}
	if h.fault.Waited >= pinholeLifetime {
		h.fault.Code = verdict.CodeTooLate
	}
	h.connected = time.Time{}
}

// How dials end that are answered with a reset, and with nothing.
const (
	causeRefused  = "connection refused"
	causeNoAnswer = "no answer to the first packet"
)

// unansweredFault says that the far end does not take the connection.
func (h *Expectation) unansweredFault(how string) *verdict.Fault {
	f := &verdict.Fault{Code: verdict.CodeServerData, At: h.pinhole.To, Err: how}
	if h.pinhole.Active {
		f.Code = verdict.CodeClientData
	}
	return f
}
