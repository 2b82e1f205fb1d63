package sessions

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// The sums of a session grow while its data runs, and a transfer counts as soon as the server has called it
// complete, also while its bytes are still counted.
func TestTotalsSoFar(t *testing.T) {
	r := logIn(New(time.Now()))
	m := &meter{pinhole.Outcome{Connected: time.Now(), Down: 500}}
	openPinhole(r, m)
	r.TransferStarted(time.Now(), "RETR", "a")
	if got := r.Session(time.Now()); got.Totals != (Totals{Down: 500}) || got.Transfer.Bytes != 500 {
		t.Errorf("while data runs: got %+v, transfer %+v; want 500 bytes in both", got.Totals, got.Transfer)
	}
	m.o.Down = 700
	r.TransferFinished(true, "226 done", nil)
	got := r.Session(time.Now())
	if want := (Totals{Transfers: 1, Down: 700}); got.Totals != want ||
		got.Verdict.Text != "nothing went wrong: 1 transfer, 0 bytes up, 700 down so far, while "+
			"bytes are counted" {
		t.Errorf("behind the 226: got %+v, %+v; want %+v", got.Totals, got.Verdict, want)
	}
	m.o.Down, m.o.Over = 1000, true
	r.log.Finalize(time.Now())
	if got, want := r.Session(time.Now()).Totals, (Totals{Transfers: 1, Down: 1000}); got != want {
		t.Errorf("counted: got %+v; want %+v", got, want)
	}
}

// A data connection that fails before a transfer uses it counts as one that failed; what is refused counts as
// refused. Neither counts as the other.
func TestFailedAndRefused(t *testing.T) {
	l := New(time.Now())
	var reported []string
	l.DataFailed = func(forward, path string) { reported = append(reported, forward+" "+path) }
	r := logIn(l)
	openPinhole(r, &meter{pinhole.Outcome{Over: true}})
	late(r)
	r.Closed()
	openPinhole(r, &meter{pinhole.Outcome{Over: true}}) // closed at once: no peer was expected
	r.Closed()
	r.Refuse(verdict.Fault{Code: verdict.CodeLowPort})
	r.Fault(verdict.Fault{Code: verdict.CodeKilled, Fatal: true})
	s, sums := r.Session(time.Now()), l.Sums()
	if s.Totals.Failed != 1 || s.Refused != 1 || sums.Failed != 1 || sums.Refused != 1 || sums.Sessions != 1 {
		t.Errorf("got %+v, %d refused, in all %+v; want one of each", s.Totals, s.Refused, sums)
	}
	if len(reported) != 1 || reported[0] != "archive kernel" {
		t.Errorf("got %q; want one failure of archive over the kernel", reported)
	}
}

// A session whose verdict is not known at its end is reported once, when it is.
func TestFinalized(t *testing.T) {
	for name, tt := range map[string]struct {
		tracking forward.Tracking
		over     bool // what became of the data connection is known at the end
		final    bool
		reports  int
	}{
		"known at the end":           {forward.TrackingProxy, true, true, 0},
		"known later":                {forward.TrackingProxy, false, false, 1},
		"of the kernel":              {forward.TrackingKernel, true, true, 1},
		"of the kernel, known later": {forward.TrackingKernel, false, false, 1},
	} {
		l := New(time.Now())
		var reported []Session
		l.Finalized = func(s Session) { reported = append(reported, s) }
		o := start()
		o.Tracking = tt.tracking
		r := l.Begin(o)
		r.Connected(server, 0)
		r.Reply(time.Now(), "230 welcome", false)
		m := &meter{pinhole.Outcome{Over: tt.over}}
		openPinhole(r, m)
		late(r)
		ended, final := r.Ended("")
		if final != tt.final || final && ended.Verdict.Code != verdict.CodeClientNeverConnected {
			t.Errorf("%s: ended with %+v, final %v; want %v", name, ended.Verdict, final, tt.final)
		}
		if l.Finalize(time.Now()); !tt.over && len(reported) != 0 {
			t.Errorf("%s: reported before it is known: %+v", name, reported)
		}
		m.o.Over = true
		l.Finalize(time.Now())
		l.Finalize(time.Now())
		if len(reported) != tt.reports {
			t.Fatalf("%s: reported %d times; want %d", name, len(reported), tt.reports)
		}
		if tt.reports > 0 && (!reported[0].Failed() ||
			reported[0].Verdict.Code != verdict.CodeClientNeverConnected) {
			t.Errorf("%s: reported %+v", name, reported[0].Verdict)
		}
	}
}

// What is not counted is neither missing nor unused.
func TestUncounted(t *testing.T) {
	l := New(time.Now())
	l.Unused = func(string, string) { t.Error("reported as unused") }
	l.Used = func(string, string) { t.Error("reported as used") }
	r := logIn(l)
	openPinhole(r, uncounted{})
	late(r)
	if v := r.Session(time.Now()).Verdict; v.Code != verdict.CodeFine {
		t.Errorf("while it is open: got %+v; want nothing wrong", v)
	}
	r.Closed()
	openPinhole(r, uncounted{})
	r.TransferStarted(time.Now(), "RETR", "a")
	late(r)
	r.TransferFinished(true, "226 done", nil)
	if s := r.Session(time.Now()); s.Verdict.Code != verdict.CodeFine || s.Totals.Transfers != 1 {
		t.Errorf("got %+v, %+v; want a transfer and nothing wrong", s.Totals, s.Verdict)
	}
}

type uncounted struct{}

func (uncounted) Outcome() pinhole.Outcome { return pinhole.KernelOutcome() }

// The record names what carries the data connection, also where that is chosen after it was opened.
func TestPathFollows(t *testing.T) {
	l := New(time.Now())
	r := logIn(l)
	m := &meter{pinhole.Outcome{Path: forward.DataKernel}}
	openPinhole(r, m)
	m.o = pinhole.Outcome{Path: forward.DataRelay, Connected: time.Now()}
	r.TransferStarted(time.Now(), "RETR", "a")
	s := r.Session(time.Now())
	if s.Path != "relay" || s.Transfer.Path != "relay" || l.Pinholes("kernel") != 0 ||
		l.Pinholes("relay") != 1 {
		t.Errorf("got %q, transfer %q, %d and %d pinholes; want the relay", s.Path, s.Transfer.Path,
			l.Pinholes("kernel"), l.Pinholes("relay"))
	}
	m.o.Over = true
	if r.TransferFinished(true, "226", nil); l.Pinholes("relay") != 0 {
		t.Errorf("at the end got %d pinholes", l.Pinholes("relay"))
	}
}

// A transfer in which nothing moves is mentioned; one that moves is not, however slowly.
func TestStalled(t *testing.T) {
	l := New(time.Now())
	r := logIn(l)
	m := &meter{pinhole.Outcome{Connected: time.Now()}}
	openPinhole(r, m)
	now := time.Now()
	r.TransferStarted(now, "RETR", "a")
	for range 30 {
		now = now.Add(moveInterval)
		m.o.Down++
		l.Finalize(now)
	}
	if v := r.Session(now).Verdict; v.Code != verdict.CodeFine {
		t.Errorf("while it moves: got %+v", v)
	}
	for range 12 {
		now = now.Add(moveInterval)
		l.Finalize(now)
	}
	const want = "so far nothing has moved over the data connection of RETR for 12 s"
	if v := r.Session(now).Verdict; v.Code != verdict.CodeWaiting || v.Text != want {
		t.Errorf("got %+v; want %q", v, want)
	}
}

// A server that does not greet is named, unless its greeting waits for the client's TLS handshake.
func TestNoGreeting(t *testing.T) {
	for clientTLS, want := range map[bool]verdict.Code{false: verdict.CodeWaiting, true: verdict.CodeFine} {
		o := start()
		o.ClientTLS = clientTLS
		r := New(time.Now()).Begin(o)
		r.Connected(server, 0)
		if v := r.Session(time.Now().Add(time.Minute)).Verdict; v.Code != want {
			t.Errorf("client TLS %v: got %+v; want %s", clientTLS, v, want)
		}
	}
}

// A server that names another host than the gateway connects to is told so, if it does not take the
// connection.
func TestNamesAnotherHost(t *testing.T) {
	r := logIn(New(time.Now()))
	o := pinhole.Outcome{Over: true, Failure: &pinhole.Failure{Fault: verdict.Fault{
		Code: verdict.CodeServerDataUnreachable, At: netip.AddrPortFrom(server.Addr(), 50999),
		Err: "connection refused"}}}
	r.Opened(Data{Mode: "PASV", Path: "relay", From: client.Addr(), Listen: at,
		Named: netip.MustParseAddr("10.0.0.5"), Meter: &meter{o}}, time.Now())
	r.TransferStarted(time.Now(), "RETR", "a")
	r.TransferFinished(false, "425 no", nil)
	v := r.Session(time.Now()).Verdict
	const want = "the server does not accept data connections at 203.0.113.21:50999: connection refused " +
		"(its reply named 10.0.0.5; the gateway connects to no other host)"
	if v.Text != want {
		t.Errorf("got %+v; want %q", v, want)
	}
}
