// Package flows ties the connections that the kernel carries to the sessions that they belong to: data
// connections through the pinholes of proxied sessions, and whole sessions of forwards that the kernel
// tracks by itself. What comes of them it tells the journal.
//
// It decides which flow is whose, and reads the table through an interface; it changes nothing.
package flows

import (
	"iter"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/dnat"
	"ftpgate/internal/journal"
)

// Table is the kernel's table of connections; internal/conntrack has it.
type Table interface {
	// Get appends one flow for each original tuple to flows, the zero flow for one that is gone.
	Get(flows []dnat.Flow, tuples []dnat.Tuple) ([]dnat.Flow, error)
	// Dump yields all flows that are wanted: by their ID, original tuple and that of their master.
	Dump(want func(id uint32, original, master dnat.Tuple) bool) iter.Seq2[dnat.Flow, error]
	// Delete takes a flow out of the table, if it is there.
	Delete(original dnat.Tuple, id uint32) error
	// Payload tells what TCP carried in either direction, in bytes.
	Payload(f dnat.Flow) (sent, received uint64)
}

const (
	// Interval is how often Look is meant to be called.
	Interval = 500 * time.Millisecond
	// controlEvery is how often it looks at control connections that the kernel tracks: they are many, and
	// mostly idle.
	controlEvery = 5 * time.Second
	// lateTime is how long the news of a data connection may be behind the end of its transfer.
	lateTime = time.Second
	// holeTime is how long the kernel keeps a pinhole (pinholeTime in internal/nft).
	holeTime = 25 * time.Second
	// pendingTime is how long segments are kept of a connection that may turn out to be somebody's: the news of both
	// come in different ways. maxPending bounds them; of those above the bytes are the kernel's count.
	pendingTime = time.Second
	maxPending  = 1 << 14
	// silentTime is how long the far end may leave a first packet unanswered before that is told.
	silentTime = 3 * time.Second
)

// Watcher follows flows. Its methods may be called from several goroutines.
type Watcher struct {
	table Table
	book  *journal.Journal

	mu       sync.Mutex
	forwards map[uint16][]dnat.Resolved // that the kernel tracks, by the port they listen at
	awaited  map[netip.AddrPort]*Hole   // by where the connection is to come; those of one place are chained
	running  map[ends]*Hole             // connections that have come
	pending  map[ends]*count            // what has begun and is nobody's so far
	controls map[dnat.Tuple]*control    // of sessions that the kernel tracks
	looked   time.Time                  // when the controls were looked at last
}

// New returns a watcher that knows of nothing yet.
func New(table Table, book *journal.Journal) *Watcher {
	return &Watcher{table: table, book: book, awaited: map[netip.AddrPort]*Hole{}, running: map[ends]*Hole{},
		pending: map[ends]*count{}, controls: map[dnat.Tuple]*control{}, forwards: map[uint16][]dnat.Resolved{}}
}

// Follow tells the watcher which forwards there are from now on. Sessions of others go on.
func (w *Watcher) Follow(forwards []dnat.Resolved) {
	byPort := map[uint16][]dnat.Resolved{}
	for _, f := range forwards {
		if f.Tracking == dnat.TrackingKernel {
			byPort[f.Listen.Port] = append(byPort[f.Listen.Port], f)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forwards = byPort
}

// Wants tells whether a flow that is new may belong to a session.
func (w *Watcher) Wants(_ uint32, original, master dnat.Tuple) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.awaited[original.To] != nil || len(w.forwards[original.To.Port()]) > 0 || w.controls[master] != nil
}

// Handle takes an event. After FlowsMissed it reads the table.
func (w *Watcher) Handle(e dnat.FlowEvent) error {
	switch e.Change {
	case dnat.FlowNew:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.began(e.Flow, e.At)
	case dnat.FlowsMissed:
		return w.Adopt()
	}
	return nil
}

// Adopt reads the whole table, for what there was before the watcher, and for what it has missed.
func (w *Watcher) Adopt() error {
	for f, err := range w.table.Dump(w.Wants) {
		if err != nil {
			return err
		}
		if f.State.Over() {
			continue
		}
		w.mu.Lock()
		w.began(f, time.Now())
		w.mu.Unlock()
	}
	return nil
}

// began takes a flow that is new. It is called with the lock held.
func (w *Watcher) began(f dnat.Flow, at time.Time) {
	if w.knows(f) || w.comes(f, at) {
		return
	}
	if !f.Master.IsZero() {
		if c := w.controls[f.Master]; c != nil {
			w.data(c, f, at)
		}
		return
	}
	for _, forward := range w.forwards[f.Original.To.Port()] {
		if listens(forward, f) {
			w.session(forward, f)
			return
		}
	}
}

// knows tells whether a flow has been taken before: the table and an event may both tell of it.
func (w *Watcher) knows(f dnat.Flow) bool {
	if c := w.controls[f.Original]; c != nil && c.flow.ID == f.ID {
		return true
	}
	h := w.running[endsOf(f.Original.From, f.Reply.From)]
	return h != nil && h.is(f)
}

// comes takes a flow to where a data connection is awaited; false: none is. A flow that the log tells of is not in the
// table yet, and it is not known where it leads: if anywhere, to the far end of the pinhole.
func (w *Watcher) comes(f dnat.Flow, at time.Time) bool {
	logged := f.Reply.IsZero()
	first, from := w.awaited[f.Original.To], f.Original.From
	for h := first; h != nil; h = h.next {
		switch {
		case h.from == from:
			h.again(f, at)
			return true
		case !h.from.IsValid() && h.hole.From == from.Addr() && (logged || translated(f)):
			h.from = from
			h.mu.Lock()
			if h.connected, h.fault = at, nil; !logged {
				h.flow = &f
			}
			h.mu.Unlock()
			w.runs(h)
			return true
		}
	}
	for h := first; h != nil; h = h.next {
		if !h.from.IsValid() {
			h.meets(from.Addr(), at)
		}
	}
	return first != nil
}

// runs follows a connection that has come. It is called with the lock held.
func (w *Watcher) runs(h *Hole) {
	e := h.ends()
	if old := w.running[e]; old != nil { // its end was missed
		old.mu.Lock()
		old.done = true
		old.mu.Unlock()
	}
	w.running[e] = h
	if c := w.pending[e]; c != nil {
		delete(w.pending, e)
		h.mu.Lock()
		h.count = *c
		h.mu.Unlock()
	}
}

// ran no longer follows a connection. It is called with the lock held.
func (w *Watcher) ran(h *Hole) {
	w.forget(h)
	if e := h.ends(); w.running[e] == h {
		delete(w.running, e)
	}
}

// Segment takes a segment with which a connection begins or ends: the first one on its way to where it is addressed to,
// the others between the two ends.
func (w *Watcher) Segment(s dnat.Segment) {
	if over := w.segment(s); over != nil {
		over()
	}
}

// segment returns what is to be called when the segment is the last one of a connection.
func (w *Watcher) segment(s dnat.Segment) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.SYN && !s.ACK {
		w.comes(dnat.Flow{Original: dnat.Tuple{From: s.From, To: s.To}}, s.At)
		return nil
	}
	there := endsOf(s.From, s.To)
	back := there.turned()
	h, returned := w.running[back], true
	if h == nil && !s.SYN {
		h, returned = w.running[there], false
	}
	if h != nil && !(s.SYN && h.closed()) { // else the port serves again
		if s.SYN {
			w.forget(h)
		}
		if h.take(s, returned) {
			w.ran(h)
			return h.over
		}
		return nil
	}
	if s.SYN && len(w.pending) < maxPending {
		delete(w.running, back)
		w.pending[back] = &count{begun: s.At}
	}
	if c := w.pending[back]; c != nil {
		c.take(s, true)
	} else if c := w.pending[there]; c != nil {
		c.take(s, false)
	}
	return nil
}

// dropPending forgets what has turned out to be nobody's.
func (w *Watcher) dropPending(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for e, c := range w.pending {
		if now.Sub(c.begun) > pendingTime {
			delete(w.pending, e)
		}
	}
}

// translated tells whether a flow is led elsewhere than it was addressed to.
func translated(f dnat.Flow) bool { return f.Reply.From != f.Original.To }

// listens tells whether a flow is a control connection to a forward.
func listens(f dnat.Resolved, flow dnat.Flow) bool {
	to := flow.Original.To
	if f.Listen.Port != to.Port() || f.Listen.Addr.IsValid() && f.Listen.Addr != to.Addr() {
		return false
	}
	server := flow.Reply.From
	return server.Port() == f.Server.Port && (server.Addr() == f.Server4 || server.Addr() == f.Server6)
}

// Look asks the table how far the connections are that run, and tells the journal.
func (w *Watcher) Look(now time.Time) error {
	w.dropLate(now)
	w.dropPending(now)
	err := w.lookAtData(now)
	if err == nil {
		err = w.lookAtControls(now)
	}
	w.book.Settle(now)
	return err
}

// lookAtData brings what is known of data connections up to date.
func (w *Watcher) lookAtData(now time.Time) error {
	w.mu.Lock()
	tuples := make([]dnat.Tuple, 0, len(w.running))
	holes := make([]*Hole, 0, len(w.running))
	var over []*Hole // before the kernel was asked for them once
	for _, h := range w.running {
		if h.ended() {
			over = append(over, h)
			continue
		}
		tuples, holes = append(tuples, h.tuple()), append(holes, h)
	}
	w.mu.Unlock()
	for _, h := range over {
		w.ended(h)
	}
	if len(tuples) == 0 {
		return nil
	}
	found, err := w.table.Get(make([]dnat.Flow, 0, len(tuples)), tuples)
	if err != nil {
		return err
	}
	for i, h := range holes {
		if h.look(found[i], now) {
			w.ended(h)
		}
	}
	return nil
}

// ended tells that nothing more comes of a hole.
func (w *Watcher) ended(h *Hole) {
	w.mu.Lock()
	w.ran(h)
	w.mu.Unlock()
	if h.over != nil {
		h.over()
	}
}

// dropLate forgets the holes that were closed so long ago that nothing is to come of them.
func (w *Watcher) dropLate(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, first := range w.awaited {
		for h, next := first, (*Hole)(nil); h != nil; h = next {
			next = h.next
			h.mu.Lock()
			if h.released && h.since.IsZero() {
				h.since = now
			}
			late := h.released && !h.from.IsValid() && now.Sub(h.since) >= lateTime
			h.done = h.done || late
			h.mu.Unlock()
			if late {
				w.forget(h)
			}
		}
	}
}

// forget no longer awaits a hole's connection. It is called with the lock held.
func (w *Watcher) forget(h *Hole) {
	if !h.chained {
		return
	}
	h.chained = false
	at := h.hole.At
	first := w.awaited[at]
	if first == h {
		first = h.next
	}
	for other := first; other != nil; other = other.next {
		if other.next == h {
			other.next = h.next
		}
	}
	h.next = nil
	if first == nil {
		delete(w.awaited, at)
		return
	}
	w.awaited[at] = first
}
