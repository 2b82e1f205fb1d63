package sessions

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// Record records one session. A nil record records nothing. Its methods may be called from several
// goroutines; none blocks.
type Record struct {
	log    *Log
	number uint64
	id     string
	start  Start
	stats  *forwardStats // of its forward
	began  time.Time

	mu            sync.Mutex
	server        netip.AddrPort
	user          string
	active        time.Time
	ended         time.Time
	greeted       bool
	loggedIn      bool
	pending       bool      // a command has no reply yet
	pendingVerb   string    // the last command's
	pendingSince  time.Time // when it arrived, or the server was connected
	passedThrough bool      // the gateway cannot read it
	onlyData      bool      // its control connections are closed, and data connections continue
	tls           TLS
	certificate   string      // whose certificate the client presents; "": none
	typeCode      string      // of representation: "A" or "I"
	data          *data       // the last pinhole; nil: none so far
	dataCount     int         // data connections so far
	transfer      *finalizing // the running one; nil: none
	moved         int64       // its bytes, at the last check
	movedAt       time.Time   // when a check last found more of them
	results       results
	finalizing    []*finalizing // over, and not in results yet: the bytes are still counted
	refused       int
	serverRefused *verdict.Fault // the last command but transfers that the server refused; nil: none
	fatal         *verdict.Fault
	goodbye       string // the last line from the gateway
	timeline      timeline
	latest        time.Duration // the time of the latest event: the next one is not earlier
	kill          func()        // nil: it cannot be killed
	killRequested bool          // by an operator
}

// Data is a negotiated data connection.
type Data struct {
	Mode           string // "PASV", "EPSV", "PORT", "EPRT"; with tracking kernel "passive" or "active"
	Path           string // "kernel" or "relay"
	From           netip.Addr
	Listen, Target netip.AddrPort // of a bridge, Listen is not valid
	SourceIP       netip.Addr
	Named          netip.Addr // the other host that the server's reply named; not valid: none
	Active         bool       // the server connects
	TLS            TLS        // on the legs where the gateway speaks it
	Meter          Meter
}

// Meter measures a data connection. It must answer at any time, also after the connection's end.
type Meter interface {
	Outcome() pinhole.Outcome
}

// data is a negotiated data connection and its outcome.
type data struct {
	Data
	number          int
	opened          time.Time
	usedByTransfer  bool      // a transfer command used it
	declined        bool      // the server refused that command, and none followed: no peer need connect
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

// noteNext adds an event that follows directly from the last one, with its time.
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
	ErrTrackedByKernel = errors.New("the kernel tracks the session, and keeps its connections")
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
			r.followPath(r.data, r.data.outcome())
			t.number, t.Mode, t.Path, t.TLS = r.data.number, r.data.Mode, r.data.Path, r.data.TLS
		}
		r.moved, r.movedAt = 0, at
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
	if s := r.endTransfer(complete, reply, why, now); s != nil {
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
		r.finalizing = append(r.finalizing, s)
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

// endTransfer ends the running transfer, and returns it for finalizing; nil: none is running.
func (r *Record) endTransfer(complete bool, reply string, why *verdict.Fault, now time.Time) *finalizing {
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
		s.data = d
		o := d.outcome()
		r.followPath(d, o)
		t.Path, s.brokeBefore = d.Path, o.Failure != nil
		r.close(d, now)
	}
	r.finalizing = append(r.finalizing, s)
	return s
}

// close records the end of a data connection; only the first call counts.
func (r *Record) close(d *data, now time.Time) {
	if d.closed.IsZero() {
		d.closed = now
		r.log.stats.pinholes(d.Path).Add(-1)
	}
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

// outcome returns the outcome of a data connection so far; the zero Outcome if there is none, or no meter.
func (d *data) outcome() pinhole.Outcome {
	if d == nil || d.Meter == nil {
		return pinhole.Outcome{}
	}
	return d.Meter.Outcome()
}

// Refuse records a refusal or a correction.
func (r *Record) Refuse(f verdict.Fault) {
	r.locked(func() {
		r.refused++
		r.stats.count(func(s *ForwardStats) { s.Refused++ })
		r.fault(f)
	})
}

// Fault records a failure, or the end of the session, without a refusal.
func (r *Record) Fault(f verdict.Fault) {
	r.locked(func() { r.fault(f) })
}

func (r *Record) fault(f verdict.Fault) {
	if f.Ports.IsEmpty() {
		f.Ports = r.start.Passive
	}
	number := 0
	if r.data != nil && f.At.IsValid() {
		number = r.data.number
	}
	r.note(KindFault, number, f.Verdict().Text)
	if f.Fatal && r.fatal == nil {
		r.fatal = &f
	} else if !f.Fatal && !r.killed() {
		r.results.fault(&f)
	}
}

// killed reports whether an operator ended the session, or banned its client. Later failures are a
// consequence.
func (r *Record) killed() bool {
	return r.fatal != nil && (r.fatal.Code == verdict.CodeKilled || r.fatal.Code == verdict.CodeBanned)
}

// Ended records the end of the session; lastLine is the last line that the gateway sent the client, if any.
// It returns the session at its end. final reports whether that does not change any more; else, and for a
// session that the kernel tracks, Hooks.Finalized gets the final session.
func (r *Record) Ended(lastLine string) (ended Session, final bool) {
	if r == nil {
		return Session{}, true
	}
	now := time.Now()
	if s := r.endTransfer(false, "", r.whyEnded(), now); s != nil {
		r.log.finalize(s, now)
	}
	r.Closed()
	r.mu.Lock()
	if !r.ended.IsZero() {
		defer r.mu.Unlock()
		return r.session(now), true
	}
	r.noteUnanswered(now)
	r.ended, r.goodbye = time.Now(), lastLine
	text := "ended after " + verdict.Round(r.ended.Sub(r.began)).String()
	if lastLine != "" {
		text += ": " + lastLine
	}
	r.note(KindSession, 0, text)
	served := r.server.IsValid()
	ended, final = r.session(now), r.isFinal()
	r.mu.Unlock()
	r.log.moveToEnded(r, served, !final || r.start.Tracking == forward.TrackingKernel)
	return ended, final
}

// isFinal reports whether the verdict of an ended session is final.
func (r *Record) isFinal() bool {
	return len(r.finalizing) == 0 || r.killed() || r.fatal != nil && !r.fatal.ExplainsNothing()
}

// whyEnded returns why a transfer failed that the end of its session interrupted.
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
