package sessions

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

var (
	client  = netip.MustParseAddrPort("192.168.5.1:40000")
	gateway = netip.MustParseAddrPort("192.168.5.2:2121")
	server  = netip.MustParseAddrPort("203.0.113.21:21")
	at      = netip.MustParseAddrPort("192.168.5.2:51234")
)

func start() Start {
	return Start{Forward: "archive", Client: client, Gateway: gateway,
		Passive: forward.PortRange{First: 49152, Last: 65535}}
}

// meter is a data connection whose progress the test sets.
type meter struct{ o pinhole.Outcome }

func (m *meter) Outcome() pinhole.Outcome {
	o := m.o
	o.Counted = true
	return o
}

// logIn has a session stand.
func logIn(l *Log) *Record {
	r := l.Begin(start())
	r.Connected(server, time.Millisecond)
	r.Reply(time.Now(), "220 hello", false)
	r.Command(time.Now(), "USER anna")
	r.User("anna")
	r.Reply(time.Now(), "230 welcome", false)
	r.Login(true)
	return r
}

// openPinhole records a passive data connection.
func openPinhole(r *Record, m Meter) {
	r.Command(time.Now(), "PASV")
	r.Reply(time.Now(), "227 Entering Passive Mode (10,0,0,1,100,1)", false)
	r.Opened(Data{Mode: "PASV", Path: "kernel", From: client.Addr(), Listen: at,
		Target:   netip.AddrPortFrom(server.Addr(), 25601),
		SourceIP: netip.MustParseAddr("203.0.113.1"), Meter: m}, time.Now().Add(-time.Millisecond))
	r.Answer("227 Entering Passive Mode (192,168,5,2,200,34)")
}

func TestTransfer(t *testing.T) {
	l := New(time.Now())
	var finished []Transfer
	l.Finished = func(t Transfer) { finished = append(finished, t) }
	r := logIn(l)
	m := &meter{}
	openPinhole(r, m)
	r.Command(time.Now(), "RETR a")
	r.TransferStarted(time.Now(), "RETR", "a")
	if n := l.Pinholes("kernel"); n != 1 {
		t.Errorf("%d pinholes; want one", n)
	}
	m.o = pinhole.Outcome{Connected: time.Now(), Down: 500}
	s := r.Session(time.Now())
	if s.State != StateTransfer || s.Transfer == nil || s.Transfer.Bytes != 500 ||
		s.Transfer.Direction != Download || s.Transfer.File != "a" ||
		s.User != "anna" || s.Mode != "PASV" || s.Path != "kernel" {
		t.Errorf("got %+v, transfer %+v", s, s.Transfer)
	}
	r.Reply(time.Now(), "226 done", false)
	r.TransferFinished(true, "226 done", nil)
	if len(finished) != 0 {
		t.Errorf("finished before its bytes were counted: %+v", finished)
	}
	l.Finalize(time.Now())
	m.o.Down, m.o.Over = 1000, true
	l.Finalize(time.Now())
	l.Finalize(time.Now())
	if len(finished) != 1 || finished[0].Bytes != 1000 || !finished[0].Complete ||
		finished[0].Session != r.ID() || finished[0].Client != client.Addr() {
		t.Fatalf("got %+v; want one transfer of 1000 bytes", finished)
	}
	r.Ended("")
	e, known := l.Explain(r.ID())
	if !known || e.State != StateEnded || e.Totals != (Totals{Transfers: 1, Down: 1000}) ||
		e.Verdict.Code != verdict.CodeFine {
		t.Errorf("got %+v, %v", e.Session, known)
	}
	if n := l.Pinholes("kernel"); n != 0 {
		t.Errorf("%d pinholes; want none", n)
	}
	if l.Count() != 0 {
		t.Errorf("%d sessions run; want none", l.Count())
	}
}

// A transfer whose bytes are not counted any more is finished all the same.
func TestTransferNeverCounted(t *testing.T) {
	l := New(time.Now())
	n := 0
	l.Finished = func(Transfer) { n++ }
	r := logIn(l)
	openPinhole(r, &meter{pinhole.Outcome{Connected: time.Now()}})
	r.TransferStarted(time.Now(), "STOR", "x")
	r.TransferFinished(true, "226 done", nil)
	l.Finalize(time.Now().Add(finalizeTimeout + time.Second))
	if n != 1 {
		t.Errorf("finished %d times; want once", n)
	}
}

// A time line keeps its beginning and its end, in order.
func TestTimeline(t *testing.T) {
	for _, tight := range []bool{false, true} {
		var line timeline
		for i := range 500 {
			line.add(entry{after: time.Duration(i), kind: KindReply, text: fmt.Sprint(i)}, tight)
		}
		want := keptLast
		if tight {
			want = keptTight
		}
		events := line.events(time.Time{})
		if len(events) != keptFirst+1+want || events[keptFirst].Kind != KindOmitted ||
			events[0].Text != "0" || events[len(events)-1].Text != "499" ||
			events[keptFirst].Text != fmt.Sprintf("%d events are not kept", 500-keptFirst-want) {
			t.Errorf("tight %v: %d events, %v", tight, len(events), events)
		}
		if !slices.IsSortedFunc(events, func(a, b Event) int { return a.At.Compare(b.At) }) {
			t.Errorf("tight %v: not in order: %v", tight, events)
		}
		for i := range 200 { // not tight any more
			line.add(entry{after: time.Duration(500 + i)}, false)
		}
		if events := line.events(time.Time{}); len(events) != keptFirst+1+keptLast ||
			!slices.IsSortedFunc(events, func(a, b Event) int { return a.At.Compare(b.At) }) {
			t.Errorf("tight %v: afterwards %d events, not in order or not as many: %v", tight, len(events),
				events)
		}
	}
	var line timeline
	line.add(entry{text: strings.Repeat("x", 100_000)}, false)
	if n := len(line.events(time.Time{})[0].Text); n > maxText+10 {
		t.Errorf("a text of %d bytes is kept", n)
	}
}

// What has ended is kept, so many and no more; a flood of rejected clients pushes no other session out.
func TestEnded(t *testing.T) {
	l := New(time.Now())
	first := logIn(l)
	first.Ended("")
	for range 3 * keptEnded {
		r := l.Begin(start())
		r.Refuse(verdict.Fault{Code: verdict.CodeTooManySessions, Fatal: true})
		r.Ended("421 too many")
	}
	if _, known := l.Explain(first.ID()); !known {
		t.Error("the first session is forgotten for those that were turned away")
	}
	events := l.events.Load()
	for range 2 * keptEnded {
		logIn(l).Ended("")
	}
	if _, known := l.Explain(first.ID()); known {
		t.Error("the first session is kept for ever")
	}
	ended := slices.Collect(l.Ended())
	if len(ended) != keptEnded+keptRejected || !slices.IsSortedFunc(ended, func(a,
		b Session) int {
		return a.Since.Compare(b.Since)
	}) {
		t.Errorf("%d are kept; want %d, in order", len(ended), keptEnded+keptRejected)
	}
	if got := l.events.Load(); got > events+7*keptEnded {
		t.Errorf("%d events count, %d before: those of forgotten sessions do too", got, events)
	}
}

// Kill reaches a session in whatever state it is, also if that state has just begun.
func TestKill(t *testing.T) {
	r := logIn(New(time.Now()))
	if err := r.Kill(); err != ErrTrackedByKernel {
		t.Errorf("without OnKill: got %v; want %v", err, ErrTrackedByKernel)
	}
	var killed []string
	r.OnKill(func() { killed = append(killed, "dial") })
	if err := r.Kill(); err != nil {
		t.Error(err)
	}
	r.OnKill(func() { killed = append(killed, "session") })
	if want := []string{"dial", "session"}; !slices.Equal(killed, want) {
		t.Errorf("got %q killed; want %q", killed, want)
	}
	r.Ended("")
	if err := r.Kill(); err != ErrEnded || len(killed) != 2 {
		t.Errorf("after the end: got %v, killed %q; want %v", err, killed, ErrEnded)
	}
}

func TestFind(t *testing.T) {
	l := New(time.Now())
	r := logIn(l)
	for id, want := range map[string]bool{r.ID(): true, "1": true, "2": false, "x-1": false, "": false,
		"-1": false, r.ID() + "0": false} {
		if got := l.Find(id) == r; got != want {
			t.Errorf("%q: found %v; want %v", id, got, want)
		}
	}
	r.Ended("")
	if _, known := l.Explain("1"); !known || l.Find("1") != r {
		t.Error("a session that has ended is not found")
	}
	later := New(time.Now().Add(2 * time.Second))
	if logIn(later).ID() == r.ID() {
		t.Error("two runs have the same identifiers")
	}
}

// A nil record and a nil log do nothing.
func TestNothing(t *testing.T) {
	var l *Log
	r := l.Begin(start())
	r.Connected(server, 0)
	r.Command(time.Now(), "NOOP")
	r.Refuse(verdict.Fault{})
	r.TransferStarted(time.Now(), "RETR", "x")
	r.TransferFinished(true, "", nil)
	r.Closed()
	r.Ended("")
	if r.ID() != "" {
		t.Errorf("got %q", r.ID())
	}
}

func BenchmarkTransfer(b *testing.B) {
	l := New(time.Now())
	r := logIn(l)
	m := &meter{pinhole.Outcome{Connected: time.Now(), Over: true}}
	b.ReportAllocs()
	for b.Loop() {
		openPinhole(r, m)
		r.Command(time.Now(), "RETR some/file")
		r.TransferStarted(time.Now(), "RETR", "some/file")
		r.Reply(time.Now(), "150 here it comes", false)
		r.Reply(time.Now(), "226 done", false)
		r.TransferFinished(true, "226 done", nil)
		r.Closed()
	}
}
