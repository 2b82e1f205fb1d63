package flows

import (
	"iter"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ftpgate/internal/dnat"
	"ftpgate/internal/journal"
)

// fakeTable is the kernel's table in the test's hands.
type fakeTable struct {
	flows map[dnat.Tuple]dnat.Flow
	asked int

	searched int
}

func (t *fakeTable) Get(flows []dnat.Flow, tuples []dnat.Tuple) ([]dnat.Flow, error) {
	for _, tuple := range tuples {
		t.asked++
		flows = append(flows, t.flows[tuple])
	}
	return flows, nil
}

func (t *fakeTable) Dump(want func(id uint32, original, master dnat.Tuple) bool) iter.Seq2[dnat.Flow, error] {
	return func(yield func(dnat.Flow, error) bool) {
		for _, f := range t.flows {
			if want(f.ID, f.Original, f.Master) && !yield(f, nil) {
				return
			}
		}
	}
}

func (t *fakeTable) Find(from netip.Addr, to netip.AddrPort) (found []dnat.Flow, err error) {
	t.searched++
	for _, f := range t.flows {
		if f.Original.From.Addr() == from && f.Original.To == to {
			found = append(found, f)
		}
	}
	return found, nil
}

func (t *fakeTable) Delete(original dnat.Tuple, id uint32) error {
	if t.flows[original].ID == id {
		delete(t.flows, original)
	}
	return nil
}

func (t *fakeTable) Payload(f dnat.Flow) (sent, received uint64) {
	return f.Sent.Bytes, f.Received.Bytes
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// tuple is one direction.
func tuple(from, to string) dnat.Tuple { return dnat.Tuple{From: at(from), To: at(to)} }

var pinhole = dnat.Pinhole{From: netip.MustParseAddr("192.168.5.1"), At: at("192.168.5.2:50000"), To: at("203.0.113.21:40000"),
	As: netip.MustParseAddr("203.0.113.1")}

// stage is a watcher with its table.
func stage() (*Watcher, *fakeTable, *journal.Journal) {
	table, book := &fakeTable{flows: map[dnat.Tuple]dnat.Flow{}}, journal.New(time.Now())
	return New(table, book), table, book
}

// through is a flow through the pinhole.
func through(id uint32) dnat.Flow {
	return dnat.Flow{ID: id, Original: tuple("192.168.5.1:3000", "192.168.5.2:50000"), Reply: tuple("203.0.113.21:40000", "203.0.113.1:3000"),
		State: dnat.TCPSynSent, Sent: dnat.Counter{Packets: 1}}
}

// come has a flow begin.
func come(t *testing.T, w *Watcher, table *fakeTable, f dnat.Flow, when time.Time) {
	t.Helper()
	table.flows[f.Original] = f
	if !w.Wants(f.ID, f.Original, f.Master) {
		t.Errorf("%v is not wanted", f.Original)
	}
	if err := w.Handle(dnat.FlowEvent{Change: dnat.FlowNew, Flow: f, At: when}); err != nil {
		t.Error(err)
	}
}

func look(t *testing.T, w *Watcher, now time.Time) {
	t.Helper()
	if err := w.Look(now); err != nil {
		t.Error(err)
	}
}

func TestHole(t *testing.T) {
	w, table, _ := stage()
	if f := through(1); w.Wants(f.ID, f.Original, f.Master) {
		t.Error("a flow is wanted that nobody awaits")
	}
	h := w.Await(pinhole)
	now := time.Now()
	f := through(1)
	come(t, w, table, f, now)
	f.State, f.Replied, f.Received.Bytes = dnat.TCPEstablished, true, 500
	table.flows[f.Original] = f
	look(t, w, now)
	if p := h.Progress(); p.Connected != now || p.Down != 500 || p.Over || p.Fault != nil {
		t.Errorf("got %+v; want 500 bytes down so far", p)
	}
	f.State, f.Received.Bytes = dnat.TCPTimeWait, 1000
	table.flows[f.Original] = f
	h.Release(false)
	look(t, w, now.Add(time.Second))
	if h.Progress().Over {
		t.Error("it is over, though its last segments may be under way")
	}
	look(t, w, now.Add(time.Second+Interval))
	if p := h.Progress(); p.Down != 1000 || !p.Over {
		t.Errorf("got %+v; want 1000 bytes, and nothing more to come", p)
	}
	table.asked = 0
	if look(t, w, now.Add(time.Hour)); table.asked != 0 || len(w.awaited)+len(w.running) != 0 {
		t.Errorf("%d flows are asked for, %d and %d kept; want none", table.asked, len(w.awaited), len(w.running))
	}
}

// The end that the connection leads to does not take it.
func TestHoleUnanswered(t *testing.T) {
	for name, active := range map[string]bool{"passive": false, "active": true} {
		for _, refused := range []bool{true, false} {
			w, table, _ := stage()
			hole := pinhole
			hole.Active = active
			h := w.Await(hole)
			now := time.Now()
			f := through(1)
			come(t, w, table, f, now)
			if refused {
				delete(table.flows, f.Original)
			}
			look(t, w, now.Add(silentTime+time.Second))
			want := journal.CodeServerData
			if active {
				want = journal.CodeClientData
			}
			if p := h.Progress(); p.Fault == nil || p.Fault.Code != want || p.Fault.At != hole.To || p.Over != refused {
				t.Errorf("%s, refused %v: got %+v, fault %+v; want %s", name, refused, p, p.Fault, want)
			}
			if refused {
				continue
			}
			f.Replied, f.State = true, dnat.TCPEstablished
			table.flows[f.Original] = f
			look(t, w, now.Add(10*time.Second))
			if p := h.Progress(); p.Fault != nil {
				t.Errorf("%s: got %+v after the answer came", name, p.Fault)
			}
		}
	}
}

func TestHoleStranger(t *testing.T) {
	w, table, _ := stage()
	h := w.Await(pinhole)
	f := through(1)
	f.Original.From = at("192.168.5.77:3000")
	f.Reply = dnat.Tuple{From: f.Original.To, To: f.Original.From}
	come(t, w, table, f, time.Now())
	if p := h.Progress(); p.Stranger != netip.MustParseAddr("192.168.5.77") || !p.Connected.IsZero() {
		t.Errorf("got %+v; want a stranger, and nobody else", p)
	}
	come(t, w, table, through(2), time.Now())
	if p := h.Progress(); p.Connected.IsZero() {
		t.Errorf("got %+v; want the peer behind the stranger", p)
	}
}

// The peer's packet is not led to the far end: the gateway's filter has dropped the first one, or it is too late.
func TestHoleNotLed(t *testing.T) {
	for after, want := range map[time.Duration]journal.Code{time.Second: journal.CodeFiltered, time.Minute: journal.CodeTooLate} {
		w, table, _ := stage()
		h := w.Await(pinhole)
		f := through(1)
		f.Reply = dnat.Tuple{From: f.Original.To, To: f.Original.From}
		come(t, w, table, f, time.Now().Add(after))
		if p := h.Progress(); p.Fault == nil || p.Fault.Code != want || p.Stranger.IsValid() || !p.Connected.IsZero() {
			t.Errorf("after %s: got %+v; want %s", after, p, want)
		}
	}
}

// A hole that is closed is forgotten, but not before the news of its connection may have come.
func TestHoleReleased(t *testing.T) {
	w, table, _ := stage()
	now := time.Now()
	late, unused := w.Await(pinhole), pinhole
	unused.At = at("192.168.5.2:50001")
	never := w.Await(unused)
	late.Release(false)
	never.Release(false)
	come(t, w, table, through(1), now)
	look(t, w, now)
	if late.Progress().Connected.IsZero() {
		t.Error("the connection came late, and was not seen")
	}
	if p := never.Progress(); !p.Over || !p.Connected.IsZero() {
		t.Errorf("got %+v; want nothing more to come", p)
	}
	if w.awaited[unused.At] != nil {
		t.Error("it is kept")
	}
}

// A port that is drawn again is the new hole's.
func TestHoleAgain(t *testing.T) {
	w, table, _ := stage()
	old := w.Await(pinhole)
	old.Release(false)
	h := w.Await(pinhole)
	come(t, w, table, through(1), time.Now())
	look(t, w, time.Now())
	look(t, w, time.Now().Add(lateTime))
	if h.Progress().Connected.IsZero() || !old.Progress().Connected.IsZero() || !old.Progress().Over {
		t.Errorf("got %+v and, of the old one, %+v", h.Progress(), old.Progress())
	}
	other := pinhole // of another client, at the same port
	other.From = netip.MustParseAddr("192.168.5.9")
	g := w.Await(other)
	f := through(2)
	f.Original.From = at("192.168.5.9:1")
	come(t, w, table, f, time.Now())
	if g.Progress().Connected.IsZero() {
		t.Error("two clients at one port: the second one's connection is nobody's")
	}
}

// tracked is a forward of the kernel's, and a control connection through it.
func tracked() (dnat.Resolved, dnat.Flow) {
	f := dnat.Resolved{Forward: dnat.Forward{Name: "plc", Tracking: dnat.TrackingKernel}, Server4: netip.MustParseAddr("203.0.113.21")}
	f.Listen.Addr, f.Listen.Port, f.Server.Port = netip.MustParseAddr("192.168.5.2"), 2122, 21
	return f, dnat.Flow{ID: 7, Original: tuple("192.168.5.1:3000", "192.168.5.2:2122"), Reply: tuple("203.0.113.21:21", "203.0.113.1:3000"),
		Replied: true, State: dnat.TCPEstablished, Helper: "ftp"}
}

func TestSession(t *testing.T) {
	w, table, book := stage()
	forward, control := tracked()
	w.Follow([]dnat.Resolved{forward})
	now := time.Now()
	come(t, w, table, control, now)
	data := dnat.Flow{ID: 8, Original: tuple("192.168.5.1:3001", "192.168.5.2:40000"), Reply: tuple("203.0.113.21:40000", "203.0.113.1:3001"),
		Master: control.Original, Replied: true, State: dnat.TCPEstablished, Received: dnat.Counter{Bytes: 10}}
	come(t, w, table, data, now)
	look(t, w, now)
	running := slices.Collect(book.Running())
	if len(running) != 1 || running[0].State != journal.StateTransfer || running[0].Transfer.Bytes != 10 || running[0].Mode != "passive" ||
		running[0].Forward != "plc" || running[0].Server != at("203.0.113.21:21") {
		t.Fatalf("got %+v", running)
	}
	data.State, data.Received.Bytes = dnat.TCPTimeWait, 1000
	table.flows[data.Original] = data
	look(t, w, now.Add(time.Second))
	look(t, w, now.Add(time.Second+Interval))
	control.State = dnat.TCPTimeWait
	table.flows[control.Original] = control
	look(t, w, now.Add(controlEvery+time.Second))
	ended := slices.Collect(book.Ended())
	if len(ended) != 1 || ended[0].Totals != (journal.Totals{Transfers: 1, Down: 1000}) || book.Count() != 0 {
		t.Errorf("got %+v", ended)
	}
	if len(w.controls)+len(w.running) != 0 {
		t.Error("something is kept")
	}
}

// Sessions that were there before, and those that were missed, are found in the table.
func TestAdopt(t *testing.T) {
	w, table, book := stage()
	forward, control := tracked()
	w.Follow([]dnat.Resolved{forward})
	over := control
	over.ID, over.State, over.Original.From = 9, dnat.TCPClose, at("192.168.5.1:3009")
	foreign := control
	foreign.ID, foreign.Original, foreign.Reply.From = 10, tuple("192.168.5.1:3010", "192.168.5.2:2122"), at("192.168.5.2:2122")
	for _, f := range []dnat.Flow{control, over, foreign} {
		table.flows[f.Original] = f
	}
	h := w.Await(pinhole)
	data := through(11)
	table.flows[data.Original] = data
	for range 2 { // nothing is found twice
		if err := w.Handle(dnat.FlowEvent{Change: dnat.FlowsMissed}); err != nil {
			t.Fatal(err)
		}
	}
	if book.Count() != 1 || h.Progress().Connected.IsZero() {
		t.Errorf("%d sessions, connection %+v; want one and it", book.Count(), h.Progress())
	}
}

func BenchmarkLook(b *testing.B) {
	w, table, _ := stage()
	for i := range 1000 {
		hole := pinhole
		hole.At = netip.AddrPortFrom(hole.At.Addr(), uint16(40000+i))
		w.Await(hole)
		f := through(uint32(i))
		f.Original.To, f.Replied, f.State = hole.At, true, dnat.TCPEstablished
		table.flows[f.Original] = f
		_ = w.Handle(dnat.FlowEvent{Flow: f, At: time.Now()})
	}
	for b.Loop() {
		_ = w.Look(time.Now())
	}
}
