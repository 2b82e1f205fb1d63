package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/relaytest"
)

// hole is a pinhole from peer to l.
func hole(l *net.TCPListener) pinhole.Pinhole {
	return pinhole.Pinhole{From: relaytest.Peer, Listen: netip.AddrPortFrom(relaytest.Gateway, 0),
		Target: relaytest.LocalAddrPort(l.Addr()), SourceIP: relaytest.Inside}
}

// newRelay returns a relay with ports of its own.
func newRelay() *Relay { return New(&port.Allocator{}) }

// opener is an opener with the ports and times that hold where none are given.
func opener() *Opener { return &Opener{Relay: newRelay(), Ports: forward.DefaultPassivePorts} }

// hasty is an opener that does not wait long for what the control connection is ahead of.
func hasty() *Opener {
	p := opener()
	p.graceTime = 50 * time.Millisecond
	return p
}

// open opens and arms a transfer that ends with the test, and leaves nothing behind.
func open(t testing.TB, p *Opener, h pinhole.Pinhole) *Transfer {
	t.Helper()
	tr := reserve(t, p, h)
	if err := tr.Arm(); err != nil {
		t.Fatal(err)
	}
	return tr
}

// reserve opens a transfer and does not arm it.
func reserve(t testing.TB, p *Opener, h pinhole.Pinhole) *Transfer {
	t.Helper()
	tr, err := p.Open(context.Background(), h, dataplane.DataTLS{})
	if err != nil {
		t.Fatal(err)
	}
	owned(t, tr)
	return tr
}

func owned(t testing.TB, tr *Transfer) {
	t.Cleanup(func() {
		tr.Close()
		tr.Sever()
		noGoroutines(t, tr)
	})
}

// noGoroutines fails the test if a goroutine still runs for the transfer. The last one may be on its
// way out, between done and its end.
func noGoroutines(t testing.TB, tr *Transfer) {
	t.Helper()
	relaytest.Await(t, func() bool {
		tr.relay.mu.Lock()
		defer tr.relay.mu.Unlock()
		return tr.relay.transfers[tr] == 0
	}, func() string {
		buf := make([]byte, 8<<20)
		return "goroutines are left:\n" + string(buf[:runtime.Stack(buf, true)])
	})
}

// joined returns a transfer with both its ends.
func joined(t testing.TB) (tr *Transfer, client, srv *net.TCPConn) {
	t.Helper()
	return joinedBy(t, opener())
}

// joinedBy returns a transfer of p with both its ends.
func joinedBy(t testing.TB, p *Opener) (tr *Transfer, client, srv *net.TCPConn) {
	t.Helper()
	l := relaytest.Listen(t, relaytest.Server)
	tr = open(t, p, hole(l))
	client = relaytest.Dial(t, relaytest.Peer, tr.Listen())
	return tr, client, relaytest.Accept(t, l)
}

// wait returns the result, which must come in time.
func wait(t testing.TB, tr *Transfer) Result {
	t.Helper()
	select {
	case <-tr.Done():
	case <-time.After(relaytest.Patience):
		t.Fatal("the transfer does not end")
	}
	return tr.Result()
}

// wantBroken checks who broke a transfer.
func wantBroken(t testing.TB, err error, side Side) {
	t.Helper()
	var broken *BrokenError
	if !errors.As(err, &broken) || broken.Side != side {
		t.Errorf("got %v; want it broken by %q", err, side)
	}
}
