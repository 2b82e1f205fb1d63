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

// fakeTable is a conntrack table, and counts what it is asked for.
type fakeTable struct {
	flows map[netflow.Tuple]netflow.Flow
	asked int

	searched int
}

func (t *fakeTable) Get(flows []netflow.Flow, tuples []netflow.Tuple) ([]netflow.Flow, error) {
	for _, tuple := range tuples {
		t.asked++
		found := t.flows[tuple]
		for _, f := range t.flows {
			if f.Reply == tuple {
				found = f
			}
		}
		flows = append(flows, found)
	}
	return flows, nil
}

func (t *fakeTable) Dump(want netflow.Want) iter.Seq2[netflow.Flow, error] {
	return func(yield func(netflow.Flow, error) bool) {
		for _, f := range t.flows {
			if want(f.Original, f.Master) && !yield(f, nil) {
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

func (t *fakeTable) Sever(f netflow.Flow) error { return t.Delete(f.Original, f.ID) }

func (t *fakeTable) Payload(f netflow.Flow) (sent, received uint64) {
	return f.Sent.Bytes, f.Received.Bytes
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// tuple returns one direction of a connection.
func tuple(from, to string) netflow.Tuple { return netflow.Tuple{From: at(from), To: at(to)} }

var testPinhole = pinhole.Pinhole{
	From:     netip.MustParseAddr("192.168.5.1"),
	Listen:   at("192.168.5.2:50000"),
	Target:   at("203.0.113.21:40000"),
	SourceIP: netip.MustParseAddr("203.0.113.1"),
}

// newTestWatcher returns a watcher with its table and session log.
func newTestWatcher() (*Watcher, *fakeTable, *sessions.Log) {
	table, sessionLog := &fakeTable{flows: map[netflow.Tuple]netflow.Flow{}}, sessions.New(time.Now())
	return New(table, sessionLog), table, sessionLog
}

// pinholeFlow returns a new flow through testPinhole.
func pinholeFlow(id uint32) netflow.Flow {
	return netflow.Flow{
		ID:       id,
		Original: tuple("192.168.5.1:3000", "192.168.5.2:50000"),
		Reply:    tuple("203.0.113.21:40000", "203.0.113.1:3000"),
		State:    netflow.TCPSynSent,
		Sent:     netflow.Counter{Packets: 1},
	}
}

// newFlow puts a flow into the table, and delivers its event.
func newFlow(t *testing.T, w *Watcher, table *fakeTable, f netflow.Flow, when time.Time) {
	t.Helper()
	table.flows[f.Original] = f
	if !w.Wants(f.Original, f.Master) {
		t.Errorf("%v is not wanted", f.Original)
	}
	if err := w.HandleEvent(netflow.FlowEvent{Change: netflow.FlowNew, Flow: f, At: when}); err != nil {
		t.Error(err)
	}
}

func poll(t *testing.T, w *Watcher, now time.Time) {
	t.Helper()
	if err := w.Poll(now); err != nil {
		t.Error(err)
	}
}

// The outcome is complete, whatever went wrong: the ends see for themselves how a transfer went.
func TestOutcome(t *testing.T) {
	w, _, _ := newTestWatcher()
	x := w.Expect(testPinhole)
	want := pinhole.Outcome{Path: forward.DataKernel, Counted: true, FinishReturnsNow: true, Complete: true}
	if o := x.Outcome(); o != want {
		t.Errorf("got %+v; want %+v", o, want)
	}
	x.finishUnanswered()
	o := x.Outcome()
	if !o.Over || !o.Complete || codeOf(o.Fault()) != verdict.CodeServerDataUnreachable {
		t.Fatalf("got %+v, fault %+v; want it over and complete, with the fault", o, o.Fault())
	}
	if got, want := o.Failure.Error(), o.Fault().Verdict().Text; got != want || o.Failure.Reason != "" {
		t.Errorf("got %q, for the client %q; want %q, and nothing", got, o.Failure.Reason, want)
	}
}

func TestExpectation(t *testing.T) {
	w, table, _ := newTestWatcher()
	if f := pinholeFlow(1); w.Wants(f.Original, f.Master) {
		t.Error("got a flow wanted that is not expected; want it unwanted")
	}
	x := w.Expect(testPinhole)
	now := time.Now()
	f := pinholeFlow(1)
	newFlow(t, w, table, f, now)
	f.State, f.Replied, f.Received.Bytes = netflow.TCPEstablished, true, 500
	table.flows[f.Original] = f
	poll(t, w, now)
	if o := x.Outcome(); o.Connected != now || o.Down != 500 || o.Over || o.Fault() != nil {
		t.Errorf("got %+v; want 500 bytes down so far", o)
	}
	f.State, f.Received.Bytes = netflow.TCPTimeWait, 1000
	table.flows[f.Original] = f
	x.Release(false)
	poll(t, w, now.Add(time.Second))
	if x.Outcome().Over {
		t.Error("got it over while its last segments may arrive; want it to go on")
	}
	poll(t, w, now.Add(time.Second+PollInterval))
	if o := x.Outcome(); o.Down != 1000 || !o.Over {
		t.Errorf("got %+v; want 1000 bytes, and nothing more to come", o)
	}
	table.asked = 0
	if poll(t, w, now.Add(time.Hour)); table.asked != 0 || len(w.expected)+len(w.active) != 0 {
		t.Errorf(
			"got %d flows asked for, %d expected, %d active; want none",
			table.asked,
			len(w.expected),
			len(w.active),
		)
	}
}

// The far end does not accept the connection.
func TestUnanswered(t *testing.T) {
	for name, active := range map[string]bool{"passive": false, "active": true} {
		for _, refused := range []bool{true, false} {
			w, table, _ := newTestWatcher()
			p := testPinhole
			p.Active = active
			x := w.Expect(p)
			now := time.Now()
			f := pinholeFlow(1)
			newFlow(t, w, table, f, now)
			if refused {
				delete(table.flows, f.Original)
			}
			poll(t, w, now.Add(answerWait+time.Second))
			want := verdict.CodeServerDataUnreachable
			if active {
				want = verdict.CodeClientDataUnreachable
			}
			if o := x.Outcome(); o.Fault() == nil || o.Fault().Code != want || o.Fault().At != p.Target ||
				o.Over != refused {
				t.Errorf("%s, refused %v: got %+v, fault %+v; want %s", name, refused, o, o.Fault(), want)
			}
			if refused {
				continue
			}
			f.Replied, f.State = true, netflow.TCPEstablished
			table.flows[f.Original] = f
			poll(t, w, now.Add(10*time.Second))
			if o := x.Outcome(); o.Fault() != nil {
				t.Errorf("%s: got %+v after the answer came", name, o.Fault())
			}
		}
	}
}

func TestUnexpectedPeer(t *testing.T) {
	w, table, _ := newTestWatcher()
	x := w.Expect(testPinhole)
	f := pinholeFlow(1)
	f.Original.From = at("192.168.5.77:3000")
	f.Reply = netflow.Tuple{From: f.Original.To, To: f.Original.From}
	newFlow(t, w, table, f, time.Now())
	if o := x.Outcome(); o.UnexpectedPeer != netip.MustParseAddr("192.168.5.77") || !o.Connected.IsZero() {
		t.Errorf("got %+v; want an unexpected peer, and no other", o)
	}
	newFlow(t, w, table, pinholeFlow(2), time.Now())
	if o := x.Outcome(); o.Connected.IsZero() {
		t.Errorf("got %+v; want the peer behind the unexpected peer", o)
	}
}

// The peer's packet is not translated: a filter of the gateway has dropped the first one, or it is too late.
func TestNotTranslated(t *testing.T) {
	for after, want := range map[time.Duration]verdict.Code{
		time.Second: verdict.CodeGatewayFilter,
		time.Minute: verdict.CodeClientTooLate,
	} {
		w, table, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		f := pinholeFlow(1)
		f.Reply = netflow.Tuple{From: f.Original.To, To: f.Original.From}
		newFlow(t, w, table, f, time.Now().Add(after))
		if o := x.Outcome(); o.Fault() == nil || o.Fault().Code != want || o.UnexpectedPeer.IsValid() ||
			!o.Connected.IsZero() {
			t.Errorf("after %s: got %+v; want %s", after, o, want)
		}
	}
}

// A released expectation is forgotten, but not before the event of its connection had time to arrive.
func TestReleaseForgets(t *testing.T) {
	w, table, _ := newTestWatcher()
	now := time.Now()
	late, unused := w.Expect(testPinhole), testPinhole
	unused.Listen = at("192.168.5.2:50001")
	never := w.Expect(unused)
	late.Release(false)
	never.Release(false)
	newFlow(t, w, table, pinholeFlow(1), now)
	poll(t, w, now)
	if late.Outcome().Connected.IsZero() {
		t.Error("got no connection; want the late one")
	}
	if o := never.Outcome(); !o.Over || !o.Connected.IsZero() {
		t.Errorf("got %+v; want nothing more to come", o)
	}
	if w.expected[unused.Listen] != nil {
		t.Error("got the unused expectation kept; want it forgotten")
	}
}

// A connection to a port that was drawn again belongs to the new expectation.
func TestPortDrawnAgain(t *testing.T) {
	w, table, _ := newTestWatcher()
	old := w.Expect(testPinhole)
	old.Release(false)
	x := w.Expect(testPinhole)
	newFlow(t, w, table, pinholeFlow(1), time.Now())
	poll(t, w, time.Now())
	poll(t, w, time.Now().Add(eventLag))
	if x.Outcome().Connected.IsZero() || !old.Outcome().Connected.IsZero() || !old.Outcome().Over {
		t.Errorf("got %+v and, of the old one, %+v", x.Outcome(), old.Outcome())
	}
	other := testPinhole // of another client, at the same port
	other.From = netip.MustParseAddr("192.168.5.9")
	g := w.Expect(other)
	f := pinholeFlow(2)
	f.Original.From = at("192.168.5.9:1")
	newFlow(t, w, table, f, time.Now())
	if g.Outcome().Connected.IsZero() {
		t.Error("got no connection for the second client of a port; want one")
	}
}

// kernelTracked returns a forward with tracking kernel, and a control connection through it.
func kernelTracked() (forward.Resolved, netflow.Flow) {
	f := forward.Resolved{
		Forward: forward.Forward{Name: "plc", Tracking: forward.TrackingKernel},
		Server4: netip.MustParseAddr("203.0.113.21"),
	}
	f.Listen.Addr, f.Listen.Port, f.Server.Port = netip.MustParseAddr("192.168.5.2"), 2122, 21
	return f, netflow.Flow{
		ID:       7,
		Original: tuple("192.168.5.1:3000", "192.168.5.2:2122"),
		Reply:    tuple("203.0.113.21:21", "203.0.113.1:3000"),
		Replied:  true,
		State:    netflow.TCPEstablished,
	}
}

func TestSession(t *testing.T) {
	w, table, sessionLog := newTestWatcher()
	fwd, control := kernelTracked()
	w.SetForwards([]forward.Resolved{fwd})
	now := time.Now()
	newFlow(t, w, table, control, now)
	data := netflow.Flow{
		ID:       8,
		Original: tuple("192.168.5.1:3001", "192.168.5.2:40000"),
		Reply:    tuple("203.0.113.21:40000", "203.0.113.1:3001"),
		Master:   control.Original,
		Replied:  true,
		State:    netflow.TCPEstablished,
		Received: netflow.Counter{Bytes: 10},
	}
	newFlow(t, w, table, data, now)
	poll(t, w, now)
	running := slices.Collect(sessionLog.Running())
	if len(running) != 1 || running[0].State != sessions.StateTransfer || running[0].Transfer.Bytes != 10 ||
		running[0].Mode != "passive" || running[0].Forward != "plc" ||
		running[0].Server != at("203.0.113.21:21") {
		t.Fatalf("got %+v", running)
	}
	data.State, data.Received.Bytes = netflow.TCPTimeWait, 1000
	table.flows[data.Original] = data
	poll(t, w, now.Add(time.Second))
	poll(t, w, now.Add(time.Second+PollInterval))
	control.State = netflow.TCPTimeWait
	table.flows[control.Original] = control
	poll(t, w, now.Add(controlPollInterval+time.Second))
	ended := slices.Collect(sessionLog.Ended())
	if len(ended) != 1 || ended[0].Totals != (sessions.Totals{Transfers: 1, Down: 1000}) ||
		sessionLog.Count() != 0 {
		t.Errorf("got %+v", ended)
	}
	if len(w.controls)+len(w.active) != 0 {
		t.Error("got controls or connections kept; want none")
	}
}

// Sessions that began before the watcher, and those whose events were lost, are found in the table.
func TestResync(t *testing.T) {
	w, table, sessionLog := newTestWatcher()
	fwd, control := kernelTracked()
	w.SetForwards([]forward.Resolved{fwd})
	over := control
	over.ID, over.State, over.Original.From = 9, netflow.TCPClose, at("192.168.5.1:3009")
	foreign := control
	foreign.ID, foreign.Original, foreign.Reply.From = 10, tuple(
		"192.168.5.1:3010",
		"192.168.5.2:2122",
	), at(
		"192.168.5.2:2122",
	)
	for _, f := range []netflow.Flow{control, over, foreign} {
		table.flows[f.Original] = f
	}
	x := w.Expect(testPinhole)
	data := pinholeFlow(11)
	table.flows[data.Original] = data
	for range 2 { // and nothing is found twice
		if err := w.HandleEvent(netflow.FlowEvent{Change: netflow.FlowsMissed}); err != nil {
			t.Fatal(err)
		}
	}
	if sessionLog.Count() != 1 || x.Outcome().Connected.IsZero() {
		t.Errorf("got %d sessions, connection %+v; want one of each", sessionLog.Count(), x.Outcome())
	}
}

func BenchmarkPoll(b *testing.B) {
	w, table, _ := newTestWatcher()
	for i := range 1000 {
		p := testPinhole
		p.Listen = netip.AddrPortFrom(p.Listen.Addr(), uint16(40000+i))
		w.Expect(p)
		f := pinholeFlow(uint32(i))
		f.Original.To, f.Replied, f.State = p.Listen, true, netflow.TCPEstablished
		table.flows[f.Original] = f
		_ = w.HandleEvent(netflow.FlowEvent{Flow: f, At: time.Now()})
	}
	for b.Loop() {
		_ = w.Poll(time.Now())
	}
}
