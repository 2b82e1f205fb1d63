// Package flows ties the connections that the kernel carries to the sessions that they belong to: data
// connections through the pinholes of proxied sessions, and whole sessions of forwards that the kernel
// tracks by itself. What comes of them it tells the journal.
//
// It decides which flow is whose, and reads the table through an interface; it changes nothing.
package flows

import (
	"errors"
	"iter"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/observe/sessions"
)

// Table is the kernel's table of connections; internal/conntrack has it.
type Table interface {
	// Get appends one flow for each original tuple to flows, the zero flow for one that is gone.
	Get(flows []netflow.Flow, tuples []netflow.Tuple) ([]netflow.Flow, error)
	// Dump yields all flows that are wanted: by their ID, original tuple and that of their master.
	Dump(want func(id uint32, original, master netflow.Tuple) bool) iter.Seq2[netflow.Flow, error]
	// Find returns the flows that began from an address and were addressed to a place.
	Find(from netip.Addr, to netip.AddrPort) ([]netflow.Flow, error)
	// Delete takes a flow out of the table, if it is there.
	Delete(original netflow.Tuple, id uint32) error
	// Payload tells what TCP carried in either direction, in bytes.
	Payload(f netflow.Flow) (sent, received uint64)
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
	// searches is how many holes the table is searched for in one look: it takes the kernel milliseconds. searchTime is
	// how long a hole waits for that.
	searches   = 4
	searchTime = 3 * time.Second
	// silentTime is how long the far end may leave a first packet unanswered before that is told.
	silentTime = 3 * time.Second
)

// Watcher follows flows. Its methods may be called from several goroutines.
type Watcher struct {
	table Table
	book  *sessions.Journal

	mu       sync.Mutex
	forwards map[uint16][]forward.Resolved // that the kernel tracks, by the port they listen at
	awaited  map[netip.AddrPort]*Hole      // by where the connection leads to; those that lead to one place are chained
	ports    []uint32                      // how many of them are at each port of the gateway
	running  map[ends]*Hole                // connections that have come
	pending  map[ends]*count               // what has begun and is nobody's so far
	controls map[netflow.Tuple]*control    // of sessions that the kernel tracks
	looked   time.Time                     // when the controls were looked at last
}

// New returns a watcher that knows of nothing yet.
func New(table Table, book *sessions.Journal) *Watcher {
	return &Watcher{table: table, book: book, awaited: map[netip.AddrPort]*Hole{}, ports: make([]uint32, 1<<16), running: map[ends]*Hole{},
		pending: map[ends]*count{}, controls: map[netflow.Tuple]*control{}, forwards: map[uint16][]forward.Resolved{}}
}

// Follow tells the watcher which forwards there are from now on. Sessions of others go on.
func (w *Watcher) Follow(forwards []forward.Resolved) {
	byPort := map[uint16][]forward.Resolved{}
	for _, f := range forwards {
		if f.Tracking == forward.TrackingKernel {
			byPort[f.Listen.Port] = append(byPort[f.Listen.Port], f)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forwards = byPort
}

// Wants tells whether a flow that is new may belong to a session.
func (w *Watcher) Wants(_ uint32, original, master netflow.Tuple) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ports[original.To.Port()] > 0 || len(w.forwards[original.To.Port()]) > 0 || w.controls[master] != nil
}

// Handle takes an event. After FlowsMissed it reads the table.
func (w *Watcher) Handle(e netflow.FlowEvent) error {
	switch e.Change {
	case netflow.FlowNew:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.began(e.Flow, e.At)
	case netflow.FlowsMissed:
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
func (w *Watcher) began(f netflow.Flow, at time.Time) {
	if w.knows(f) {
		return
	}
	if !translated(f) {
		w.strays(f.Original.From, f.Original.To, at)
	} else if h := w.led(f.Original.From, f.Reply.From, f.Original.To); h != nil {
		w.comes(h, f.Original.From, at, &f)
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
func (w *Watcher) knows(f netflow.Flow) bool {
	if c := w.controls[f.Original]; c != nil && c.flow.ID == f.ID {
		return true
	}
	h := w.running[endsOf(f.Original.From, f.Reply.From)]
	return h != nil && h.is(f)
}

// led returns the hole that a connection has come through; nil: none. place is where it came to; not valid: nobody knows.
// Then the last one that leads to this end is meant, unless one before it has been used, and nobody has heard of that yet.
func (w *Watcher) led(from, to, place netip.AddrPort) (found *Hole) {
	for h := w.awaited[to]; h != nil; h = h.next {
		if h.hole.From != from.Addr() || place.IsValid() && place != h.hole.Listen {
			continue
		}
		if found == nil || h.wasUsed() {
			found = h
		}
	}
	return found
}

// comes takes a connection that has come through a hole; flow is it in the kernel's table; nil: the log has told of it.
func (w *Watcher) comes(h *Hole, from netip.AddrPort, at time.Time, flow *netflow.Flow) {
	w.forget(h)
	h.from = from
	h.mu.Lock()
	h.connected, h.flow, h.fault = at, flow, nil
	h.mu.Unlock()
	w.runs(h)
}

// strays tells those who await a connection at a place of one that has come there and was not led on; false: nobody does.
func (w *Watcher) strays(from, place netip.AddrPort, at time.Time) (told bool) {
	if w.ports[place.Port()] == 0 {
		return false
	}
	for _, first := range w.awaited {
		for h := first; h != nil; h = h.next {
			if h.hole.Listen == place {
				h.meets(from.Addr(), at)
				told = true
			}
		}
	}
	return told
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
	if e := h.ends(); w.running[e] == h {
		delete(w.running, e)
	}
}

// translated tells whether a flow is led elsewhere than it was addressed to.
func translated(f netflow.Flow) bool { return f.Reply.From != f.Original.To }

// listens tells whether a flow is a control connection to a forward.
func listens(f forward.Resolved, flow netflow.Flow) bool {
	to := flow.Original.To
	if f.Listen.Port != to.Port() || f.Listen.Addr.IsValid() && f.Listen.Addr != to.Addr() {
		return false
	}
	server := flow.Reply.From
	return server.Port() == f.Server.Port && (server.Addr() == f.Server4 || server.Addr() == f.Server6)
}

// Look asks the table how far the connections are that run, and tells the journal.
func (w *Watcher) Look(now time.Time) error {
	w.dropPending(now)
	err := errors.Join(w.lookAtReleased(now), w.lookAtData(now))
	if err == nil {
		err = w.lookAtControls(now)
	}
	w.book.Settle(now)
	return err
}

// lookAtData brings what is known of data connections up to date.
func (w *Watcher) lookAtData(now time.Time) error {
	w.mu.Lock()
	tuples := make([]netflow.Tuple, 0, len(w.running))
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
	found, err := w.table.Get(make([]netflow.Flow, 0, len(tuples)), tuples)
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

// forget no longer awaits a hole's connection. It is called with the lock held.
func (w *Watcher) forget(h *Hole) {
	h.waits = false
	w.ports[h.hole.Listen.Port()]--
	first := w.awaited[h.hole.Target]
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
		delete(w.awaited, h.hole.Target)
		return
	}
	w.awaited[h.hole.Target] = first
}
