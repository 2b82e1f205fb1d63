package sessions

import (
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

const (
	// keptEnded is how many ended sessions are kept.
	keptEnded = 1000
	// keptRejected is how many rejected sessions are kept: a flood of rejected clients must not displace the
	// others.
	keptRejected = 200
	// finalizeTimeout is how long after the end of a transfer, or its last byte, more bytes may still be
	// counted.
	finalizeTimeout = 5 * time.Second
)

// Log keeps the running sessions and the last ones that ended. Its methods may be called from several
// goroutines. Order of locks: Log.mu before Record.mu.
type Log struct {
	Hooks // set before use

	stats  allStats
	run    string // the first part of identifiers, for this run of the program
	events atomic.Int64

	mu           sync.Mutex
	last         uint64
	running      map[uint64]*Record
	ended        ring
	rejected     ring
	finalizing   []*finalizing
	notFinalized []*Record // ended sessions for Hooks.Finalized
	movesChecked time.Time // when Finalize last checked which transfers move
}

// Hooks are called with the events of sessions; each may be nil. They must not block, and must not call the
// session log.
type Hooks struct {
	// reports whether new connections from an address are refused
	Banned func(addr netip.Addr) bool
	// returns when rules came back that another program had removed; zero: none were removed
	RulesRestored func() time.Time

	Began   func(forward string, tracking forward.Tracking)
	Dialled func(forward string, took time.Duration)       // the connection to the server is established
	Opened  func(forward, path string, took time.Duration) // a pinhole is open
	Used    func(forward, path string)                     // the peer of a pinhole connected
	Unused  func(forward, path string)                     // a pinhole was closed before its peer connected
	// once, when a transfer is over and its bytes are counted
	Finished func(Transfer)
	// a data connection failed before a transfer used it
	DataFailed func(forward, path string)
	// an ended session is final: one whose verdict was not known at its end, or that the kernel tracks
	Finalized func(Session)
}

// New returns a session log for a run of the program that began at the given time. Sessions of two runs have
// different identifiers unless both runs began in the same millisecond.
func New(began time.Time) *Log {
	return &Log{
		run:      strconv.FormatInt(began.UnixMilli()-epoch, 36),
		stats:    allStats{of: map[string]*forwardStats{}},
		running:  map[uint64]*Record{},
		ended:    ring{size: keptEnded},
		rejected: ring{size: keptRejected},
	}
}

// epoch is the start of the milliseconds in identifiers: 2026-01-01.
const epoch = 1767225600_000

// Start is the data of a session at its beginning.
type Start struct {
	Forward  string
	Tracking forward.Tracking
	Client   netip.AddrPort
	Gateway  netip.AddrPort // the address that its connection arrived at
	Balancer netip.AddrPort // who passed the connection on, with a PROXY protocol header; not valid: nobody
	// the address that the client dialled, as the balancer says; not valid: Gateway
	Dialled netip.AddrPort
	// the client begins with a TLS handshake, and the server's greeting waits for it
	ClientTLS bool
	Passive   forward.PortRange // the range for the ports of its data connections
}

// Begin records a new session, which runs until Record.Ends. A nil log returns a nil record, whose methods do
// nothing.
func (l *Log) Begin(o Start) *Record {
	if l == nil {
		return nil
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	r := &Record{log: l, number: l.last, id: l.run + "-" + strconv.FormatUint(l.last, 10), start: o,
		stats: l.stats.forward(o.Forward), began: now, active: now}
	l.running[r.number] = r
	r.stats.count(func(s *ForwardStats) { s.Sessions++ })
	if l.Began != nil {
		l.Began(o.Forward, o.Tracking)
	}
	return r
}

// moveToEnded moves a session from the running to the ended ones. report: Hooks.Finalized is to get it.
func (l *Log) moveToEnded(r *Record, served, report bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[r.number] != r {
		return
	}
	if report && l.Finalized != nil {
		l.notFinalized = append(l.notFinalized, r)
	}
	delete(l.running, r.number)
	keep := &l.rejected
	if served {
		keep = &l.ended
	}
	if gone := keep.put(r); gone != nil {
		l.events.Add(-int64(gone.forget()))
	}
}

// Running yields a snapshot of each running session, in the order in which they began.
func (l *Log) Running() iter.Seq[Session] {
	l.mu.Lock()
	records := make([]*Record, 0, len(l.running))
	for _, r := range l.running {
		records = append(records, r)
	}
	l.mu.Unlock()
	return sessionsOf(records)
}

// Ended yields a snapshot of each ended session that is still kept, in the order in which they began.
func (l *Log) Ended() iter.Seq[Session] {
	l.mu.Lock()
	records := slices.Concat(l.ended.all, l.rejected.all)
	l.mu.Unlock()
	return sessionsOf(records)
}

func sessionsOf(records []*Record) iter.Seq[Session] {
	slices.SortFunc(records, func(a, b *Record) int { return int(int64(a.number) - int64(b.number)) })
	return func(yield func(Session) bool) {
		now := time.Now()
		for _, r := range records {
			if !yield(r.Session(now)) {
				return
			}
		}
	}
}

// Count returns the number of running sessions.
func (l *Log) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.running)
}

// ForwardKey identifies a forward with its tracking, for counts.
type ForwardKey struct {
	Forward  string
	Tracking forward.Tracking
}

// Counts returns the number of running sessions and of their client addresses, by forward.
func (l *Log) Counts() (sessions, clients map[ForwardKey]int) {
	sessions, clients = map[ForwardKey]int{}, map[ForwardKey]int{}
	type pair struct {
		at   ForwardKey
		from netip.Addr
	}
	known := map[pair]bool{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.running {
		at := ForwardKey{r.start.Forward, r.start.Tracking}
		sessions[at]++
		if from := (pair{at, r.start.Client.Addr()}); !known[from] {
			known[from] = true
			clients[at]++
		}
	}
	return sessions, clients
}

// Explain returns a session with its time line; false: the session is unknown or no longer kept. id is that
// of Find.
func (l *Log) Explain(id string) (Explained, bool) {
	r := l.Find(id)
	if r == nil {
		return Explained{}, false
	}
	return r.explain(time.Now()), true
}

// Find returns the record of a session, running or ended; nil: the session is unknown or no longer kept. id
// is a Session.ID or only the number at its end.
func (l *Log) Find(id string) *Record {
	digits := id
	if run, rest, cut := strings.Cut(id, "-"); cut {
		if run != l.run {
			return nil
		}
		digits = rest
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.running[number]; r != nil {
		return r
	}
	for _, kept := range []ring{l.ended, l.rejected} {
		if i := slices.IndexFunc(kept.all, func(r *Record) bool { return r.number == number }); i >= 0 {
			return kept.all[i]
		}
	}
	return nil
}

// finalizing is a data connection, mostly with a transfer, that is over except for its final byte counts.
type finalizing struct {
	record      *Record
	data        *data          // nil: the transfer had none
	hasTransfer bool           // a transfer used the data connection
	transfer    Transfer       // also while it is running
	reply       string         // the final reply of the server
	why         *verdict.Fault // the known reason of a failure
	brokeBefore bool           // the data connection had failed before that reply
	moved       int64          // bytes, at the last check
	until       time.Time
}

// finalize finalizes a data connection, at once if everything is counted.
func (l *Log) finalize(s *finalizing, now time.Time) {
	s.until = now.Add(finalizeTimeout)
	if l.tryFinalize(s, now) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finalizing = append(l.finalizing, s)
}

// Finalize finalizes the data connections whose bytes are counted by now. The monitor calls it several times
// a second.
func (l *Log) Finalize(now time.Time) {
	l.mu.Lock()
	waiting := l.finalizing
	l.finalizing = nil
	l.mu.Unlock()
	held := map[*Record]bool{} // the transfers of a session are reported in their order
	waiting = slices.DeleteFunc(waiting, func(s *finalizing) bool {
		if held[s.record] || !l.tryFinalize(s, now) {
			held[s.record] = true
			return false
		}
		return true
	})
	l.mu.Lock()
	l.finalizing = append(waiting, l.finalizing...)
	l.mu.Unlock()
	l.reportFinalized(now)
	l.checkTransfers(now)
}

// reportFinalized calls Hooks.Finalized for the sessions that are final by now.
func (l *Log) reportFinalized(now time.Time) {
	var final []Session
	l.mu.Lock()
	l.notFinalized = slices.DeleteFunc(l.notFinalized, func(r *Record) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.isFinal() {
			return false
		}
		final = append(final, r.session(now))
		return true
	})
	l.mu.Unlock()
	for _, s := range final {
		l.Finalized(s)
	}
}

// moveInterval is how often Finalize checks which transfers have moved.
const moveInterval = time.Second

// checkTransfers notes which running transfers have moved since the last check.
func (l *Log) checkTransfers(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.movesChecked) < moveInterval {
		return
	}
	l.movesChecked = now
	for _, r := range l.running {
		r.checkTransfer(now)
	}
}

// tryFinalize finalizes if everything is counted or the time for that is over, and reports whether it did.
func (l *Log) tryFinalize(s *finalizing, now time.Time) bool {
	var o pinhole.Outcome
	if s.data != nil && s.data.Meter != nil {
		o = s.data.outcome()
		if moved := o.Up + o.Down; moved != s.moved { // the connection outlives its session
			s.moved, s.until = moved, now.Add(finalizeTimeout)
		}
		if o.Counted && !o.Over && o.Fault() == nil && now.Before(s.until) {
			return false
		}
	}
	failed := s.record.finalize(s, o)
	if d := s.data; failed && !s.hasTransfer && l.DataFailed != nil {
		l.DataFailed(s.record.start.Forward, d.Path)
	}
	if d := s.data; d != nil && o.Counted {
		report := l.Used
		if o.Connected.IsZero() {
			report = l.Unused
		}
		if report != nil {
			report(s.record.start.Forward, d.Path)
		}
	}
	if s.hasTransfer && l.Finished != nil {
		l.Finished(s.transfer)
	}
	return true
}

// ring keeps the last size records.
type ring struct {
	all  []*Record
	size int
	next int
}

// put keeps a record, and returns the one that it replaces; nil: none.
func (r *ring) put(record *Record) (gone *Record) {
	if len(r.all) < r.size {
		r.all = append(r.all, record)
		return nil
	}
	gone, r.all[r.next] = r.all[r.next], record
	r.next = (r.next + 1) % r.size
	return gone
}
