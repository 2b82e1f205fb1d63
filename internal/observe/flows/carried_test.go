package flows

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/observe/sessions"
)

// An earlier connection to the same port of the client is forgotten once it is over, and counted until then.
func TestForgetEarlier(t *testing.T) {
	active := pinhole.Pinhole{From: netip.MustParseAddr("203.0.113.21"), Listen: at("203.0.113.1:50000"),
		Target: at("192.168.5.1:45000"), SourceIP: netip.MustParseAddr("192.168.5.2"), Active: true}
	f := netflow.Flow{ID: 7, Original: tuple("203.0.113.21:20", "203.0.113.1:50000"),
		Reply: tuple("192.168.5.1:45000", "192.168.5.2:20"), State: netflow.TCPEstablished, Replied: true}
	for _, tt := range []struct {
		state  netflow.TCPState
		closed bool
		left   int
	}{
		{netflow.TCPEstablished, false, 1}, {netflow.TCPLastAck, false, 1}, {netflow.TCPTimeWait, false, 0},
		{netflow.TCPTimeWait, true, 0}, {netflow.TCPClose, false, 0},
	} {
		table := &fakeTable{flows: map[netflow.Tuple]netflow.Flow{}}
		w := New(table, sessions.New(time.Now()))
		first := w.Expect(active)
		if first.ForgetEarlier(); len(table.flows) != 0 {
			t.Fatal("something came of nothing")
		}
		if err := w.HandleEvent(netflow.FlowEvent{Change: netflow.FlowNew, Flow: f,
			At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		over := f
		over.State, over.Closed, over.Sent.Bytes = tt.state, tt.closed, 1000
		table.flows[f.Original] = over
		if got := w.Carried(); got != 1 {
			t.Errorf("got %d connections carried; want 1", got)
		}
		if got := w.Expect(active).ForgetEarlier(); got != tt.closed {
			t.Errorf("state %d: got remembered %t; want %t", tt.state, got, tt.closed)
		}
		if got := len(table.flows); got != tt.left {
			t.Errorf("state %d, closed %t: got %d flows; want %d", tt.state, tt.closed, got, tt.left)
		}
		if got := first.Outcome().Down; tt.left == 0 && got != 1000 {
			t.Errorf("state %d: got %d bytes counted; want 1000", tt.state, got)
		}
	}
}

// A connection counts as carried until all of its data has arrived, or its ends have closed it.
func TestCarried(t *testing.T) {
	down := netflow.Flow{State: netflow.TCPCloseWait, Closed: true, Sent: netflow.Counter{Packets: 9},
		Received: netflow.Counter{Packets: 9, Bytes: 5000}}
	for name, tt := range map[string]struct {
		change func(*netflow.Flow)
		moves  bool // another packet comes
		going  bool // the transfer continues
		want   int
	}{
		"a download that is over": {want: 0},
		"an empty file":           {change: func(f *netflow.Flow) { f.Received.Bytes = 0 }, want: 0},
		"its transfer goes on":    {going: true, want: 1},
		"something is sent again": {moves: true, want: 1},
		"no end has closed it": {change: func(f *netflow.Flow) { f.State = netflow.TCPEstablished },
			want: 1},
		"its receiver has closed": {change: func(f *netflow.Flow) { f.Closed = false }, want: 1},
		"not counted": {change: func(f *netflow.Flow) {
			f.Sent, f.Received = netflow.Counter{},
				f.Sent
		}, want: 1},
		"the server ends an upload": {change: func(f *netflow.Flow) {
			f.Sent, f.Received = f.Received,
				f.Sent
		}, want: 1},
		"an upload that is over": {change: func(f *netflow.Flow) {
			f.Sent, f.Received, f.Closed = f.Received, f.Sent, false
		}, want: 0},
	} {
		w, table, _ := newTestWatcher()
		x, now := w.Expect(testPinhole), time.Now()
		f := pinholeFlow(1)
		newFlow(t, w, table, f, now)
		if !tt.going {
			x.Release(true)
		}
		f.State, f.Replied, f.Closed, f.Sent, f.Received = down.State, true, true, down.Sent, down.Received
		if tt.change != nil {
			tt.change(&f)
		}
		table.flows[f.Original] = f
		poll(t, w, now)
		if got := w.Carried(); got != 1 {
			t.Errorf("%s: got %d connections at once; want 1", name, got)
		}
		if tt.moves {
			f.Received.Packets++
			table.flows[f.Original] = f
		}
		poll(t, w, now.Add(quietTime))
		if got := w.Carried(); got != tt.want {
			t.Errorf("%s: got %d connections; want %d", name, got, tt.want)
		}
	}
}
