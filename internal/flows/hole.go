package flows

import (
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/dnat"
	"ftpgate/internal/journal"
)

// Hole is a data connection that is awaited, or has come. It is its own meter (journal.Meter).
type Hole struct {
	watcher *Watcher
	hole    dnat.Pinhole
	opened  time.Time
	over    func() // called once, when nothing more comes of it; nil: nobody asks

	mu        sync.Mutex
	connected time.Time // zero: it has not come
	stranger  netip.Addr
	flow      dnat.Flow // as it was seen last
	count     count     // what its segments say
	seen      time.Time
	asked     bool      // the kernel was asked for it
	ending    bool      // it was over then, and its last segments may be under way
	released  time.Time // nothing new may come; zero: it may
	done      bool
	fault     *journal.Fault
}

// Await has the watcher look out for the connection of a pinhole, from before the kernel lets it come. The
// caller releases it.
func (w *Watcher) Await(hole dnat.Pinhole) *Hole {
	h := &Hole{watcher: w, hole: hole, opened: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, old := range w.awaited[hole.At] {
		if old.hole.From == hole.From { // the port is drawn again: what comes is the new one's
			w.forget(old)
			old.mu.Lock()
			old.done = true
			old.mu.Unlock()
			break
		}
	}
	w.awaited[hole.At] = append(w.awaited[hole.At], h)
	return h
}

// Release tells that the pinhole is closed. What has come through it is followed to its end.
func (h *Hole) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released.IsZero() {
		h.released = time.Now()
	}
}

// Progress tells how far the connection was at the last look.
func (h *Hole) Progress() journal.Progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := journal.Progress{Connected: h.connected, Stranger: h.stranger, Over: h.done, Fault: h.fault}
	sent, received := h.count.bytes(h.watcher.table.Payload(h.flow))
	p.Up, p.Down = int64(sent), int64(received)
	if h.hole.Active { // the server has begun
		p.Up, p.Down = p.Down, p.Up
	}
	return p
}

// Sever ends the connection that has come: without its entry in the table, and with a pinhole that serves no other
// packet, what either end sends comes to the gateway itself, which answers with a reset.
func (h *Hole) Sever() {
	h.mu.Lock()
	flow := h.flow
	h.mu.Unlock()
	if flow.ID == 0 {
		return
	}
	if found, err := h.watcher.table.Get(nil, []dnat.Tuple{flow.Original}); err == nil {
		h.look(found[0], time.Now()) // what it has carried until now
	}
	_ = h.watcher.table.Delete(flow.Original, flow.ID) // else it ends by itself: nobody can do more
}

// take takes a segment of the connection.
func (h *Hole) take(s dnat.Segment, back bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count.take(s, back)
}

// ended tells whether segments have ended the connection.
func (h *Hole) ended() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count.over
}

// short tells whether the connection is over, and was so short that its segments say everything. Then it is.
func (h *Hole) short() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = h.done || !h.asked && h.count.over && h.count.received.began
	return h.done
}

// look takes the flow as it is now, the zero flow where it is gone, and tells whether nothing more comes.
func (h *Hole) look(f dnat.Flow, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.ID != h.flow.ID { // gone, and the tuple may be somebody else's by now
		if !h.flow.Replied && h.flow.Sent.Packets <= 1 {
			h.fault = h.unanswered("connection refused")
		}
		h.done = true
		return true
	}
	h.flow, h.seen, h.asked = f, now, true
	switch {
	case f.State.Over():
		h.done = h.count.over || h.ending
		h.ending = true
	case !f.Replied && now.Sub(h.connected) > silentTime:
		h.fault = h.unanswered("no answer to the first packet for " + now.Sub(h.connected).Round(time.Second).String())
	case f.Replied:
		h.fault = nil
	}
	return h.done
}

// unled says why a connection of the right peer was not led to the far end. A pinhole serves one first packet:
// a second one comes where a filter of the gateway's own has dropped the first.
func (h *Hole) unled(at time.Time) *journal.Fault {
	f := &journal.Fault{Code: journal.CodeFiltered, At: h.hole.At, Peer: h.hole.From, Waited: at.Sub(h.opened)}
	if f.Waited >= holeTime {
		f.Code = journal.CodeTooLate
	}
	return f
}

// unanswered says that the far end does not take the connection.
func (h *Hole) unanswered(how string) *journal.Fault {
	f := &journal.Fault{Code: journal.CodeServerData, At: h.hole.To, Err: how}
	if h.hole.Active {
		f.Code = journal.CodeClientData
	}
	return f
}
