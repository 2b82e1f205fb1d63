package netflow

import (
	"net/netip"
	"testing"
)

func TestTupleIsZero(t *testing.T) {
	to := netip.MustParseAddrPort("192.168.5.2:2121")
	for tuple, want := range map[Tuple]bool{{}: true, {To: to}: false, {From: to}: false} {
		if got := tuple.IsZero(); got != want {
			t.Errorf("%+v: got %t; want %t", tuple, got, want)
		}
	}
}

// A connection that one end has closed may still carry data of the other end.
func TestStateOver(t *testing.T) {
	for state := TCPNone; state <= TCPSynSent2; state++ {
		want := state == TCPTimeWait || state == TCPClose
		if got := state.Over(); got != want {
			t.Errorf("state %d: got %t; want %t", state, got, want)
		}
	}
	// The kernel's numbers (enum tcp_conntrack).
	if TCPEstablished != 3 || TCPLastAck != 6 || TCPClose != 8 {
		t.Errorf("got %d, %d, %d; want 3, 6, 8", TCPEstablished, TCPLastAck, TCPClose)
	}
}
