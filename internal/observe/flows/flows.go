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
	// PollInterval is how often Look is meant to be called.
	PollInterval = 500 * time.Millisecond
	// controlPollInterval is how often it looks at control connections that the kernel tracks: they are many, and
	// mostly idle.
	controlPollInterval = 5 * time.Second
	// eventLag is how long the news of a data connection may be behind the end of its transfer.
	eventLag = time.Second
	// pinholeLifetime is how long the kernel keeps a pinhole (pinholeTime in internal/nft).
	pinholeLifetime = 25 * time.Second
	// unclaimedLifetime is how long segments are kept of a connection that may turn out to be somebody's: the news of both
	// come in different ways. maxPending bounds them; of those above the bytes are the kernel's count.
	unclaimedLifetime = time.Second
	maxUnclaimed      = 1 << 14
	// searchesPerPoll is how many holes the table is searched for in one look: it takes the kernel milliseconds. searchTime is
	// how long a hole waits for that.
	searchesPerPoll = 4
	searchWait      = 3 * time.Second
	// answerWait is how long the far end may leave a first packet unanswered before that is told.
	answerWait = 3 * time.Second
)

// Watcher follows flows. Its methods may be called from several goroutines.
type Watcher struct {
	table   Table
	journal *sessions.Journal

	mu             sync.Mutex
	forwards       map[uint16][]forward.Resolved   // that the kernel tracks, by the port they listen at
	expected       map[netip.AddrPort]*Expectation // by where the connection leads to; those that lead to one place are chained
	expectedPorts  []uint32                        // how many of them are at each port of the gateway
	active         map[endpoints]*Expectation      // connections that have come
	unclaimed      map[endpoints]*byteCount        // what has begun and is nobody's so far
	controls       map[netflow.Tuple]*control      // of sessions that the kernel tracks
	controlsPolled time.Time                       // when the controls were looked at last
}

// New returns a watcher that knows of nothing yet.
func New(table Table, book *sessions.Journal) *Watcher {
	return &Watcher{table: table, journal: book, expected: map[netip.AddrPort]*Expectation{}, expectedPorts: make([]uint32, 1<<16), active: map[endpoints]*Expectation{},
		unclaimed: map[endpoints]*byteCount{}, controls: map[netflow.Tuple]*control{}, forwards: map[uint16][]forward.Resolved{}}
}

// SetForwards tells the watcher which forwards there are from now on. Sessions of others go on.
func (w *Watcher) SetForwards(forwards []forward.Resolved) {
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
	return w.expectedPorts[original.To.Port()] > 0 || len(w.forwards[original.To.Port()]) > 0 || w.controls[master] != nil
}

// HandleEvent takes an event. After FlowsMissed it reads the table.
func (w *Watcher) HandleEvent(e netflow.FlowEvent) error {
	switch e.Change {
	case netflow.FlowNew:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.onNewFlow(e.Flow, e.At)
	case netflow.FlowsMissed:
		return w.Resync()
	}
	return nil
}

// Resync reads the whole table, for what there was before the watcher, and for what it has missed.
func (w *Watcher) Resync() error {
	for f, err := range w.table.Dump(w.Wants) {
		if err != nil {
			return err
		}
		if f.State.Over() {
			continue
		}
		w.mu.Lock()
		w.onNewFlow(f, time.Now())
		w.mu.Unlock()
	}
	return nil
}

// onNewFlow takes a flow that is new. It is called with the lock held.
func (w *Watcher) onNewFlow(f netflow.Flow, at time.Time) {
	if w.isKnown(f) {
		return
	}
	if !isTranslated(f) {
		w.onUnmatched(f.Original.From, f.Original.To, at)
	} else if h := w.find(f.Original.From, f.Reply.From, f.Original.To); h != nil {
		w.onConnected(h, f.Original.From, at, &f)
		return
	}
	if !f.Master.IsZero() {
		if c := w.controls[f.Master]; c != nil {
			w.beginData(c, f, at)
		}
		return
	}
	for _, forward := range w.forwards[f.Original.To.Port()] {
		if isControl(forward, f) {
			w.beginSession(forward, f)
			return
		}
	}
}

// isKnown tells whether a flow has been taken before: the table and an event may both tell of it.
func (w *Watcher) isKnown(f netflow.Flow) bool {
	if c := w.controls[f.Original]; c != nil && c.flow.ID == f.ID {
		return true
	}
	h := w.active[endpointsOf(f.Original.From, f.Reply.From)]
	return h != nil && h.matches(f)
}

// find returns the hole that a connection has come through; nil: none. place is where it came to; not valid: nobody knows.
// Then the last one that leads to this end is meant, unless one before it has been used, and nobody has heard of that yet.
func (w *Watcher) find(from, to, place netip.AddrPort) (found *Expectation) {
	for h := w.expected[to]; h != nil; h = h.older {
		if h.pinhole.From != from.Addr() || place.IsValid() && place != h.pinhole.At {
			continue
		}
		if found == nil || h.wasUsed() {
			found = h
		}
	}
	return found
}

// onConnected takes a connection that has come through a hole; flow is it in the kernel's table; nil: the log has told of it.
func (w *Watcher) onConnected(h *Expectation, from netip.AddrPort, at time.Time, flow *netflow.Flow) {
	w.stopExpecting(h)
	h.peer = from
	h.mu.Lock()
	h.connected, h.flow, h.fault = at, flow, nil
	h.mu.Unlock()
	w.activate(h)
}

// onUnmatched tells those who await a connection at a place of one that has come there and was not led on; false: nobody does.
func (w *Watcher) onUnmatched(from, place netip.AddrPort, at time.Time) (told bool) {
	if w.expectedPorts[place.Port()] == 0 {
		return false
	}
	for _, first := range w.expected {
		for h := first; h != nil; h = h.older {
			if h.pinhole.At == place {
				h.unmatched(from.Addr(), at)
				told = true
			}
		}
	}
	return told
}

// activate follows a connection that has come. It is called with the lock held.
func (w *Watcher) activate(h *Expectation) {
	e := h.endpoints()
	if old := w.active[e]; old != nil { // its end was missed
		old.mu.Lock()
		old.done = true
		old.mu.Unlock()
	}
	w.active[e] = h
	if c := w.unclaimed[e]; c != nil {
		delete(w.unclaimed, e)
		h.mu.Lock()
		h.segments = *c
		h.mu.Unlock()
	}
}

// deactivate no longer follows a connection. It is called with the lock held.
func (w *Watcher) deactivate(h *Expectation) {
	if e := h.endpoints(); w.active[e] == h {
		delete(w.active, e)
	}
}

// isTranslated tells whether a flow is led elsewhere than it was addressed to.
func isTranslated(f netflow.Flow) bool { return f.Reply.From != f.Original.To }

// isControl tells whether a flow is a control connection to a forward.
func isControl(f forward.Resolved, flow netflow.Flow) bool {
	to := flow.Original.To
	if f.Listen.Port != to.Port() || f.Listen.Addr.IsValid() && f.Listen.Addr != to.Addr() {
		return false
	}
	server := flow.Reply.From
	return server.Port() == f.Server.Port && (server.Addr() == f.Server4 || server.Addr() == f.Server6)
}

// Poll asks the table how far the connections are that run, and tells the journal.
func (w *Watcher) Poll(now time.Time) error {
	w.dropUnclaimed(now)
	err := errors.Join(w.pollReleased(now), w.pollConnections(now))
	if err == nil {
		err = w.pollControls(now)
	}
	w.journal.Settle(now)
	return err
}

// pollConnections brings what is known of data connections up to date.
func (w *Watcher) pollConnections(now time.Time) error {
	w.mu.Lock()
	tuples := make([]netflow.Tuple, 0, len(w.active))
	holes := make([]*Expectation, 0, len(w.active))
	var over []*Expectation // before the kernel was asked for them once
	for _, h := range w.active {
		if h.finished() {
			over = append(over, h)
			continue
		}
		tuples, holes = append(tuples, h.tuple()), append(holes, h)
	}
	w.mu.Unlock()
	for _, h := range over {
		w.finish(h)
	}
	if len(tuples) == 0 {
		return nil
	}
	found, err := w.table.Get(make([]netflow.Flow, 0, len(tuples)), tuples)
	if err != nil {
		return err
	}
	for i, h := range holes {
		if h.update(found[i], now) {
			w.finish(h)
		}
	}
	return nil
}

// finish tells that nothing more comes of a hole.
func (w *Watcher) finish(h *Expectation) {
	w.mu.Lock()
	w.deactivate(h)
	w.mu.Unlock()
	if h.onEnd != nil {
		h.onEnd()
	}
}

// stopExpecting no longer awaits a hole's connection. It is called with the lock held.
func (w *Watcher) stopExpecting(h *Expectation) {
	h.expected = false
	w.expectedPorts[h.pinhole.At.Port()]--
	first := w.expected[h.pinhole.To]
	if first == h {
		first = h.older
	}
	for other := first; other != nil; other = other.older {
		if other.older == h {
			other.older = h.older
		}
	}
	h.older = nil
	if first == nil {
		delete(w.expected, h.pinhole.To)
		return
	}
	w.expected[h.pinhole.To] = first
}
