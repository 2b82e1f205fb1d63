package flows

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// forged is where an attacker's packets with the peer's address come from.
var forged = at("192.168.5.1:4000")

// handleFrom gives the watcher segments between another end, in the place of the one that dials, and the far
// end.
func handleFrom(w *Watcher, dials netip.AddrPort, when time.Time, segments ...testSegment) {
	for _, s := range segments {
		one := s.segment()
		if one.At = when; s.back {
			one.To = dials
		} else {
			one.From = dials
		}
		w.HandleSegment(one)
	}
}

// unknown is the answer of a host to the acceptance of a connection that it knows nothing of.
var unknown = testSegment{false, "R", dialFirst, 0, 0}

// flowFrom returns a flow through testPinhole from another port.
func flowFrom(id uint32, from netip.AddrPort, state netflow.TCPState, packets uint64) netflow.Flow {
	f := pinholeFlow(id)
	f.Original.From, f.Reply.To = from, netip.AddrPortFrom(f.Reply.To.Addr(), from.Port())
	f.State, f.Replied = state, state != netflow.TCPSynSent
	f.Sent.Packets, f.Received.Packets = packets, 1
	return f
}

// closings is an expectation's OnComplete.
type closings int

func (c *closings) close() { *c++ }

// A forged packet begins a connection that its peer resets or does not answer. The peer's own connection is
// the one that counts, whenever it comes.
func TestForged(t *testing.T) {
	all := append([]testSegment{accepted}, ending...)
	for name, tt := range map[string]struct {
		deliver func(w *Watcher, now time.Time)
		table   []netflow.Flow // at the poll
	}{
		"reset before": {deliver: func(w *Watcher, now time.Time) {
			handleFrom(w, forged, now, accepted, unknown)
			handle(w, now, all...)
		}},
		"reset within": {deliver: func(w *Watcher, now time.Time) {
			handleFrom(w, forged, now, accepted)
			handle(w, now, accepted)
			handleFrom(w, forged, now, unknown)
			handle(w, now, ending...)
		}},
		"reset, and the peer's port after": {deliver: func(w *Watcher, now time.Time) {
			handle(w, now, accepted, unknown)
			handle(w, now, all...)
		}},
		"unanswered before": {deliver: func(w *Watcher, now time.Time) {
			handleFrom(w, forged, now, accepted)
			handle(w, now, all...)
		}},
		"unanswered after": {deliver: func(w *Watcher, now time.Time) {
			handle(w, now, accepted)
			handleFrom(w, forged, now, accepted)
			handle(w, now, ending...)
		}},
		"reset after": {deliver: func(w *Watcher, now time.Time) {
			handle(w, now, accepted)
			handleFrom(w, forged, now, accepted, unknown)
			handle(w, now, ending...)
		}},
		"still there when it is polled": {
			deliver: func(w *Watcher, now time.Time) {
				handleFrom(w, forged, now, accepted)
				poll(t, w, now)
				handle(w, now, all...)
			},
			table: []netflow.Flow{flowFrom(7, forged, netflow.TCPSynReceived, 1)},
		},
	} {
		w, table, _ := newTestWatcher()
		x, now := w.Expect(testPinhole), time.Now()
		for _, f := range tt.table {
			table.flows[f.Original] = f
		}
		tt.deliver(w, now)
		poll(t, w, now)
		if o := x.Outcome(); o.Down != 700 || o.Connected != now || !o.Over || o.Fault() != nil {
			t.Errorf("%s: got %+v, fault %+v; want 700 bytes, and that is all", name, o, o.Fault())
		}
		if len(w.expected)+len(w.active) != 0 || w.expectedAt[testPinhole.Listen.Port()] != nil {
			t.Errorf("%s: got %d expected, %d active; want none", name, len(w.expected), len(w.active))
		}
	}
}

// The peer's connection is found in the table, before and after a forged one, and also without a log.
func TestForgedInTable(t *testing.T) {
	for name, forgedFirst := range map[string]bool{"forged first": true, "forged last": false} {
		for _, logged := range []bool{true, false} {
			w, table, _ := newTestWatcher()
			x, now := w.Expect(testPinhole), time.Now()
			var closed closings
			x.OnComplete(closed.close)
			begin := func(id uint32, from netip.AddrPort) {
				f := flowFrom(id, from, netflow.TCPSynReceived, 1)
				if table.flows[f.Original] = f; logged {
					handleFrom(w, from, now, accepted)
				} else {
					newFlow(t, w, table, f, now)
				}
			}
			if forgedFirst {
				begin(7, forged)
				poll(t, w, now)
			}
			if begin(8, dialling); !forgedFirst {
				begin(7, forged)
			}
			poll(t, w, now)
			if o := x.Outcome(); !o.Connected.IsZero() || closed != 0 || w.Carried() != 0 {
				t.Errorf("%s: got %+v, closed %d times; want no connection yet", name, o, closed)
			}
			f := flowFrom(8, dialling, netflow.TCPEstablished, 2)
			f.Received.Bytes = 500
			table.flows[f.Original] = f
			poll(t, w, now)
			poll(t, w, now)
			if o := x.Outcome(); o.Connected != now || o.Down != 500 || o.Over || closed != 1 {
				t.Errorf("%s, logged %v: got %+v, closed %d times; want 500 bytes so far, and once", name,
					logged, o, closed)
			}
			if len(w.active) != 1 || w.Carried() != 1 || len(w.expected) != 0 {
				t.Errorf("%s: got %d active, %d expected; want one connection", name, len(w.active),
					len(w.expected))
			}
		}
	}
}

// A forged connection ends in the table: reset, or by its time.
func TestForgedEnds(t *testing.T) {
	for name, gone := range map[string]bool{"reset": false, "timed out": true} {
		w, table, _ := newTestWatcher()
		x, now := w.Expect(testPinhole), time.Now()
		newFlow(t, w, table, flowFrom(7, forged, netflow.TCPSynReceived, 1), now)
		poll(t, w, now)
		reset := flowFrom(7, forged, netflow.TCPClose, 2)
		if table.flows[reset.Original] = reset; gone {
			delete(table.flows, reset.Original)
		}
		poll(t, w, now)
		if o := x.Outcome(); !o.Connected.IsZero() || o.Over || o.Fault() != nil || len(w.expected) != 1 {
			t.Errorf("%s: got %+v, fault %+v; want the peer expected", name, o, o.Fault())
		}
		newFlow(t, w, table, pinholeFlow(8), now)
		if o := x.Outcome(); o.Connected != now {
			t.Errorf("%s: got %+v; want the peer's connection", name, o)
		}
	}
}

// A connection that carried data and is then reset is the peer's, whatever the reset.
func TestResetIsNotForged(t *testing.T) {
	for name, segments := range map[string][]testSegment{
		"by a program":        {{false, "RA", dialFirst, farSeq(300), 0}},
		"after data":          {{false, "R", dialFirst + 5, 0, 0}},
		"after its own FIN":   {{false, "FA", dialFirst, farSeq(0), 0}, {false, "R", dialFirst + 1, 0, 0}},
		"after the other FIN": {{true, "FA", farSeq(700), dialFirst, 0}, {false, "R", dialFirst, 0, 0}},
	} {
		w, _, _ := newTestWatcher()
		x, now := w.Expect(testPinhole), time.Now()
		handle(w, now, accepted)
		handle(w, now, segments...)
		poll(t, w, now)
		if o := x.Outcome(); o.Connected != now || !o.Over || len(w.expected)+len(w.active) != 0 {
			t.Errorf("%s: got %+v; want a connection that is over", name, o)
		}
	}
}

// So many forged packets exhaust a pinhole. The outcome says so unless the peer connected in time.
func TestForgedUntilUsedUp(t *testing.T) {
	w, _, _ := newTestWatcher()
	x, now := w.Expect(testPinhole), time.Now()
	w.HandleSegment(untranslated(forged.String(), now))
	for range pinhole.FirstPackets - 1 {
		handleFrom(w, forged, now, accepted, unknown)
		w.HandleSegment(untranslated(forged.String(), now))
	}
	if o := x.Outcome(); o.Fault() != nil || !o.Connected.IsZero() || o.Over {
		t.Errorf("got %+v, fault %+v; want the peer expected", o, o.Fault())
	}
	handleFrom(w, forged, now, accepted)
	if o := x.Outcome(); o.Fault() != nil {
		t.Errorf("got fault %+v; want none while a connection may complete", o.Fault())
	}
	handleFrom(w, forged, now, unknown)
	w.HandleSegment(untranslated(dialling.String(), now))
	w.HandleSegment(untranslated(dialling.String(), now))
	if got := codeOf(x.Outcome().Fault()); got != verdict.CodeForgedConnections {
		t.Errorf("got fault %q; want %q", got, verdict.CodeForgedConnections)
	}
	handle(w, now, accepted)
	handle(w, now, ending...)
	if o := x.Outcome(); o.Fault() != nil || o.Down != 700 {
		t.Errorf("got %+v, fault %+v; want the peer's 700 bytes", o, o.Fault())
	}
}

// A pinhole that is not released is closed at the poll behind the end of its connection, once.
func TestOnComplete(t *testing.T) {
	for name, released := range map[string]bool{"with its 226": true, "no 226 so far": false} {
		w, _, _ := newTestWatcher()
		x, now := w.Expect(testPinhole), time.Now()
		var closed closings
		x.OnComplete(closed.close)
		handle(w, now, accepted)
		handle(w, now, ending...)
		if released {
			x.Release(true)
		}
		poll(t, w, now)
		poll(t, w, now)
		if (closed == 1) == released || closed > 1 {
			t.Errorf("%s: got it closed %d times", name, closed)
		}
	}
}

// Sever ends all that was begun.
func TestSeverRivals(t *testing.T) {
	w, table, _ := newTestWatcher()
	x, now := w.Expect(testPinhole), time.Now()
	newFlow(t, w, table, flowFrom(7, forged, netflow.TCPSynReceived, 1), now)
	newFlow(t, w, table, flowFrom(8, dialling, netflow.TCPEstablished, 2), now)
	if x.Sever(); len(table.flows) != 0 {
		t.Errorf("got %d flows left; want none", len(table.flows))
	}
}
