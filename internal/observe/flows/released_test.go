package flows

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/verdict"
)

// A connection whose first packet was never answered is not in the log, if it was given up before that was sent again:
// the table has it.
func TestReleased(t *testing.T) {
	open, over, foreign := through(1), through(1), through(1)
	open.Replied, open.State = true, netflow.TCPEstablished
	over.Replied, over.State = true, netflow.TCPTimeWait
	foreign.Reply.From = at("203.0.113.21:40001")
	for name, tt := range map[string]struct {
		used, stranger bool
		table          netflow.Flow
		searched       int
		connected      bool
		code           verdict.Code
	}{
		"nobody came":              {searched: 1},
		"unanswered":               {table: through(1), searched: 1, code: verdict.CodeServerData},
		"the log has lost it":      {table: open, searched: 1, connected: true},
		"one from before":          {table: over, searched: 1},
		"led elsewhere":            {table: foreign, searched: 1},
		"used":                     {used: true, table: through(1)},
		"somebody else has come":   {stranger: true, table: through(1)},
		"the connection was heard": {table: open, connected: true, searched: 0},
	} {
		w, table, _ := stage()
		h := w.Await(testPinhole)
		now := time.Now()
		if tt.table.ID != 0 {
			table.flows[tt.table.Original] = tt.table
		}
		if tt.stranger {
			w.Segment(stray("192.168.5.77:3000", now))
		}
		if look(t, w, now); table.searched != 0 {
			t.Errorf("%s: the table was searched while the hole is open", name)
		}
		if name == "the connection was heard" {
			logged(w, now, taken)
		}
		h.Release(tt.used)
		look(t, w, now)
		look(t, w, now)
		if p := h.Progress(); table.searched != tt.searched || p.Connected.IsZero() == tt.connected || codeOf(p.Fault) != tt.code {
			t.Errorf("%s: got %+v, fault %+v, after %d searches; want %+v", name, p, p.Fault, table.searched, tt)
		}
		if p := h.Progress(); p.Over != (tt.searched > 0 && !tt.connected) {
			t.Errorf("%s: got %+v at once", name, p)
		}
		look(t, w, now.Add(lateTime))
		if p := h.Progress(); p.Over == tt.connected || len(w.awaited) != 0 {
			t.Errorf("%s: got %+v; %d are awaited", name, p, len(w.awaited))
		}
	}
}

func codeOf(f *verdict.Fault) verdict.Code {
	if f == nil {
		return ""
	}
	return f.Code
}

// However many holes are given up, the kernel is not kept busy, and none waits for ever.
func TestReleasedMany(t *testing.T) {
	w, table, _ := stage()
	now := time.Now()
	var holes []*Hole
	for i := range 100 * searches {
		hole := testPinhole
		hole.Listen = netip.AddrPortFrom(testPinhole.Listen.Addr(), uint16(50000+i))
		holes = append(holes, w.Await(hole))
		holes[i].Release(false)
	}
	for i := range 2 {
		if look(t, w, now); table.searched != (i+1)*searches {
			t.Errorf("%d searches in %d looks; want %d each", table.searched, i+1, searches)
		}
	}
	look(t, w, now.Add(searchTime))
	for _, h := range holes {
		if !h.Progress().Over {
			t.Fatal("a hole waits on")
		}
	}
	if len(w.awaited) != 0 {
		t.Errorf("%d are kept", len(w.awaited))
	}
}
