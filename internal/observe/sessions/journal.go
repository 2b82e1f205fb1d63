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
	// KeptEnded is how many sessions are kept after their end.
	KeptEnded = 1000
	// keptTurned is how many of those are kept that never had a server: a flood of clients that are turned
	// away must not push the others out.
	keptTurned = 200
	// settleTime is how long the last bytes of a transfer may take to be counted after its end.
	settleTime = 5 * time.Second
)

// Journal keeps the sessions that run, and the last ones that have ended. Its methods may be called from
// several goroutines.
type Journal struct {
	Hooks // set before use

	tallies
	run    string // what numbers of this run of the program begin with
	events atomic.Int64

	mu       sync.Mutex
	last     uint64
	running  map[uint64]*Record
	ended    ring
	turned   ring
	settling []*settling
}

// Hooks are who else is told of what the journal is told. Those that are nil are not. They must not block, and
// not call the journal.
type Hooks struct {
	Began    func(forward string, tracking forward.Tracking)
	Dialled  func(forward string, took time.Duration)       // the server's connection stands
	Opened   func(forward, path string, took time.Duration) // a pinhole is in force
	Used     func(forward, path string)                     // a pinhole's connection has come
	Unused   func(forward, path string)                     // a pinhole is gone, and none has
	Finished func(Transfer)                                 // once, when it is over and its bytes are counted
}

// New returns a journal for a run of the program that began at a time. Sessions of two runs never have the same
// identifier, unless both began in the same millisecond.
func New(began time.Time) *Journal {
	return &Journal{
		run:     strconv.FormatInt(began.UnixMilli()-epoch, 36),
		running: map[uint64]*Record{},
		ended:   ring{size: KeptEnded},
		turned:  ring{size: keptTurned},
	}
}

// epoch is where the milliseconds of identifiers are counted from: 2026-01-01.
const epoch = 1767225600_000

// Opening is what is known of a session when it begins.
type Opening struct {
	Forward  string
	Tracking forward.Tracking
	Client   netip.AddrPort
	Gateway  netip.AddrPort    // what the client dialled
	Passive  forward.PortRange // where the ports of its data connections are drawn from
}

// Begin has the journal keep a session, until its Ends. A nil journal returns a nil record, whose methods
// do nothing.
func (j *Journal) Begin(o Opening) *Record {
	if j == nil {
		return nil
	}
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	r := &Record{journal: j, tally: j.tally(o.Forward), number: j.last, id: j.run + "-" + strconv.FormatUint(j.last, 10), opening: o, began: now, active: now}
	j.running[r.number] = r
	r.tally.sessions.Add(1)
	if j.Began != nil {
		j.Began(o.Forward, o.Tracking)
	}
	return r
}

// over moves a session to those that have ended.
func (j *Journal) over(r *Record, served bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.running[r.number] != r {
		return
	}
	delete(j.running, r.number)
	keep := &j.turned
	if served {
		keep = &j.ended
	}
	if gone := keep.put(r); gone != nil {
		j.events.Add(-int64(gone.forget()))
	}
}

// Running yields what is known of the sessions that run, in the order in which they began.
func (j *Journal) Running() iter.Seq[Session] {
	j.mu.Lock()
	records := make([]*Record, 0, len(j.running))
	for _, r := range j.running {
		records = append(records, r)
	}
	j.mu.Unlock()
	return sessionsOf(records)
}

// Ended yields what is known of those that have ended, as far as they are kept, in the order in which they
// began.
func (j *Journal) Ended() iter.Seq[Session] {
	j.mu.Lock()
	records := slices.Concat(j.ended.all, j.turned.all)
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

// Count returns how many sessions run.
func (j *Journal) Count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.running)
}

// Busy is how much goes on at a forward.
type Busy struct {
	Forward  string
	Tracking forward.Tracking
}

// Counts returns how many sessions run, and from how many addresses, by forward.
func (j *Journal) Counts() (sessions, clients map[Busy]int) {
	sessions, clients = map[Busy]int{}, map[Busy]int{}
	type pair struct {
		at   Busy
		from netip.Addr
	}
	known := map[pair]bool{}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.running {
		at := Busy{r.opening.Forward, r.opening.Tracking}
		sessions[at]++
		if from := (pair{at, r.opening.Client.Addr()}); !known[from] {
			known[from] = true
			clients[at]++
		}
	}
	return sessions, clients
}

// Explain returns a session with its time line; false: it is not known, or not any more. id is as in
// Session.ID, or the number behind it alone.
func (j *Journal) Explain(id string) (Explained, bool) {
	r := j.find(id)
	if r == nil {
		return Explained{}, false
	}
	return r.explain(time.Now()), true
}

// Find returns the record of a session that runs; nil: none.
func (j *Journal) Find(id string) *Record {
	r := j.find(id)
	if r == nil || r.over() {
		return nil
	}
	return r
}

func (j *Journal) find(id string) *Record {
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
	for _, kept := range []ring{j.ended, j.turned} {
		if i := slices.IndexFunc(kept.all, func(r *Record) bool { return r.number == number }); i >= 0 {
			return kept.all[i]
		}
	}
	return nil
}

// settling is a data connection, and mostly a transfer, that is over but for what has come through.
type settling struct {
	record   *Record
	data     *data          // nil: it had none
	is       bool           // there is a transfer, else none has used it
	transfer Transfer       // as long as it runs, too
	said     string         // by the server in the end
	why      *verdict.Fault // what is known of a failure
	until    time.Time
}

// settle concludes: at once where all is known.
func (j *Journal) settle(s *settling, now time.Time) {
	s.until = now.Add(settleTime)
	if j.settled(s, now) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settling = append(j.settling, s)
}

// Settle looks after what is being counted. Who counts calls it every now and then.
func (j *Journal) Settle(now time.Time) {
	j.mu.Lock()
	waiting := j.settling
	j.settling = nil
	j.mu.Unlock()
	held := map[*Record]bool{} // a session's transfers are told in their order
	waiting = slices.DeleteFunc(waiting, func(s *settling) bool {
		if held[s.record] || !j.settled(s, now) {
			held[s.record] = true
			return false
		}
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settling = append(waiting, j.settling...)
}

// settled concludes, if all is counted or nobody waits for that any more.
func (j *Journal) settled(s *settling, now time.Time) bool {
	var p Progress
	if s.data != nil && s.data.Meter != nil {
		p = s.data.Meter.Progress()
		if !p.Over && p.Fault == nil && now.Before(s.until) {
			return false
		}
	}
	s.record.conclude(s, p)
	if d := s.data; d != nil {
		told := j.Used
		if p.Connected.IsZero() {
			told = j.Unused
		}
		if told != nil {
			told(s.record.opening.Forward, d.Path)
		}
	}
	if s.is && j.Finished != nil {
		j.Finished(s.transfer)
	}
	return true
}

// ring keeps the last records.
type ring struct {
	all  []*Record
	size int
	next int
}

// put keeps a record, and returns the one that had to go.
func (k *ring) put(r *Record) (gone *Record) {
	if len(k.all) < k.size {
		k.all = append(k.all, r)
		return nil
	}
	gone, k.all[k.next] = k.all[k.next], r
	k.next = (k.next + 1) % k.size
	return gone
}
