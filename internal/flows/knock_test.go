package flows

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/dnat"
	"ftpgate/internal/journal"
)

// knock is the first segment of a connection to the pinhole, as the log tells of it.
func knock(from string, when time.Time) dnat.Segment {
	return dnat.Segment{At: when, From: at(from), To: pinhole.At, SYN: true, Sequence: dialFirst - 1}
}

// taken is what the far end answers, and what both say in the end.
var taken = append([]said{{true, "SA", farFirst - 1, dialFirst, 0}}, ending...)

// A transfer of which the log tells alone: the kernel is not asked.
func TestKnock(t *testing.T) {
	w, table, _ := stage()
	h := w.Await(pinhole)
	now := time.Now()
	w.Segment(knock("192.168.5.77:3000", now))
	if p := h.Progress(); p.Stranger != netip.MustParseAddr("192.168.5.77") || !p.Connected.IsZero() {
		t.Errorf("got %+v; want a stranger, and nobody else", p)
	}
	w.Segment(knock("192.168.5.1:3000", now))
	if p := h.Progress(); p.Connected != now || p.Over {
		t.Errorf("got %+v; want the client to have come", p)
	}
	for _, s := range taken {
		w.Segment(s.segment())
	}
	look(t, w, now)
	if p := h.Progress(); p.Down != 700 || !p.Over || p.Fault != nil || table.asked != 0 {
		t.Errorf("got %+v, %d flows asked for; want 700 bytes, and none", p, table.asked)
	}
	if len(w.awaited)+len(w.pending)+len(w.running) != 0 {
		t.Error("something is kept")
	}
}

// One that lasts is found in the table, and so it is where an event tells of it, too, before the log or after it.
func TestKnockListed(t *testing.T) {
	for name, told := range map[string]struct{ before, after bool }{"log alone": {}, "event first": {before: true}, "log first": {after: true}} {
		w, table, _ := stage()
		h := w.Await(pinhole)
		now := time.Now()
		f := through(1)
		f.State, f.Replied, f.Received.Bytes = dnat.TCPEstablished, true, 500
		table.flows[f.Original] = f
		event := dnat.FlowEvent{Change: dnat.FlowNew, Flow: f, At: now}
		if told.before {
			_ = w.Handle(event)
		}
		w.Segment(knock("192.168.5.1:3000", now))
		if told.after {
			_ = w.Handle(event)
		}
		w.Segment(taken[0].segment())
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

// What came and was not led to the far end: a filter has dropped it, so that it comes again or never stands in the table;
// or the pinhole had closed, and the gateway itself has answered. The far end has refused it where its reset is logged.
func TestKnockNotLed(t *testing.T) {
	own := through(1)
	own.Reply = dnat.Tuple{From: own.Original.To, To: own.Original.From}
	for name, tt := range map[string]struct {
		after time.Duration // from the opening to the first segment
		again bool
		reset bool
		table dnat.Flow
		want  journal.Code
	}{
		"dropped":             {want: journal.CodeFiltered},
		"comes again":         {again: true, want: journal.CodeFiltered},
		"again, and answered": {again: true, table: own, want: journal.CodeFiltered},
		"too late":            {after: time.Minute, table: own, want: journal.CodeTooLate},
		"refused":             {reset: true, want: journal.CodeServerData},
	} {
		w, table, _ := stage()
		h := w.Await(pinhole)
		now := time.Now().Add(tt.after)
		w.Segment(knock("192.168.5.1:3000", now))
		look(t, w, now)
		if p := h.Progress(); p.Connected != now || p.Over || p.Fault != nil {
			t.Errorf("%s: got %+v at once; want nothing to be known yet", name, p)
		}
		if tt.again {
			w.Segment(knock("192.168.5.1:3000", now.Add(time.Second)))
		}
		if tt.reset {
			w.Segment(said{true, "RA", 0, dialFirst, 0}.segment())
		}
		if tt.table.ID != 0 {
			table.flows[tt.table.Original] = tt.table
		}
		look(t, w, now.Add(Interval))
		p := h.Progress()
		if p.Fault == nil || p.Fault.Code != tt.want || p.Fault.Waited < 0 || !p.Over || p.Connected.IsZero() == tt.reset {
			t.Errorf("%s: got %+v, fault %+v; want %s", name, p, p.Fault, tt.want)
		}
		if len(w.awaited)+len(w.running) != 0 {
			t.Errorf("%s: something is kept", name)
		}
	}
}

// The answer may be in the log while the table has lost the connection, as where an operator has taken it away.
func TestKnockGone(t *testing.T) {
	w, _, _ := stage()
	h := w.Await(pinhole)
	now := time.Now()
	w.Segment(knock("192.168.5.1:3000", now))
	w.Segment(taken[0].segment())
	look(t, w, now.Add(Interval))
	if p := h.Progress(); !p.Over || p.Fault != nil || p.Connected.IsZero() {
		t.Errorf("got %+v; want it to be over", p)
	}
}
