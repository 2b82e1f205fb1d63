// Package flows assigns the connections that the kernel carries to their sessions: data connections through
// the pinholes of proxied sessions, and whole sessions of forwards with tracking kernel. It reports their
// progress to the session log.
//
// It decides which flow belongs to which session. It reads the conntrack table through an interface, and
// changes it only in Sever and ForgetEarlier, which delete flows.
//
// Locks: Watcher.mu, then those of package sessions, then Expectation.mu. Under Watcher.mu a transfer may
// end: then the hooks of package sessions are called, which take the leaf of package transferlog.
package flows

import (
	"cmp"
	"errors"
	"iter"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/observe/sessions"
)

// Table is the kernel's conntrack table. Its methods ask the kernel: the watcher calls only Payload while it
// holds a lock.
type Table interface {
	// Get appends one flow for each tuple, of either direction, to flows: the zero flow for a tuple that has
	// none.
	Get(flows []netflow.Flow, tuples []netflow.Tuple) ([]netflow.Flow, error)
	// Dump yields the flows that want accepts.
	Dump(want netflow.Want) iter.Seq2[netflow.Flow, error]
	// Find returns the flows whose first packet went from an address to an address and port.
	Find(from netip.Addr, to netip.AddrPort) ([]netflow.Flow, error)
	// Delete removes a flow. A missing flow is no error.
	Delete(original netflow.Tuple, id uint32) error
	// Sever deletes a flow, and makes both ends break the connection. A missing flow is no error.
	Sever(f netflow.Flow) error
	// Payload returns the TCP payload of both directions, in bytes. It does not ask the kernel.
	Payload(f netflow.Flow) (sent, received uint64)
}

const (
	// PollInterval is how often the owner of a watcher should call Poll.
	PollInterval = 500 * time.Millisecond
	// controlPollInterval is how often Poll asks for control connections of forwards with tracking kernel:
	// there are many of them, and most are idle.
	controlPollInterval = 5 * time.Second
	// eventLag is how long after the end of a transfer the event of its connection may arrive: at once, and
	// on a busy machine later.
	eventLag = 2 * time.Second
	// unassignedLifetime is how long the segments of a connection without a session are kept: segments and
	// events arrive over different sockets. maxUnassigned bounds these connections; beyond it the kernel's
	// count is used.
	unassignedLifetime = time.Second
	maxUnassigned      = 1 << 14
	// searchesPerPoll bounds how many expectations one poll searches the table for: each search takes the
	// kernel milliseconds. searchWait is how long an expectation waits for its turn.
	searchesPerPoll = 4
	searchWait      = 3 * time.Second
	// answerWait is how long the far end may leave the first packet unanswered before that is a fault.
	answerWait = 3 * time.Second
)

// Watcher follows flows. Its methods may be called from several goroutines.
type Watcher struct {
	table      Table
	sessionLog *sessions.Log

	mu             sync.Mutex                      // locked before the lock of an expectation
	forwards       map[uint16][]forward.Resolved   // with tracking kernel, by listen port
	expected       map[netip.AddrPort]*Expectation // by target; expectations of one target are linked
	expectedAt     []*Expectation                  // by listen port; expectations of one port are linked
	active         map[endpoints]*Expectation      // connected
	completed      []*Expectation                  // since the last poll; their pinholes may be open still
	unassigned     map[endpoints]*byteCount        // connections that belong to no session so far
	controls       map[netflow.Tuple]*control      // sessions with tracking kernel
	controlsPolled time.Time
}

// New returns a watcher without forwards and expectations.
func New(table Table, sessionLog *sessions.Log) *Watcher {
	return &Watcher{
		table: table, sessionLog: sessionLog,
		forwards:   map[uint16][]forward.Resolved{},
		expected:   map[netip.AddrPort]*Expectation{},
		expectedAt: make([]*Expectation, 1<<16),
		active:     map[endpoints]*Expectation{},
		unassigned: map[endpoints]*byteCount{},
		controls:   map[netflow.Tuple]*control{},
	}
}

// SetForwards replaces the forwards whose sessions the watcher finds. Sessions of other forwards continue.
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

// Wants reports whether a new flow may belong to a session.
func (w *Watcher) Wants(original, master netflow.Tuple) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	port := original.To.Port()
	return w.expectedAt[port] != nil || len(w.forwards[port]) > 0 || w.controls[master] != nil
}

// HandleEvent handles an event of conntrack. After FlowsMissed it reads the table, whose error it returns.
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

// Resync reads the whole table, to find flows that began before the watcher, or whose events were lost.
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

// onNewFlow assigns a new flow. The caller holds w.mu.
func (w *Watcher) onNewFlow(f netflow.Flow, at time.Time) {
	if w.isKnown(f) {
		return
	}
	if !isTranslated(f) {
		w.onArrival(f.Original.From, f.Original.To, at, true)
	} else if x := w.find(f.Original.From, f.Reply.From, f.Original.To); x != nil {
		w.begin(x, f.Original.From, at, &f)
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

// isKnown reports whether a flow was assigned before: both the table and an event may show it.
func (w *Watcher) isKnown(f netflow.Flow) bool {
	if c := w.controls[f.Original]; c != nil && c.flow.ID == f.ID {
		return true
	}
	x := w.active[endpointsOf(f.Original.From, f.Reply.From)]
	return x != nil && x.matches(f)
}

// find returns the expectation of a connection between two ends, or nil. listen is the gateway's address of
// the connection. If it is invalid, because the log does not have it, the latest expectation with this target
// wins, unless an older one was used and its connection was not seen yet. One with an incomplete connection
// is the last choice. The caller holds w.mu.
func (w *Watcher) find(from, target, listen netip.AddrPort) (found *Expectation) {
	var begun *Expectation
	for x := w.expected[target]; x != nil; x = x.older {
		switch {
		case x.pinhole.From != from.Addr() || listen.IsValid() && listen != x.pinhole.Listen:
		case x.peer.IsValid():
			begun = cmp.Or(begun, x)
		case found == nil || x.wasUsed():
			found = x
		}
	}
	return cmp.Or(found, begun)
}

// onArrival records the first packet of a connection to an address and port. untranslated: certainly no rule
// has translated it. It reports whether a connection is expected there. The caller holds w.mu.
func (w *Watcher) onArrival(from, listen netip.AddrPort, at time.Time, untranslated bool) (expected bool) {
	for x := w.expectedAt[listen.Port()]; x != nil; x = x.olderAtPort {
		if x.pinhole.Listen == listen {
			x.arrived(from, at, untranslated)
			expected = true
		}
	}
	return expected
}

// activate follows a connection to its end. The caller holds w.mu.
func (w *Watcher) activate(x *Expectation) {
	ends := x.endpoints()
	if old := w.active[ends]; old != nil { // its end was missed
		old.mu.Lock()
		old.done = true
		old.mu.Unlock()
	}
	w.active[ends] = x
	if c := w.unassigned[ends]; c != nil {
		delete(w.unassigned, ends)
		x.mu.Lock()
		x.segments = *c
		x.mu.Unlock()
	}
}

// Carried returns how many data connections of proxied sessions carry data over the kernel, as of the last
// poll. A delivered one does not count, even if its receiver keeps it open.
func (w *Watcher) Carried() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, x := range w.active {
		if x.onEnd == nil && x.rivalOf == nil && x.carries() { // onEnd: of a session that the kernel tracks
			n++
		}
	}
	return n
}

// deactivate stops following a connection. The caller holds w.mu.
func (w *Watcher) deactivate(x *Expectation) {
	if ends := x.endpoints(); w.active[ends] == x {
		delete(w.active, ends)
	}
}

// isTranslated reports whether the kernel has rewritten the destination of a flow.
func isTranslated(f netflow.Flow) bool { return f.Reply.From != f.Original.To }

func isControl(f forward.Resolved, flow netflow.Flow) bool {
	to := flow.Original.To
	if f.Listen.Port != to.Port() || f.Listen.Addr.IsValid() && f.Listen.Addr != to.Addr() {
		return false
	}
	server := flow.Reply.From
	return server.Port() == f.Server.Port && (server.Addr() == f.Server4 || server.Addr() == f.Server6)
}

// Poll asks the table for the state of the active connections, and reports it to the session log.
func (w *Watcher) Poll(now time.Time) error {
	w.dropUnassigned(now)
	err := errors.Join(w.pollReleased(now), w.pollConnections(now))
	w.closeCompleted()
	if err == nil {
		err = w.pollControls(now)
	}
	w.sessionLog.Finalize(now)
	return err
}

// pollConnections updates the active data connections from the table.
func (w *Watcher) pollConnections(now time.Time) error {
	w.mu.Lock()
	tuples := make([]netflow.Tuple, 0, len(w.active))
	polled := make([]*Expectation, 0, len(w.active))
	var finished []*Expectation // without a question to the kernel
	for _, x := range w.active {
		if x.finished() {
			finished = append(finished, x)
			continue
		}
		tuples, polled = append(tuples, x.tuple()), append(polled, x)
	}
	w.mu.Unlock()
	for _, x := range finished {
		w.finish(x)
	}
	if len(tuples) == 0 {
		return nil
	}
	found, err := w.table.Get(make([]netflow.Flow, 0, len(tuples)), tuples)
	if err != nil {
		return err
	}
	for i, x := range polled {
		w.updateConnection(x, tuples[i], found[i], now)
	}
	return nil
}

// updateConnection records the table's entry for a connection, which is the zero flow if there is none.
func (w *Watcher) updateConnection(x *Expectation, t netflow.Tuple, f netflow.Flow, now time.Time) {
	w.mu.Lock()
	var onEnd func()
	if w.active[x.endpoints()] == x && x.tuple() == t { // else it has ended, or a rival has replaced it
		finished := x.update(f, now)
		if f.State.Completed() {
			x = w.complete(x)
		}
		if finished {
			onEnd = w.end(x)
		}
	}
	w.mu.Unlock()
	if onEnd != nil {
		onEnd()
	}
}

// finish stops following a connection and calls its onEnd.
func (w *Watcher) finish(x *Expectation) {
	w.mu.Lock()
	var onEnd func()
	if w.active[x.endpoints()] == x { // else it is finished already
		onEnd = w.end(x)
	}
	w.mu.Unlock()
	if onEnd != nil {
		onEnd()
	}
}

// closeCompleted closes the open pinholes whose connections have completed since the last poll. Those of
// short transfers are closed with their 226.
func (w *Watcher) closeCompleted() {
	w.mu.Lock()
	completed := w.completed
	w.completed = nil
	w.mu.Unlock()
	for _, x := range completed {
		if !x.isReleased() {
			x.closePinhole()
		}
	}
}

// stopExpecting removes an expectation from those that wait for a connection. The caller holds w.mu.
func (w *Watcher) stopExpecting(x *Expectation) {
	x.expected = false
	older := func(x *Expectation) **Expectation { return &x.older }
	if first := unlink(w.expected[x.pinhole.Target], x, older); first != nil {
		w.expected[x.pinhole.Target] = first
	} else {
		delete(w.expected, x.pinhole.Target)
	}
	port := x.pinhole.Listen.Port()
	w.expectedAt[port] = unlink(w.expectedAt[port], x,
		func(x *Expectation) **Expectation { return &x.olderAtPort })
}

// unlink removes an expectation from a list, and returns the list's first one. next is the link of the list.
func unlink(first, x *Expectation, next func(*Expectation) **Expectation) *Expectation {
	for at := &first; *at != nil; at = next(*at) {
		if *at == x {
			*at = *next(x)
			*next(x) = nil
			break
		}
	}
	return first
}
