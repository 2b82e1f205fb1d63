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
	for _, tt := range []struct {
		state netflow.TCPState
		used  bool // the transfer is over
		want  int
	}{
		{netflow.TCPEstablished, true, 1},
		{netflow.TCPFinWait, true, 1}, // the end is sent, and nobody has acknowledged it
		{netflow.TCPCloseWait, true, 0},
		{netflow.TCPCloseWait, false, 1},
	} {
		w, table, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		f := pinholeFlow(1)
		newFlow(t, w, table, f, time.Now())
		x.Release(tt.used)
		f.State, f.Replied = tt.state, true
		table.flows[f.Original] = f
		poll(t, w, time.Now())
		if got := w.Carried(); got != tt.want {
			t.Errorf("state %d, transfer over %t: got %d connections; want %d", tt.state, tt.used, got,
				tt.want)
		}
	}
}
