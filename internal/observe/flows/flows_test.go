package flows

import (
	"iter"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// fakeTable is the kernel's table in the test's hands.
type fakeTable struct {
	flows map[netflow.Tuple]netflow.Flow
	asked int

	searched int
}

func (t *fakeTable) Get(flows []netflow.Flow, tuples []netflow.Tuple) ([]netflow.Flow, error) {
	for _, tuple := range tuples {
		t.asked++
		flows = append(flows, t.flows[tuple])
	}
	return flows, nil
}

func (t *fakeTable) Dump(want func(id uint32, original, master netflow.Tuple) bool) iter.Seq2[netflow.Flow, error] {
	return func(yield func(netflow.Flow, error) bool) {
		for _, f := range t.flows {
			if want(f.ID, f.Original, f.Master) && !yield(f, nil) {
				return
			}
		}
	}
}

func (t *fakeTable) Find(from netip.Addr, to netip.AddrPort) (found []netflow.Flow, err error) {
	t.searched++
	for _, f := range t.flows {
		if f.Original.From.Addr() == from && f.Original.To == to {
			found = append(found, f)
		}
	}
	return found, nil
}

func (t *fakeTable) Delete(original netflow.Tuple, id uint32) error {
	if t.flows[original].ID == id {
		delete(t.flows, original)
	}
	return nil
}

func (t *fakeTable) Payload(f netflow.Flow) (sent, received uint64) {
	return f.Sent.Bytes, f.Received.Bytes
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// tuple is one direction.
func tuple(from, to string) netflow.Tuple { return netflow.Tuple{From: at(from), To: at(to)} }

var testPinhole = pinhole.Pinhole{From: netip.MustParseAddr("192.168.5.1"), Listen: at("192.168.5.2:50000"), Target: at("203.0.113.21:40000"),
	SourceIP: netip.MustParseAddr("203.0.113.1")}

// stage is a watcher with its table.
func stage() (*Watcher, *fakeTable, *sessions.Journal) {
	table, book := &fakeTable{flows: map[netflow.Tuple]netflow.Flow{}}, sessions.New(time.Now())
	return New(table, book), table, book
}

// through is a flow through the pinhole.
func through(id uint32) netflow.Flow {
	return netflow.Flow{ID: id, Original: tuple("192.168.5.1:3000", "192.168.5.2:50000"), Reply: tuple("203.0.113.21:40000", "203.0.113.1:3000"),
		State: netflow.TCPSynSent, Sent: netflow.Counter{Packets: 1}}
}

// come has a flow begin.
func come(t *testing.T, w *Watcher, table *fakeTable, f netflow.Flow, when time.Time) {
	t.Helper()
	table.flows[f.Original] = f
	if !w.Wants(f.ID, f.Original, f.Master) {
		t.Errorf("%v is not wanted", f.Original)
	}
	if err := w.Handle(netflow.FlowEvent{Change: netflow.FlowNew, Flow: f, At: when}); err != nil {
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
	h := w.Await(testPinhole)
	now := time.Now()
	f := through(1)
	come(t, w, table, f, now)
	f.State, f.Replied, f.Received.Bytes = netflow.TCPEstablished, true, 500
	table.flows[f.Original] = f
	look(t, w, now)
	if p := h.Progress(); p.Connected != now || p.Down != 500 || p.Over || p.Fault != nil {
		t.Errorf("got %+v; want 500 bytes down so far", p)
	}
	f.State, f.Received.Bytes = netflow.TCPTimeWait, 1000
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
			hole := testPinhole
			hole.Active = active
			h := w.Await(hole)
			now := time.Now()
			f := through(1)
			come(t, w, table, f, now)
			if refused {
				delete(table.flows, f.Original)
			}
			look(t, w, now.Add(silentTime+time.Second))
			want := verdict.CodeServerData
			if active {
				want = verdict.CodeClientData
			}
			if p := h.Progress(); p.Fault == nil || p.Fault.Code != want || p.Fault.At != hole.Target || p.Over != refused {
				t.Errorf("%s, refused %v: got %+v, fault %+v; want %s", name, refused, p, p.Fault, want)
			}
			if refused {
				continue
			}
			f.Replied, f.State = true, netflow.TCPEstablished
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
	h := w.Await(testPinhole)
	f := through(1)
	f.Original.From = at("192.168.5.77:3000")
	f.Reply = netflow.Tuple{From: f.Original.To, To: f.Original.From}
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
	for after, want := range map[time.Duration]verdict.Code{time.Second: verdict.CodeFiltered, time.Minute: verdict.CodeTooLate} {
		w, table, _ := stage()
		h := w.Await(testPinhole)
		f := through(1)
		f.Reply = netflow.Tuple{From: f.Original.To, To: f.Original.From}
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
	late, unused := w.Await(testPinhole), testPinhole
	unused.Listen = at("192.168.5.2:50001")
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
	if w.awaited[unused.Listen] != nil {
		t.Error("it is kept")
	}
}

// A port that is drawn again is the new hole's.
func TestHoleAgain(t *testing.T) {
	w, table, _ := stage()
	old := w.Await(testPinhole)
	old.Release(false)
	h := w.Await(testPinhole)
	come(t, w, table, through(1), time.Now())
	look(t, w, time.Now())
	look(t, w, time.Now().Add(lateTime))
	if h.Progress().Connected.IsZero() || !old.Progress().Connected.IsZero() || !old.Progress().Over {
		t.Errorf("got %+v and, of the old one, %+v", h.Progress(), old.Progress())
	}
	other := testPinhole // of another client, at the same port
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
func tracked() (forward.Resolved, netflow.Flow) {
	f := forward.Resolved{Forward: forward.Forward{Name: "plc", Tracking: forward.TrackingKernel}, Server4: netip.MustParseAddr("203.0.113.21")}
	f.Listen.Addr, f.Listen.Port, f.Server.Port = netip.MustParseAddr("192.168.5.2"), 2122, 21
	return f, netflow.Flow{ID: 7, Original: tuple("192.168.5.1:3000", "192.168.5.2:2122"), Reply: tuple("203.0.113.21:21", "203.0.113.1:3000"),
		Replied: true, State: netflow.TCPEstablished, Helper: "ftp"}
}

func TestSession(t *testing.T) {
	w, table, book := stage()
	fwd, control := tracked()
	w.Follow([]forward.Resolved{fwd})
	now := time.Now()
	come(t, w, table, control, now)
	data := netflow.Flow{ID: 8, Original: tuple("192.168.5.1:3001", "192.168.5.2:40000"), Reply: tuple("203.0.113.21:40000", "203.0.113.1:3001"),
		Master: control.Original, Replied: true, State: netflow.TCPEstablished, Received: netflow.Counter{Bytes: 10}}
	come(t, w, table, data, now)
	look(t, w, now)
	running := slices.Collect(book.Running())
	if len(running) != 1 || running[0].State != sessions.StateTransfer || running[0].Transfer.Bytes != 10 || running[0].Mode != "passive" ||
		running[0].Forward != "plc" || running[0].Server != at("203.0.113.21:21") {
		t.Fatalf("got %+v", running)
	}
	data.State, data.Received.Bytes = netflow.TCPTimeWait, 1000
	table.flows[data.Original] = data
	look(t, w, now.Add(time.Second))
	look(t, w, now.Add(time.Second+Interval))
	control.State = netflow.TCPTimeWait
	table.flows[control.Original] = control
	look(t, w, now.Add(controlEvery+time.Second))
	ended := slices.Collect(book.Ended())
	if len(ended) != 1 || ended[0].Totals != (sessions.Totals{Transfers: 1, Down: 1000}) || book.Count() != 0 {
		t.Errorf("got %+v", ended)
	}
	if len(w.controls)+len(w.running) != 0 {
		t.Error("something is kept")
	}
}

// Sessions that were there before, and those that were missed, are found in the table.
func TestAdopt(t *testing.T) {
	w, table, book := stage()
	fwd, control := tracked()
	w.Follow([]forward.Resolved{fwd})
	over := control
	over.ID, over.State, over.Original.From = 9, netflow.TCPClose, at("192.168.5.1:3009")
	foreign := control
	foreign.ID, foreign.Original, foreign.Reply.From = 10, tuple("192.168.5.1:3010", "192.168.5.2:2122"), at("192.168.5.2:2122")
	for _, f := range []netflow.Flow{control, over, foreign} {
		table.flows[f.Original] = f
	}
	h := w.Await(testPinhole)
	data := through(11)
	table.flows[data.Original] = data
	for range 2 { // nothing is found twice
		if err := w.Handle(netflow.FlowEvent{Change: netflow.FlowsMissed}); err != nil {
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
		hole := testPinhole
		hole.Listen = netip.AddrPortFrom(hole.Listen.Addr(), uint16(40000+i))
		w.Await(hole)
		f := through(uint32(i))
		f.Original.To, f.Replied, f.State = hole.Listen, true, netflow.TCPEstablished
		table.flows[f.Original] = f
		_ = w.Handle(netflow.FlowEvent{Flow: f, At: time.Now()})
	}
	for b.Loop() {
		_ = w.Look(time.Now())
	}
}
