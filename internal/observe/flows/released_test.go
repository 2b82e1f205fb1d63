package flows

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/verdict"
)

// A connection whose first packet was never answered is not in the log if the client gave up before repeating
// it: the table has it.
func TestReleased(t *testing.T) {
	open, over, foreign := pinholeFlow(1), pinholeFlow(1), pinholeFlow(1)
	open.Replied, open.State = true, netflow.TCPEstablished
	over.Replied, over.State = true, netflow.TCPTimeWait
	foreign.Reply.From = at("203.0.113.21:40001")
	for name, tt := range map[string]struct {
		used, unexpected bool
		table            netflow.Flow
		searched         int
		connected        bool
		code             verdict.Code
	}{
		"no connection": {searched: 1},
		"unanswered": {table: pinholeFlow(1), searched: 1,
			code: verdict.CodeServerDataUnreachable},
		"lost by the log":       {table: open, searched: 1, connected: true},
		"an earlier connection": {table: over, searched: 1},
		"translated elsewhere":  {table: foreign, searched: 1},
		"used":                  {used: true, table: pinholeFlow(1)},
		"an unexpected peer":    {unexpected: true, table: pinholeFlow(1)},
		"shown by the log":      {table: open, connected: true, searched: 0},
	} {
		w, table, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		now := time.Now()
		if tt.table.ID != 0 {
			table.flows[tt.table.Original] = tt.table
		}
		if tt.unexpected {
			w.HandleSegment(untranslated("192.168.5.77:3000", now))
		}
		if poll(t, w, now); table.searched != 0 {
			t.Errorf("%s: got a search while the pinhole is open; want none", name)
		}
		if name == "shown by the log" {
			handle(w, now, accepted)
		}
		x.Release(tt.used)
		poll(t, w, now)
		poll(t, w, now)
		if o := x.Outcome(); table.searched != tt.searched || o.Connected.IsZero() == tt.connected ||
			codeOf(o.Fault()) != tt.code {
			t.Errorf(
				"%s: got %+v, fault %+v, after %d searches; want %+v",
				name,
				o,
				o.Fault(),
				table.searched,
				tt,
			)
		}
		if o := x.Outcome(); o.Over != (tt.searched > 0 && !tt.connected) {
			t.Errorf("%s: got %+v at once", name, o)
		}
		poll(t, w, now.Add(eventLag))
		if o := x.Outcome(); o.Over == tt.connected || len(w.expected) != 0 {
			t.Errorf("%s: got %+v; %d are expected", name, o, len(w.expected))
		}
	}
}

func codeOf(f *verdict.Fault) verdict.Code {
	if f == nil {
		return ""
	}
	return f.Code
}

// However many expectations are released at once, each poll searches for a few, and none waits for ever.
func TestReleasedMany(t *testing.T) {
	w, table, _ := newTestWatcher()
	now := time.Now()
	var released []*Expectation
	for i := range 100 * searchesPerPoll {
		p := testPinhole
		p.Listen = netip.AddrPortFrom(testPinhole.Listen.Addr(), uint16(50000+i))
		released = append(released, w.Expect(p))
		released[i].Release(false)
	}
	for i := range 2 {
		if poll(t, w, now); table.searched != (i+1)*searchesPerPoll {
			t.Errorf("got %d searches in %d polls; want %d each", table.searched, i+1, searchesPerPoll)
		}
	}
	poll(t, w, now.Add(searchWait))
	for _, x := range released {
		if !x.Outcome().Over {
			t.Fatal("got an expectation that waits on; want all done")
		}
	}
	if len(w.expected) != 0 {
		t.Errorf("got %d expectations kept; want none", len(w.expected))
	}
}
