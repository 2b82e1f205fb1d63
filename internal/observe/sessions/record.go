package sessions

import (
	"cmp"
	"errors"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// Record records one session. A nil record keeps nothing. Its methods may be called from several goroutines;
// none blocks.
type Record struct {
	log    *Log
	number uint64
	id     string
	start  Start
	stats  *forwardStats // of its forward
	began  time.Time

	mu             sync.Mutex
	server         netip.AddrPort
	user           string
	active         time.Time
	ended          time.Time
	greeted        bool
	loggedIn       bool
	pending        bool // a command has no reply yet
	passedThrough  bool // the gateway cannot read it
	onlyData       bool // its control connections are closed, and data goes on
	tls            TLS
	typeCode       string      // of representation: "A" or "I"
	data           *data       // the last pinhole; nil: none so far
	dataCount      int         // data connections so far
	transfer       *finalizing // the running one; nil: none
	totals         Totals
	refused        int
	last           *verdict.Fault // the last fault that did not end the session
	completedSince int            // transfers completed after it
	fatal          *verdict.Fault
	goodbye        string // the last line from the gateway
	timeline       timeline
	latest         time.Duration // the time of the latest event: the next one is not earlier
	kill           func()        // nil: it cannot be killed
	killRequested  bool          // by an operator
}

// Data is a negotiated data connection.
type Data struct {
	Mode           string // "PASV", "EPSV", "PORT", "EPRT"; with tracking kernel "passive" or "active"
	Path           string // "kernel" or "relay"
	From           netip.Addr
	Listen, Target netip.AddrPort // of a bridge, Listen is not valid
	SourceIP       netip.Addr
	Active         bool // the server connects
	TLS            TLS  // on the legs where the gateway speaks it
	Meter          Meter
}

// Meter measures a data connection. It must answer as long as anybody asks.
type Meter interface {
	Outcome() pinhole.Outcome
}

// data is a negotiated data connection and what became of it.
type data struct {
	Data
	number          int
	opened          time.Time
	usedByTransfer  bool      // a transfer command used it
	declined        bool      // the server refused that command, and none has come since: nobody need connect
	connectReported bool      // the time line says that its peer connected
	closed          time.Time // zero: it is open
}

// ID returns the identifier of the session, for logs and operators.
func (r *Record) ID() string {
	if r == nil {
		return ""
	}
	return r.id
}

// note adds an event to the time line. The caller holds the lock, as for all unexported methods below.
func (r *Record) note(k Kind, data int, text string) { r.noteAt(time.Now(), k, data, text) }

// noteAt adds an event that happened earlier.
func (r *Record) noteAt(at time.Time, k Kind, data int, text string) {
	r.keep(entry{after: at.Sub(r.began), data: int32(data), kind: k, text: text})
}

// noteNext adds an event that follows at once from the last one.
func (r *Record) noteNext(k Kind, text string) {
	r.keep(entry{after: r.latest, kind: k, text: text})
}

func (r *Record) keep(e entry) {
	r.latest = max(r.latest, e.after)
	grown := r.timeline.add(e, r.log.events.Load() > maxEvents)
	if grown > 0 {
		r.log.events.Add(int64(grown))
	}
}

// locked calls f with the lock held. It does nothing for a nil record.
func (r *Record) locked(f func()) {
	if r == nil {
		return
	}
	r.mu.Lock()
	f()
	r.mu.Unlock()
}

// OnKill sets the function with which Kill ends the session from now on. If Kill was called before, OnKill
// calls the function, too. It must not wait.
func (r *Record) OnKill(kill func()) {
	requested := false
	r.locked(func() { r.kill, requested = kill, r.killRequested })
	if requested {
		kill()
	}
}

// The reasons why Kill cannot end a session.
var (
	ErrEnded           = errors.New("the session has ended already")
	ErrTrackedByKernel = errors.New("the kernel tracks the session, and lets its connections go on")
)

// Kill ends the session for an operator. The error is ErrEnded or ErrTrackedByKernel.
func (r *Record) Kill() error {
	r.mu.Lock()
	kill, ended := r.kill, !r.ended.IsZero()
	r.killRequested = kill != nil
	r.mu.Unlock()
	switch {
	case ended:
		return ErrEnded
	case kill == nil:
		return ErrTrackedByKernel
	}
	kill()
	return nil
}

// TransferStarted records the start of a transfer over the last data connection.
func (r *Record) TransferStarted(at time.Time, verb, file string) {
	r.locked(func() {
		r.transfer = &finalizing{record: r, hasTransfer: true, transfer: Transfer{Verb: verb, File: file,
			Direction: directionOf(verb), Began: at}}
		if t := &r.transfer.transfer; r.data != nil {
			r.data.usedByTransfer, r.data.declined = true, false
			t.number, t.Mode, t.Path, t.TLS = r.data.number, r.data.Mode, r.data.Path, r.data.TLS
		}
	})
}

func directionOf(verb string) Direction {
	switch {
	case verb == "":
		return Unknown
	case ftp.IsUpload(verb):
		return Upload
	}
	return Download
}

// TransferFinished records the end of the transfer. reply is the reply that the client gets. why is the
// reason if it is not complete; nil: the data path or the server know it.
func (r *Record) TransferFinished(complete bool, reply string, why *verdict.Fault) {
	if r == nil {
		return
	}
	now := time.Now()
	if s := r.finish(complete, reply, why, now); s != nil {
		r.log.finalize(s, now)
	}
}

// TransferDeclined records that the server refused the transfer's command with a reply. Its data
// connection waits for another transfer.
func (r *Record) TransferDeclined(reply string) {
	if r == nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	s := r.transfer
	r.transfer = nil
	if s != nil {
		s.transfer.Ended, s.reply = now, reply
		r.describe(&s.transfer)
		if d := r.data; d != nil && d.number == s.transfer.number {
			d.usedByTransfer, d.declined = false, true
		}
	}
	r.mu.Unlock()
	if s != nil {
		r.log.finalize(s, now)
	}
}

// finish ends the running transfer, and returns it for finalizing; nil: none is running.
func (r *Record) finish(complete bool, reply string, why *verdict.Fault, now time.Time) *finalizing {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.transfer
	if s == nil {
		return nil
	}
	r.transfer = nil
	t := &s.transfer
	t.Ended, t.Complete, s.reply, s.why = now, complete, reply, why
	r.describe(t)
	if d := r.data; d != nil && d.number == t.number {
		r.close(d, now)
		s.data = d
	}
	return s
}

// close records the end of a data connection; only the first call counts.
func (r *Record) close(d *data, now time.Time) {
	if d.closed.IsZero() {
		d.closed = now
		r.log.stats.pinholes(d.Path).Add(-1)
	}
}

// finalize adds the result of a data connection, and of its transfer if it had one, to the time line and the
// sums.
func (r *Record) finalize(s *finalizing, o pinhole.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteConnected(s.data, o)
	if !s.hasTransfer {
		switch f, failed := r.dataFault(s.data, o); {
		case failed:
			r.fault(f)
		case o.Connected.IsZero() && s.data.Listen.IsValid():
			r.note(KindPinhole, s.data.number, "closed unused")
		}
		return
	}
	t := &s.transfer
	o = t.inDirection(o)
	t.measure(o, t.Ended)
	came := Totals{Up: o.Up, Down: o.Down, Transfers: 1}
	if !t.Complete {
		came.Transfers, came.Failed = 0, 1
	}
	r.totals.add(came)
	r.stats.count(func(s *ForwardStats) { s.Totals.add(came) })
	if t.Complete {
		r.completedSince++
	} else {
		f := r.whyFailed(s, o)
		t.Verdict = f.Verdict().Text
		r.fault(f)
	}
	r.keep(entry{after: t.Ended.Sub(r.began), kind: KindTransfer, data: int32(t.number),
		words: transferEnded{t.Verb, t.Complete, t.Bytes, t.Ended.Sub(t.Began)}})
}

// whyFailed returns why a transfer failed. The data path knows more than the server says, and the server says
// more than the client was told.
func (r *Record) whyFailed(s *finalizing, o pinhole.Outcome) verdict.Fault {
	aborted := s.why != nil && s.why.Code == verdict.CodeAborted // and that broke the data connection
	serverSays := o.ServerReset && verdict.TellsWhy(s.reply)     // and so it broke the data connection
	if f, failed := r.dataFault(s.data, o); failed && !aborted && !serverSays {
		f.Verb, f.Said = s.transfer.Verb, cmp.Or(f.Said, s.reply)
		return f
	}
	if d := s.data; !aborted && verdict.FailedToConnect(s.reply) && d != nil && d.Meter != nil &&
		d.Listen.IsValid() &&
		o.Connected.IsZero() {
		f := r.neverConnected(d, o, d.closed)
		f.Verb, f.Said = s.transfer.Verb, s.reply
		return f
	}
	if s.why != nil && !serverSays {
		f := *s.why
		f.Verb, f.Said = cmp.Or(f.Verb, s.transfer.Verb), cmp.Or(f.Said, s.reply)
		return f
	}
	return verdict.Fault{Code: verdict.CodeServerRefusedTransfer, Verb: s.transfer.Verb, Said: s.reply}
}

// noteConnected adds to the time line that the peer of a data connection connected.
func (r *Record) noteConnected(d *data, o pinhole.Outcome) {
	if d == nil || d.connectReported || o.Connected.IsZero() {
		return
	}
	d.connectReported = true
	at := o.Connected // when it was reported
	if !d.closed.IsZero() && at.After(d.closed) {
		at = d.closed
	}
	if at.Before(d.opened) {
		at = d.opened
	}
	r.keep(entry{after: at.Sub(r.began), kind: KindData, data: int32(d.number),
		words: dataConnected{at.Sub(d.opened), d.Active, !d.Listen.IsValid()}})
}

func (d *data) outcome() pinhole.Outcome {
	if d.Meter == nil {
		return pinhole.Outcome{}
	}
	return d.Meter.Outcome()
}

// Refuse records something that was refused, corrected, or failed.
func (r *Record) Refuse(f verdict.Fault) {
	r.locked(func() { r.fault(f) })
}

func (r *Record) fault(f verdict.Fault) {
	r.refused++
	if f.Ports.IsEmpty() {
		f.Ports = r.start.Passive
	}
	number := 0
	if r.data != nil && f.At.IsValid() {
		number = r.data.number
	}
	r.stats.count(func(s *ForwardStats) { s.Refused++ })
	v := f.Verdict()
	r.note(KindFault, number, v.Text)
	if f.Fatal && r.fatal == nil {
		r.fatal = &f
	} else if !f.Fatal && !r.killed() {
		r.last, r.completedSince = &f, 0
	}
}

// killed reports whether an operator ended the session. What fails from then on, fails because of that.
func (r *Record) killed() bool { return r.fatal != nil && r.fatal.Code == verdict.CodeKilled }

// Ends records the end of the session; lastLine is the last line that the gateway sent the client, if any.
func (r *Record) Ends(lastLine string) {
	if r == nil {
		return
	}
	now := time.Now()
	if s := r.finish(false, "", r.whyEnded(), now); s != nil {
		r.log.finalize(s, now)
	}
	r.Closed()
	r.mu.Lock()
	if !r.ended.IsZero() {
		r.mu.Unlock()
		return
	}
	r.ended, r.goodbye = time.Now(), lastLine
	text := "ended after " + verdict.Round(r.ended.Sub(r.began)).String()
	if lastLine != "" {
		text += ": " + lastLine
	}
	r.note(KindSession, 0, text)
	served := r.server.IsValid()
	r.mu.Unlock()
	r.log.moveToEnded(r, served)
}

// whyEnded returns why a transfer failed that the end of its session cut off.
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

// forget drops the time line, and returns how many events it had.
func (r *Record) forget() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.timeline.len()
	r.timeline = timeline{}
	return n
}
