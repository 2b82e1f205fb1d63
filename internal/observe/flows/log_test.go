package flows

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/verdict"
)

// stray is the first segment of a connection to the pinhole that no rule leads on.
func stray(from string, when time.Time) netflow.Segment {
	return netflow.Segment{At: when, From: at(from), To: testPinhole.Listen, SYN: true, Sequence: dialFirst - 1}
}

// logged are segments between the two ends.
func logged(w *Watcher, when time.Time, segments ...said) {
	for _, s := range segments {
		one := s.segment()
		one.At = when
		w.Segment(one)
	}
}

var (
	repeated = said{false, "S", dialFirst - 1, 0, 0}
	taken    = said{true, "SA", farFirst - 1, dialFirst, 0}
	refusing = said{true, "RA", 0, dialFirst, 0}
)

// A transfer of which the log tells alone: the kernel is not asked.
func TestLog(t *testing.T) {
	w, table, _ := stage()
	h := w.Await(testPinhole)
	now := time.Now()
	w.Segment(stray("192.168.5.77:3000", now))
	if p := h.Progress(); p.Stranger != netip.MustParseAddr("192.168.5.77") || !p.Connected.IsZero() {
		t.Errorf("got %+v; want a stranger, and nobody else", p)
	}
	logged(w, now, taken)
	if p := h.Progress(); p.Connected != now || p.Over {
		t.Errorf("got %+v; want the client to have come", p)
	}
	logged(w, now, ending...)
	look(t, w, now)
	if p := h.Progress(); p.Down != 700 || !p.Over || p.Fault != nil || table.asked != 0 {
		t.Errorf("got %+v, %d flows asked for; want 700 bytes, and none", p, table.asked)
	}
	if len(w.awaited)+len(w.pending)+len(w.running) != 0 || w.ports[testPinhole.Listen.Port()] != 0 {
		t.Error("something is kept")
	}
}

// One that lasts is found in the table, and so it is where an event tells of it, too, before the log or after it.
func TestLogAndTable(t *testing.T) {
	for name, told := range map[string]struct{ before, after bool }{"log alone": {}, "event first": {before: true}, "log first": {after: true}} {
		w, table, _ := stage()
		h := w.Await(testPinhole)
		now := time.Now()
		f := through(1)
		f.State, f.Replied, f.Received.Bytes = netflow.TCPEstablished, true, 500
		table.flows[f.Original] = f
		event := netflow.FlowEvent{Change: netflow.FlowNew, Flow: f, At: now}
		if told.before {
			_ = w.Handle(event)
		}
		logged(w, now, taken)
		if told.after {
			_ = w.Handle(event)
		}
		look(t, w, now)
		if p := h.Progress(); p.Connected != now || p.Down != 500 || p.Over || p.Fault != nil {
			t.Errorf("%s: got %+v; want 500 bytes down so far", name, p)
		}
		h.Sever()
		if len(table.flows) != 0 {
			t.Errorf("%s: the flow was not severed", name)
		}
	}
}

// A connection that is to be severed may be there before the log tells of it.
func TestSeverBeforeLog(t *testing.T) {
	w, table, _ := stage()
	h := w.Await(testPinhole)
	f := through(1)
	f.State, f.Replied = netflow.TCPEstablished, true
	if h.Sever(); table.searched != 1 {
		t.Errorf("%d searches; want one", table.searched)
	}
	table.flows[f.Original] = f
	if h.Sever(); len(table.flows) != 0 || h.Progress().Connected.IsZero() {
		t.Errorf("%d flows are left, connected %s", len(table.flows), h.Progress().Connected)
	}
	late := w.Await(testPinhole)
	late.Release(true)
	now := time.Now()
	look(t, w, now)
	look(t, w, now.Add(lateTime))
	table.flows[f.Original] = f
	if late.Sever(); len(table.flows) != 1 || w.ports[testPinhole.Listen.Port()] != 0 {
		t.Errorf("%d flows are left, %d holes are awaited; want what came later to stay", len(table.flows), w.ports[testPinhole.Listen.Port()])
	}
}

// What comes to the pinhole's place and is not led on: a filter has dropped the first segment, and the pinhole serves no
// second one; or it has expired.
func TestLogStrays(t *testing.T) {
	for after, want := range map[time.Duration]verdict.Code{time.Second: verdict.CodeFiltered, time.Minute: verdict.CodeTooLate} {
		w, _, _ := stage()
		h := w.Await(testPinhole)
		now := h.opened.Add(after)
		w.Segment(stray("192.168.5.1:3000", now))
		w.Segment(stray("192.168.5.1:3000", now.Add(time.Hour)))
		if p := h.Progress(); p.Fault == nil || p.Fault.Code != want || p.Fault.Waited != after || !p.Connected.IsZero() || p.Stranger.IsValid() {
			t.Errorf("after %s: got %+v, fault %+v; want %s", after, p, p.Fault, want)
		}
		elsewhere := stray("192.168.5.1:3000", now)
		elsewhere.To = at("192.168.5.3:50000")
		if w.segment(elsewhere); len(w.awaited) != 1 {
			t.Error("a segment to another address has ended the wait")
		}
	}
}

// The far end does not take the connection: it says so, or nothing, so that the first segment is sent again.
func TestLogNotTaken(t *testing.T) {
	for name, s := range map[string]said{"refused": refusing, "silent": repeated} {
		w, table, _ := stage()
		h := w.Await(testPinhole)
		now := time.Now()
		if s.kind == "S" {
			f := through(1)
			table.flows[f.Original] = f
		}
		logged(w, now, s)
		if p := h.Progress(); p.Connected != now || p.Fault != nil {
			t.Errorf("%s: got %+v; want the client to have come", name, p)
		}
		look(t, w, now.Add(silentTime+1))
		if p := h.Progress(); p.Fault == nil || p.Fault.Code != verdict.CodeServerData || p.Over != (name == "refused") {
			t.Errorf("%s: got %+v, fault %+v; want that the server does not take it", name, p, p.Fault)
		}
	}
}

// Who gives up before the far end has answered has an end at once.
func TestGivenUp(t *testing.T) {
	w, table, _ := stage()
	h := w.Await(testPinhole)
	now := time.Now()
	come(t, w, table, through(1), now)
	look(t, w, now)
	if p := h.Progress(); p.Over || p.Fault != nil {
		t.Errorf("got %+v; want an answer to be awaited", p)
	}
	h.Release(false)
	look(t, w, now)
	if p := h.Progress(); !p.Over || codeOf(p.Fault) != verdict.CodeServerData || len(w.running) != 0 {
		t.Errorf("got %+v, fault %+v; want that the server does not take it", p, p.Fault)
	}
}

// What the table has lost before anybody asked: the answer is in the log or was never given, and another connection may
// be in the place.
func TestLogGone(t *testing.T) {
	own := through(1)
	own.Reply = netflow.Tuple{From: own.Original.To, To: own.Original.From}
	for name, tt := range map[string]struct {
		s     said
		table netflow.Flow
		want  bool // that it was not led
	}{"taken": {s: taken}, "not taken": {repeated, netflow.Flow{}, true}, "another": {repeated, own, true}} {
		w, table, _ := stage()
		h := w.Await(testPinhole)
		now := time.Now()
		logged(w, now, tt.s)
		look(t, w, now)
		if h.Progress().Over != (name == "taken") {
			t.Errorf("%s: the log may be behind, or it is not", name)
		}
		if tt.table.ID != 0 {
			table.flows[own.Original] = own
		}
		look(t, w, now.Add(Interval))
		p := h.Progress()
		if !p.Over || p.Connected.IsZero() != tt.want || (p.Fault != nil) != tt.want {
			t.Errorf("%s: got %+v, fault %+v; want it to be over", name, p, p.Fault)
		}
	}
}

// Servers may offer the same port again. A connection of the log is the new hole's, unless the old one's transfer is over
// and the log behind.
func TestLogPortAgain(t *testing.T) {
	for _, used := range []bool{true, false} {
		w, _, _ := stage()
		old := w.Await(testPinhole)
		old.Release(used)
		hole := testPinhole
		hole.Listen = at("192.168.5.2:50001")
		h := w.Await(hole)
		now := time.Now()
		logged(w, now, taken)
		if old.Progress().Connected.IsZero() == used || h.Progress().Connected.IsZero() != used {
			t.Errorf("used %v: got %+v of the old one, and %+v", used, old.Progress(), h.Progress())
		}
		other := taken.segment()
		other.To, other.At = at("192.168.5.1:3001"), now
		w.Segment(other)
		if h.Progress().Connected.IsZero() {
			t.Error("the new hole's connection is nobody's")
		}
	}
}
