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

// Hole is a data connection that is awaited, or has come. It is its own meter (journal.Meter).
type Hole struct {
	watcher *Watcher
	hole    pinhole.Pinhole
	opened  time.Time
	over    func() // called once, when nothing more comes of it; nil: nobody asks

	// The watcher's, under its lock.
	from     netip.AddrPort // who has come; not valid: nobody
	waits    bool           // it is among those that are awaited
	searched bool           // the table was searched for it
	next     *Hole          // an older one that leads to the same place, and is awaited as well

	mu        sync.Mutex
	connected time.Time // zero: it has not come
	stranger  netip.Addr
	flow      *netflow.Flow // as it was seen in the kernel's table last; nil: the log alone has told of it
	count     count         // what its segments say
	asked     bool          // the kernel was asked for it
	ending    bool          // it was over then, and its last segments may be under way
	released  bool          // nothing new may come
	used      bool          // something has
	since     time.Time     // when that was seen
	done      bool
	fault     *verdict.Fault
}

// Await has the watcher look out for the connection of a pinhole, from before the kernel lets it come. The
// caller releases it.
func (w *Watcher) Await(hole pinhole.Pinhole) *Hole {
	h := &Hole{watcher: w, hole: hole, opened: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ports[hole.Listen.Port()]++
	h.waits, h.next = true, w.awaited[hole.Target]
	w.awaited[hole.Target] = h
	return h
}

// Release tells that the pinhole is closed; used: its transfer is over, and so somebody has come. What has come through it
// is followed to its end.
func (h *Hole) Release(used bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released, h.used = true, used
}

// wasUsed tells whether a connection has come, though it was not heard of.
func (h *Hole) wasUsed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.used
}

// idle tells of a hole of which nothing was heard whether the table is to be searched for its connection, and whether
// nothing more comes of it. It is asked until then.
func (h *Hole) idle(now time.Time) (search, late bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.released {
		return false, false
	}
	if h.since.IsZero() {
		h.since = now
	}
	told := h.used || h.searched || h.fault != nil || h.stranger.IsValid()
	waited := now.Sub(h.since)
	late = waited >= searchTime || told && waited >= lateTime
	h.done = h.done || late
	return !told, late
}

// givenUp tells whether the hole is closed; then nobody has come.
func (h *Hole) givenUp() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = h.done || h.released
	return h.released
}

// silent tells that a connection has come that the far end did not answer.
func (h *Hole) silent() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault, h.done = h.unanswered(noAnswer), true
}

// came is the tuple of the connection that has come; not valid: none has.
func (h *Hole) came() netflow.Tuple {
	h.watcher.mu.Lock()
	defer h.watcher.mu.Unlock()
	return h.tuple()
}

// tuple is that of the connection that has come.
func (h *Hole) tuple() netflow.Tuple { return netflow.Tuple{From: h.from, To: h.hole.Listen} }

// ends are those of the connection that has come, whatever is translated between them.
func (h *Hole) ends() ends { return endsOf(h.from, h.hole.Target) }

// Progress tells how far the connection was at the last look.
func (h *Hole) Progress() sessions.Progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := sessions.Progress{Connected: h.connected, Stranger: h.stranger, Over: h.done, Fault: h.fault}
	var sent, received uint64
	if h.flow != nil {
		sent, received = h.watcher.table.Payload(*h.flow)
	}
	sent, received = h.count.bytes(sent, received)
	p.Up, p.Down = int64(sent), int64(received)
	if h.hole.Active { // the server has begun
		p.Up, p.Down = p.Down, p.Up
	}
	return p
}

// Sever ends the connection that has come: without its entry in the table, and with a pinhole that serves no other
// packet, what either end sends comes to the gateway itself, which answers with a reset.
func (h *Hole) Sever() {
	w, now := h.watcher, time.Now()
	t := h.came()
	if !t.From.IsValid() { // the log may be behind
		if found, err := w.table.Find(h.hole.From, h.hole.Listen); err == nil {
			w.found(h, found, now)
		}
		if t = h.came(); !t.From.IsValid() {
			return
		}
	}
	if found, err := w.table.Get(nil, []netflow.Tuple{t}); err == nil {
		h.look(found[0], now) // what it has carried until now
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

// is tells whether a flow of the same tuple is that of the connection.
func (h *Hole) is(f netflow.Flow) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flow == nil {
		h.enters(f)
		return true
	}
	return h.flow.ID == f.ID
}

// meets takes somebody who has come, and is not led on.
func (h *Hole) meets(who netip.Addr, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if who == h.hole.From {
		h.unled(at)
		return
	}
	h.stranger = who
}

// enters takes the flow of a connection that the log has told of. What the table has in its place was not led to the
// far end.
func (h *Hole) enters(f netflow.Flow) {
	if f.Reply.From == h.hole.Target {
		h.flow = &f
		return
	}
	h.unled(h.connected)
}

// take takes a segment of the connection, and tells whether nothing more comes: it was so short that its segments say
// everything.
func (h *Hole) take(s netflow.Segment, back bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count.take(s, back)
	h.done = h.done || h.short()
	return h.done
}

// closed tells whether segments have ended the connection.
func (h *Hole) closed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count.over
}

// ended tells whether the connection is over, and nothing more comes.
func (h *Hole) ended() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = h.done || h.short()
	return h.done
}

// short tells whether the connection is over before the kernel was asked for it once.
func (h *Hole) short() bool { return !h.asked && h.count.over && h.count.received.began }

// look takes the flow as it is now, the zero flow where it is gone, and tells whether nothing more comes.
func (h *Hole) look(f netflow.Flow, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flow == nil && f.ID != 0 {
		h.enters(f)
	}
	if h.flow == nil {
		return h.missing(now)
	}
	if f.ID != h.flow.ID { // gone, and the tuple may be somebody else's by now
		if !h.flow.Replied && h.flow.Sent.Packets <= 1 {
			h.fault = h.unanswered(refused)
		}
		h.done = true
		return true
	}
	*h.flow, h.asked = f, true
	switch {
	case f.State.Over():
		h.done = h.count.over || h.ending
		h.ending = true
	case !f.Replied && h.released && !h.used: // given up
		h.fault, h.done = h.unanswered(noAnswer), true
	case !f.Replied && now.Sub(h.connected) > silentTime:
		h.fault = h.unanswered(noAnswer + " for " + now.Sub(h.connected).Round(time.Second).String())
	case f.Replied:
		h.fault = nil
	}
	return h.done
}

// missing says what has become of a connection that the log has told of, and the table does not have; false: nothing
// so far, as the log may be behind.
func (h *Hole) missing(now time.Time) bool {
	switch {
	case h.fault != nil:
	case h.count.received.began: // and it is over
	case h.count.reset:
		h.fault = h.unanswered(refused)
	case now.Sub(h.connected) < Interval:
		return false
	default:
		h.unled(h.connected)
	}
	h.done = true
	return true
}

// unled says why a connection of the right peer was not led to the far end, and so has not come. A pinhole serves one
// first packet: a second one comes where a filter of the gateway's own has dropped the first.
func (h *Hole) unled(at time.Time) {
	if h.fault != nil { // it was told already
		return
	}
	h.fault = &verdict.Fault{Code: verdict.CodeFiltered, At: h.hole.Listen, Peer: h.hole.From, Waited: at.Sub(h.opened)}
	if h.fault.Waited >= holeTime {
		h.fault.Code = verdict.CodeTooLate
	}
	h.connected = time.Time{}
}

// How dials end that are answered with a reset, and with nothing.
const (
	refused  = "connection refused"
	noAnswer = "no answer to the first packet"
)

// unanswered says that the far end does not take the connection.
func (h *Hole) unanswered(how string) *verdict.Fault {
	f := &verdict.Fault{Code: verdict.CodeServerData, At: h.hole.Target, Err: how}
	if h.hole.Active {
		f.Code = verdict.CodeClientData
	}
	return f
}
