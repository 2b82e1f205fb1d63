package flows

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/verdict"
)

// untranslated returns the first segment of a connection to testPinhole that no rule translates.
func untranslated(from string, when time.Time) netflow.Segment {
	return netflow.Segment{At: when, From: at(from), To: testPinhole.Listen, SYN: true,
		Sequence: dialFirst - 1}
}

// handle gives the watcher segments between the two ends.
func handle(w *Watcher, when time.Time, segments ...testSegment) {
	for _, s := range segments {
		one := s.segment()
		one.At = when
		w.HandleSegment(one)
	}
}

var (
	repeated = testSegment{false, "S", dialFirst - 1, 0, 0}
	accepted = testSegment{true, "SA", farFirst - 1, dialFirst, 0}
	rejected = testSegment{true, "RA", 0, dialFirst, 0}
)

// For a transfer that is complete in the log, the watcher does not ask the kernel.
func TestLog(t *testing.T) {
	w, table, _ := newTestWatcher()
	x := w.Expect(testPinhole)
	now := time.Now()
	w.HandleSegment(untranslated("192.168.5.77:3000", now))
	if o := x.Outcome(); o.UnexpectedPeer != netip.MustParseAddr("192.168.5.77") || !o.Connected.IsZero() {
		t.Errorf("got %+v; want an unexpected peer, and no connection", o)
	}
	handle(w, now, accepted)
	if o := x.Outcome(); o.Connected != now || o.Over {
		t.Errorf("got %+v; want the client's connection", o)
	}
	handle(w, now, ending...)
	poll(t, w, now)
	if o := x.Outcome(); o.Down != 700 || !o.Over || o.Fault() != nil || table.asked != 0 {
		t.Errorf("got %+v, %d flows asked for; want 700 bytes, and none", o, table.asked)
	}
	if len(w.expected)+len(w.unassigned)+len(w.active) != 0 ||
		w.expectedAt[testPinhole.Listen.Port()] != nil {
		t.Error("got something kept; want nothing")
	}
}

// A longer transfer is found in the table, also if an event shows it before the log or after it.
func TestLogAndTable(t *testing.T) {
	for name, event := range map[string]struct{ before, after bool }{
		"log alone":   {},
		"event first": {before: true},
		"log first":   {after: true},
	} {
		w, table, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		now := time.Now()
		f := pinholeFlow(1)
		f.State, f.Replied, f.Received.Bytes = netflow.TCPEstablished, true, 500
		table.flows[f.Original] = f
		began := netflow.FlowEvent{Change: netflow.FlowNew, Flow: f, At: now}
		if event.before {
			_ = w.HandleEvent(began)
		}
		handle(w, now, accepted)
		if event.after {
			_ = w.HandleEvent(began)
		}
		poll(t, w, now)
		if o := x.Outcome(); o.Connected != now || o.Down != 500 || o.Over || o.Fault() != nil {
			t.Errorf("%s: got %+v; want 500 bytes down so far", name, o)
		}
		x.Sever()
		if len(table.flows) != 0 {
			t.Errorf("%s: got the flow still there; want it deleted", name)
		}
	}
}

// Sever finds a connection in the table that the log has not shown yet.
func TestSeverBeforeLog(t *testing.T) {
	w, table, _ := newTestWatcher()
	x := w.Expect(testPinhole)
	f := pinholeFlow(1)
	f.State, f.Replied = netflow.TCPEstablished, true
	if x.Sever(); table.searched != 1 {
		t.Errorf("got %d searches; want 1", table.searched)
	}
	table.flows[f.Original] = f
	if x.Sever(); len(table.flows) != 0 || x.Outcome().Connected.IsZero() {
		t.Errorf("got %d flows left, connected %s; want none, and a connection",
			len(table.flows), x.Outcome().Connected)
	}
	late := w.Expect(testPinhole)
	late.Release(true)
	now := time.Now()
	poll(t, w, now)
	poll(t, w, now.Add(eventLag))
	table.flows[f.Original] = f
	if late.Sever(); len(table.flows) != 1 || w.expectedAt[testPinhole.Listen.Port()] != nil {
		t.Errorf(
			"got %d flows left, expectation %v; want the later flow to stay, and none",
			len(table.flows),
			w.expectedAt[testPinhole.Listen.Port()],
		)
	}
}

// A first packet is repeated without a connection: a filter has dropped it after the pinhole. Or the pinhole
// has expired; then one says it.
func TestLogUnmatched(t *testing.T) {
	for name, tt := range map[string]struct {
		after time.Duration
		kept  bool // the pinhole lives on
		first verdict.Code
		again verdict.Code
	}{
		"dropped":        {time.Second, false, "", verdict.CodeGatewayFilter},
		"too late":       {time.Minute, false, verdict.CodeClientTooLate, verdict.CodeClientTooLate},
		"late, but open": {time.Minute, true, "", verdict.CodeGatewayFilter},
	} {
		w, _, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		x.Keep(tt.kept)
		now := x.opened.Add(tt.after)
		w.HandleSegment(untranslated("192.168.5.1:2999", now))
		w.HandleSegment(untranslated("192.168.5.1:3000", now))
		if got := codeOf(x.Outcome().Fault()); got != tt.first {
			t.Errorf("%s: got fault %q after a first packet; want %q", name, got, tt.first)
		}
		w.HandleSegment(untranslated("192.168.5.1:3000", now))
		w.HandleSegment(untranslated("192.168.5.1:3000", now.Add(time.Hour)))
		if o := x.Outcome(); codeOf(o.Fault()) != tt.again || o.Fault().Waited != tt.after ||
			!o.Connected.IsZero() || o.UnexpectedPeer.IsValid() {
			t.Errorf("%s: got %+v, fault %+v; want %s", name, o, o.Fault(), tt.again)
		}
		elsewhere := untranslated("192.168.5.1:3000", now)
		elsewhere.To = at("192.168.5.3:50000")
		if w.handleSegment(elsewhere); len(w.expected) != 1 {
			t.Error("got the expectation gone after a segment to another address; want it to stay")
		}
	}
}

// The far end does not accept the connection: it sends a reset, or nothing, so that the first segment is
// repeated.
func TestLogNotAccepted(t *testing.T) {
	for name, s := range map[string]testSegment{"refused": rejected, "silent": repeated} {
		w, table, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		now := time.Now()
		if s.kind == "S" {
			f := pinholeFlow(1)
			table.flows[f.Original] = f
		}
		handle(w, now, s)
		if o := x.Outcome(); o.Connected != now || o.Fault() != nil {
			t.Errorf("%s: got %+v; want the client to have come", name, o)
		}
		poll(t, w, now.Add(answerWait+1))
		if o := x.Outcome(); o.Fault() == nil || o.Fault().Code != verdict.CodeServerDataUnreachable ||
			o.Over != (name == "refused") {
			t.Errorf("%s: got %+v, fault %+v; want that the server does not accept it", name, o, o.Fault())
		}
	}
}

// If the client gives up before the far end has answered, the connection ends at once.
func TestGivenUp(t *testing.T) {
	w, table, _ := newTestWatcher()
	x := w.Expect(testPinhole)
	now := time.Now()
	newFlow(t, w, table, pinholeFlow(1), now)
	poll(t, w, now)
	if o := x.Outcome(); o.Over || o.Fault() != nil {
		t.Errorf("got %+v; want it to wait for an answer", o)
	}
	x.Release(false)
	poll(t, w, now)
	if o := x.Outcome(); !o.Over || codeOf(o.Fault()) != verdict.CodeServerDataUnreachable ||
		len(w.active) != 0 {
		t.Errorf("got %+v, fault %+v; want that the server does not accept it", o, o.Fault())
	}
}

// The table has lost a connection before the first poll: the log has the answer, or there was none, and
// another connection may have its tuple.
func TestLogGone(t *testing.T) {
	own := pinholeFlow(1)
	own.Reply = netflow.Tuple{From: own.Original.To, To: own.Original.From}
	for name, tt := range map[string]struct {
		s     testSegment
		table netflow.Flow
		want  bool // that it was not translated
	}{
		"accepted":     {s: accepted},
		"not accepted": {repeated, netflow.Flow{}, true},
		"another":      {repeated, own, true},
	} {
		w, table, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		now := time.Now()
		handle(w, now, tt.s)
		poll(t, w, now)
		if got, want := x.Outcome().Over, name == "accepted"; got != want {
			t.Errorf("%s: got over %t; want %t, as the log may be late", name, got, want)
		}
		if tt.table.ID != 0 {
			table.flows[own.Original] = own
		}
		poll(t, w, now.Add(PollInterval))
		o := x.Outcome()
		if !o.Over || o.Connected.IsZero() != tt.want || (o.Fault() != nil) != tt.want {
			t.Errorf("%s: got %+v, fault %+v; want it to be over", name, o, o.Fault())
		}
	}
}

// Servers may offer the same port again. A logged connection belongs to the new expectation, unless the old
// one's transfer is over and the log is late.
func TestLogPortAgain(t *testing.T) {
	for _, used := range []bool{true, false} {
		w, _, _ := newTestWatcher()
		old := w.Expect(testPinhole)
		old.Release(used)
		p := testPinhole
		p.Listen = at("192.168.5.2:50001")
		x := w.Expect(p)
		now := time.Now()
		handle(w, now, accepted)
		if old.Outcome().Connected.IsZero() == used || x.Outcome().Connected.IsZero() != used {
			t.Errorf("used %v: got old %+v, new %+v; want the connection at the right one",
				used, old.Outcome(), x.Outcome())
		}
		other := accepted.segment()
		other.To, other.At = at("192.168.5.1:3001"), now
		w.HandleSegment(other)
		if x.Outcome().Connected.IsZero() {
			t.Error("got no connection for the new expectation; want one")
		}
	}
}
