package sessions

import (
	"cmp"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/verdict"
)

// Record is a session as it is being told. A nil one keeps nothing. Its methods may be called from several
// goroutines; none blocks.
type Record struct {
	journal *Journal
	tally   *tally // of the forward
	number  uint64
	id      string
	opening Opening
	began   time.Time

	mu       sync.Mutex
	server   netip.AddrPort
	user     string
	active   time.Time
	ended    time.Time
	greeted  bool
	loggedIn bool
	pending  bool // a command is not answered
	through  bool // nobody here can read it
	tls      TLS
	kind     string    // of representation: "A" or "I"
	data     *data     // the last data connection; nil: none so far
	numbers  int       // of data connections
	transfer *settling // the one that runs; nil: none
	totals   Totals
	refused  int
	last     *verdict.Fault // the last one that did not end the session
	since    int            // transfers that were completed after it
	fatal    *verdict.Fault
	said     string // the gateway's last word
	line     timeline
	latest   time.Duration // of the line's entries: what is told next is no earlier
	kill     func()        // nil: nobody can end it
}

// Data is a data connection that has been agreed upon.
type Data struct {
	Mode   string // the client's word: "PASV", "EPSV", "PORT" or "EPRT"
	Path   string // "kernel" or "relay"
	From   netip.Addr
	At, To netip.AddrPort // of a bridge, At is not valid
	As     netip.Addr
	Active bool // the server connects
	TLS    TLS  // what the gateway speaks
	Meter  Meter
}

// Meter tells what has come through a data connection, as long as anybody asks.
type Meter interface {
	Progress() Progress
}

// Progress is what has come through a data connection so far.
type Progress struct {
	Connected time.Time      // when the connection, or its first packet, came; zero: nobody has come
	Up, Down  int64          // from the client, and to it, in bytes without headers
	Over      bool           // nothing more comes, and all of it is counted
	Stranger  netip.Addr     // somebody else who came; not valid: nobody
	Fault     *verdict.Fault // what the data path knows to have gone wrong; nil: nothing
}

// data is a data connection and what became of it.
type data struct {
	Data
	number   int
	opened   time.Time
	wanted   bool      // a transfer command has asked for it
	reported bool      // that its peer has come stands in the time line
	closed   time.Time // zero: it is open
}

// ID returns how the session is called, in logs and by operators.
func (r *Record) ID() string {
	if r == nil {
		return ""
	}
	return r.id
}

// note adds to the time line. It is called with the lock held, as all below that are not exported.
func (r *Record) note(k Kind, data int, text string) { r.noteAt(time.Now(), k, data, text) }

// noteAt adds to the time line what was learnt of later than it was.
func (r *Record) noteAt(at time.Time, k Kind, data int, text string) {
	r.keep(entry{after: at.Sub(r.began), data: int32(data), kind: k, text: text})
}

// noteNext adds to the time line what follows at once from what it was told last.
func (r *Record) noteNext(k Kind, text string) {
	r.keep(entry{after: r.latest, kind: k, text: text})
}

// keep adds an entry to the time line.
func (r *Record) keep(e entry) {
	r.latest = max(r.latest, e.after)
	grown := r.line.add(e, r.journal.events.Load() > maxEvents)
	if grown > 0 {
		r.journal.events.Add(int64(grown))
	}
}

// edit calls f with the lock held, unless there is no record.
func (r *Record) edit(f func()) {
	if r == nil {
		return
	}
	r.mu.Lock()
	f()
	r.mu.Unlock()
}

// OnKill says how an operator's Kill ends the session.
func (r *Record) OnKill(kill func()) { r.edit(func() { r.kill = kill }) }

// Kill ends the session, for an operator; false: it cannot be ended.
func (r *Record) Kill() bool {
	r.mu.Lock()
	kill := r.kill
	if !r.ended.IsZero() {
		kill = nil
	}
	r.mu.Unlock()
	if kill == nil {
		return false
	}
	kill()
	return true
}

// Begins tells that a transfer begins, and when, with the last data connection.
func (r *Record) Begins(at time.Time, verb, file string) {
	r.edit(func() {
		r.transfer = &settling{record: r, is: true, transfer: Transfer{Verb: verb, File: file, Direction: directionOf(verb), Began: at}}
		if t := &r.transfer.transfer; r.data != nil {
			r.data.wanted = true
			t.number, t.Mode, t.Path, t.TLS = r.data.number, r.data.Mode, r.data.Path, r.data.TLS
		}
	})
}

func directionOf(verb string) Direction {
	switch verb {
	case "STOR", "STOU", "APPE":
		return Upload
	case "":
		return Unknown
	}
	return Download
}

// Finishes tells that the transfer is over. said is the reply that the client gets; a transfer that is
// not complete failed for why, nil: as the data path or the server say.
func (r *Record) Finishes(complete bool, said string, why *verdict.Fault) {
	if r == nil {
		return
	}
	now := time.Now()
	if s := r.finish(complete, said, why, now); s != nil {
		r.journal.settle(s, now)
	}
}

// finish ends the transfer that runs, and returns what is to become of it; nil: none runs.
func (r *Record) finish(complete bool, said string, why *verdict.Fault, now time.Time) *settling {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.transfer
	if s == nil {
		return nil
	}
	r.transfer = nil
	t := &s.transfer
	t.Ended, t.Complete, s.said, s.why = now, complete, said, why
	r.describe(t)
	if d := r.data; d != nil && d.number == t.number {
		r.close(d, now)
		s.data = d
	}
	return s
}

// close ends a data connection; the first time counts.
func (r *Record) close(d *data, now time.Time) {
	if d.closed.IsZero() {
		d.closed = now
		r.journal.pinholes(d.Path).Add(-1)
	}
}

// conclude says of a data connection that is over, and of its transfer if it had one, what they came to.
func (r *Record) conclude(s *settling, p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.came(s.data, p)
	if !s.is {
		switch f, broken := r.dataFault(s.data, p); {
		case broken:
			r.fault(f)
		case p.Connected.IsZero() && s.data.At.IsValid():
			r.note(KindPinhole, s.data.number, "closed unused")
		}
		return
	}
	t := &s.transfer
	p = t.only(p)
	t.measure(p, t.Ended)
	came := Totals{Up: p.Up, Down: p.Down, Transfers: 1}
	if !t.Complete {
		came.Transfers, came.Failed = 0, 1
	}
	r.totals.add(came)
	r.tally.add(came)
	if t.Complete {
		r.since++
	} else {
		f := r.whyFailed(s, p)
		t.Verdict = f.Verdict().Text
		r.fault(f)
	}
	r.keep(entry{after: t.Ended.Sub(r.began), kind: KindTransfer, data: int32(t.number),
		words: over{t.Verb, t.Complete, t.Bytes, t.Ended.Sub(t.Began)}})
}

// whyFailed returns why a transfer failed: what the data path knows says more than what the server says, and
// that more than what the client was told.
func (r *Record) whyFailed(s *settling, p Progress) verdict.Fault {
	if f, broken := r.dataFault(s.data, p); broken {
		f.Verb, f.Said = s.transfer.Verb, cmp.Or(f.Said, s.said)
		return f
	}
	if d := s.data; verdict.FailedToConnect(s.said) && d != nil && d.Meter != nil && d.At.IsValid() && p.Connected.IsZero() {
		f := r.absent(d, p, d.closed)
		f.Verb, f.Said = s.transfer.Verb, s.said
		return f
	}
	if s.why != nil {
		f := *s.why
		f.Verb, f.Said = cmp.Or(f.Verb, s.transfer.Verb), cmp.Or(f.Said, s.said)
		return f
	}
	return verdict.Fault{Code: verdict.CodeServerRefused, Verb: s.transfer.Verb, Said: s.said}
}

// describe fills in whose transfer it is.
func (r *Record) describe(t *Transfer) {
	t.Session, t.Forward, t.User, t.Type = r.ID(), r.opening.Forward, r.user, r.kind
	t.Client, t.Server = r.opening.Client.Addr(), r.server
}

// only leaves out what went against a transfer's direction: FTP sends no data there, and the kernel's counts are
// of packets. Where nobody could read the command, the data tells the direction.
func (t *Transfer) only(p Progress) Progress {
	if t.Direction == Unknown && p.Up != p.Down {
		t.Direction = Download
		if p.Up > p.Down {
			t.Direction = Upload
		}
	}
	switch t.Direction {
	case Download:
		p.Up = 0
	case Upload:
		p.Down = 0
	}
	return p
}

// measure fills in how far a transfer has come.
func (t *Transfer) measure(p Progress, now time.Time) {
	t.Connected = p.Connected
	if now.Before(t.Connected) { // it was heard of later
		t.Connected = now
	}
	switch t.Direction {
	case Upload:
		t.Bytes = p.Up
	case Download:
		t.Bytes = p.Down
	default:
		t.Bytes = p.Up + p.Down
	}
	if took := now.Sub(t.Began); took > 0 {
		t.Rate = int64(float64(t.Bytes) / took.Seconds())
	}
}

// came adds to the time line that the peer of a data connection has come.
func (r *Record) came(d *data, p Progress) {
	if d == nil || d.reported || p.Connected.IsZero() {
		return
	}
	d.reported = true
	at := p.Connected // which is when it was heard of
	if !d.closed.IsZero() && at.After(d.closed) {
		at = d.closed
	}
	if at.Before(d.opened) {
		at = d.opened
	}
	r.keep(entry{after: at.Sub(r.began), kind: KindData, data: int32(d.number),
		words: came{at.Sub(d.opened), d.Active, !d.At.IsValid()}})
}

func (d *data) progress() Progress {
	if d.Meter == nil {
		return Progress{}
	}
	return d.Meter.Progress()
}

// Refuse tells of something that was refused or put right, or has failed.
func (r *Record) Refuse(f verdict.Fault) {
	r.edit(func() { r.fault(f) })
}

func (r *Record) fault(f verdict.Fault) {
	r.refused++
	if f.Ports.IsEmpty() {
		f.Ports = r.opening.Passive
	}
	number := 0
	if r.data != nil && f.At.IsValid() {
		number = r.data.number
	}
	r.tally.refused.Add(1)
	v := f.Verdict()
	r.note(KindFault, number, v.Text)
	if f.Fatal && r.fatal == nil {
		r.fatal = &f
	} else if !f.Fatal {
		r.last, r.since = &f, 0
	}
}

// Ends tells that the session is over; said is what the gateway has told the client in the end, if anything.
func (r *Record) Ends(said string) {
	if r == nil {
		return
	}
	now := time.Now()
	if s := r.finish(false, "", r.whyEnded(), now); s != nil {
		r.journal.settle(s, now)
	}
	r.Closed()
	r.mu.Lock()
	if !r.ended.IsZero() {
		r.mu.Unlock()
		return
	}
	r.ended, r.said = time.Now(), said
	text := "ended after " + verdict.Round(r.ended.Sub(r.began)).String()
	if said != "" {
		text += ": " + said
	}
	r.note(KindSession, 0, text)
	served := r.server.IsValid()
	r.mu.Unlock()
	r.journal.over(r, served)
}

// whyEnded returns why a transfer fails that the end of its session cuts off.
func (r *Record) whyEnded() *verdict.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fatal == nil {
		return &verdict.Fault{Code: verdict.CodeClientLeft}
	}
	f := *r.fatal
	f.Fatal = false
	return &f
}

// over tells whether the session has ended.
func (r *Record) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.ended.IsZero()
}

// forget lets go of the time line, and returns how many events that were.
func (r *Record) forget() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.line.len()
	r.line = timeline{}
	return n
}
