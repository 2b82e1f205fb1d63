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
	"ftpgate/internal/core/verdict"
)

const (
	// keptEnded is the number of sessions that are kept after their end.
	keptEnded = 1000
	// keptRejected is the number of sessions that are kept after the gateway rejected them: a flood of
	// rejected clients must not push the others out.
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

	mu         sync.Mutex
	last       uint64
	running    map[uint64]*Record
	ended      ring
	rejected   ring
	finalizing []*finalizing
}

// Hooks are called with what happens to sessions; each may be nil. They must not block, and must not call the
// session log.
type Hooks struct {
	Began   func(forward string, tracking forward.Tracking)
	Dialled func(forward string, took time.Duration)       // the connection to the server is established
	Opened  func(forward, path string, took time.Duration) // a pinhole is open
	Used    func(forward, path string)                     // the connection for a pinhole came
	Unused  func(forward, path string)                     // a pinhole was closed before one came
	// once, when a transfer is over and its bytes are counted
	Finished func(Transfer)
}

// New returns a session log for a run of the program that began at the given time. Sessions of two runs have
// different identifiers unless both runs began in the same millisecond.
func New(began time.Time) *Log {
	return &Log{
		run:      strconv.FormatInt(began.UnixMilli()-epoch, 36),
		stats:    allStats{of: map[string]ForwardStats{}},
		running:  map[uint64]*Record{},
		ended:    ring{size: keptEnded},
		rejected: ring{size: keptRejected},
	}
}

// epoch is the start of the milliseconds in identifiers: 2026-01-01.
const epoch = 1767225600_000

// Opening is what is known when a session begins.
type Opening struct {
	Forward  string
	Tracking forward.Tracking
	Client   netip.AddrPort
	Gateway  netip.AddrPort    // what the client dialled
	Passive  forward.PortRange // the range for the ports of its data connections
}

// Begin records a new session, which runs until Record.Ends. A nil log returns a nil record, whose methods do
// nothing.
func (j *Log) Begin(o Opening) *Record {
	if j == nil {
		return nil
	}
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	r := &Record{log: j, number: j.last, id: j.run + "-" + strconv.FormatUint(j.last, 10), opening: o,
		began: now, active: now}
	j.running[r.number] = r
	j.stats.count(o.Forward, func(s *ForwardStats) { s.Sessions++ })
	if j.Began != nil {
		j.Began(o.Forward, o.Tracking)
	}
	return r
}

// moveToEnded moves a session from the running to the ended ones.
func (j *Log) moveToEnded(r *Record, served bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.running[r.number] != r {
		return
	}
	delete(j.running, r.number)
	keep := &j.rejected
	if served {
		keep = &j.ended
	}
	if gone := keep.put(r); gone != nil {
		j.events.Add(-int64(gone.forget()))
	}
}

// Running yields a snapshot of each running session, in the order in which they began.
func (j *Log) Running() iter.Seq[Session] {
	j.mu.Lock()
	records := make([]*Record, 0, len(j.running))
	for _, r := range j.running {
		records = append(records, r)
	}
	j.mu.Unlock()
	return sessionsOf(records)
}

// Ended yields a snapshot of each ended session that is still kept, in the order in which they began.
func (j *Log) Ended() iter.Seq[Session] {
	j.mu.Lock()
	records := slices.Concat(j.ended.all, j.rejected.all)
	j.mu.Unlock()
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
func (j *Log) Count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.running)
}

// ForwardKey identifies a forward with its tracking, for counts.
type ForwardKey struct {
	Forward  string
	Tracking forward.Tracking
}

// Counts returns the number of running sessions and of their client addresses, by forward.
func (j *Log) Counts() (sessions, clients map[ForwardKey]int) {
	sessions, clients = map[ForwardKey]int{}, map[ForwardKey]int{}
	type pair struct {
		at   ForwardKey
		from netip.Addr
	}
	known := map[pair]bool{}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.running {
		at := ForwardKey{r.opening.Forward, r.opening.Tracking}
		sessions[at]++
		if from := (pair{at, r.opening.Client.Addr()}); !known[from] {
			known[from] = true
			clients[at]++
		}
	}
	return sessions, clients
}

// Explain returns a session with its time line; false: the session is unknown or no longer kept. id is that
// of Find.
func (j *Log) Explain(id string) (Explained, bool) {
	r := j.Find(id)
	if r == nil {
		return Explained{}, false
	}
	return r.explain(time.Now()), true
}

// Find returns the record of a session, running or ended; nil: the session is unknown or no longer kept. id
// is a Session.ID or only the number at its end.
func (j *Log) Find(id string) *Record {
	digits := id
	if run, rest, cut := strings.Cut(id, "-"); cut {
		if run != j.run {
			return nil
		}
		digits = rest
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if r := j.running[number]; r != nil {
		return r
	}
	for _, kept := range []ring{j.ended, j.rejected} {
		if i := slices.IndexFunc(kept.all, func(r *Record) bool { return r.number == number }); i >= 0 {
			return kept.all[i]
		}
	}
	return nil
}

// finalizing is a data connection, and mostly a transfer, that is over but for what has come through.
type finalizing struct {
	record      *Record
	data        *data          // nil: the transfer had none
	hasTransfer bool           // a transfer used the data connection
	transfer    Transfer       // also while it is running
	reply       string         // the final reply of the server
	why         *verdict.Fault // the known reason of a failure
	moved       int64          // bytes, at the last look
	until       time.Time
}

// finalize finalizes a data connection, at once if everything is counted.
func (j *Log) finalize(s *finalizing, now time.Time) {
	s.until = now.Add(finalizeTimeout)
	if j.tryFinalize(s, now) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.finalizing = append(j.finalizing, s)
}

// Finalize finalizes the data connections whose bytes are counted by now. The monitor calls it several times
// a second.
func (j *Log) Finalize(now time.Time) {
	j.mu.Lock()
	waiting := j.finalizing
	j.finalizing = nil
	j.mu.Unlock()
	held := map[*Record]bool{} // the transfers of a session are reported in their order
	waiting = slices.DeleteFunc(waiting, func(s *finalizing) bool {
		if held[s.record] || !j.tryFinalize(s, now) {
			held[s.record] = true
			return false
		}
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.finalizing = append(waiting, j.finalizing...)
}

// tryFinalize finalizes if everything is counted or the time for that is over, and reports whether it did.
func (j *Log) tryFinalize(s *finalizing, now time.Time) bool {
	var p Progress
	if s.data != nil && s.data.Meter != nil {
		p = s.data.Meter.Progress()
		if moved := p.Up + p.Down; moved != s.moved { // the connection outlives its session
			s.moved, s.until = moved, now.Add(finalizeTimeout)
		}
		if !p.Over && p.Fault == nil && now.Before(s.until) {
			return false
		}
	}
	s.record.finalize(s, p)
	if d := s.data; d != nil {
		report := j.Used
		if p.Connected.IsZero() {
			report = j.Unused
		}
		if report != nil {
			report(s.record.opening.Forward, d.Path)
		}
	}
	if s.hasTransfer && j.Finished != nil {
		j.Finished(s.transfer)
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
func (k *ring) put(r *Record) (gone *Record) {
	if len(k.all) < k.size {
		k.all = append(k.all, r)
		return nil
	}
	gone, k.all[k.next] = k.all[k.next], r
	k.next = (k.next + 1) % k.size
	return gone
}
