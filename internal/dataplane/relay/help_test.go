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

// pinhole is a pinhole from peer to l.
func pinholeTo(l *net.TCPListener) pinhole.Pinhole {
	return pinhole.Pinhole{From: relaytest.Peer, Listen: netip.AddrPortFrom(relaytest.Gateway, 0),
		Target: relaytest.LocalAddrPort(l.Addr()), SourceIP: relaytest.Inside}
}

// newRelay returns a relay with ports of its own.
func newRelay() *Relay { return New(&port.Allocator{}, nil) }

// opener is an opener with the ports and times that hold where none are given.
func opener() *Opener { return &Opener{Relay: newRelay(), Ports: forward.DefaultPassivePorts} }

// hasty is an opener that does not wait long for what the control connection is ahead of.
func hasty() *Opener {
	p := opener()
	p.graceTime = 50 * time.Millisecond
	return p
}

// open opens and arms a connection that ends with the test, and leaves nothing behind.
func open(t testing.TB, p *Opener, h pinhole.Pinhole) *Connection {
	t.Helper()
	dc := reserve(t, p, h)
	if err := dc.Arm(); err != nil {
		t.Fatal(err)
	}
	return dc
}

// reserve opens a connection and does not arm it.
func reserve(t testing.TB, p *Opener, h pinhole.Pinhole) *Connection {
	t.Helper()
	dc, err := p.Open(context.Background(), h, dataplane.DataTLS{})
	if err != nil {
		t.Fatal(err)
	}
	owned(t, dc)
	return dc
}

func owned(t testing.TB, dc *Connection) {
	t.Cleanup(func() {
		dc.Close()
		dc.Sever()
		noGoroutines(t, dc)
	})
}

// noGoroutines fails the test if a goroutine still runs for the connection. The last one may be on its
// way out, between done and its end.
func noGoroutines(t testing.TB, dc *Connection) {
	t.Helper()
	relaytest.Await(t, func() bool {
		dc.relay.mu.Lock()
		defer dc.relay.mu.Unlock()
		return dc.relay.connections[dc] == 0
	}, func() string {
		buf := make([]byte, 8<<20)
		return "goroutines are left:\n" + string(buf[:runtime.Stack(buf, true)])
	})
}

// connected returns a connection with both its ends.
func connected(t testing.TB) (dc *Connection, client, srv *net.TCPConn) {
	t.Helper()
	return connectedBy(t, opener())
}

// connectedBy returns a connection of p with both its ends.
func connectedBy(t testing.TB, p *Opener) (dc *Connection, client, srv *net.TCPConn) {
	t.Helper()
	l := relaytest.Listen(t, relaytest.Server)
	dc = open(t, p, pinholeTo(l))
	client = relaytest.Dial(t, relaytest.Peer, dc.Listen())
	return dc, client, relaytest.Accept(t, l)
}

// result is what became of a connection.
type result struct {
	Up, Down       int64
	Connected      time.Time // zero: never
	BothConnected  bool
	UnexpectedPeer netip.Addr // the last one; not valid: none
	Err            error      // also that no peer came, or that it was closed before
}

// resultOf returns the result when the connection is over.
func resultOf(dc *Connection) result {
	<-dc.Done()
	r := result{Connected: dc.ConnectedAt(), UnexpectedPeer: dc.LastUnexpectedPeer(), Err: dc.endErr}
	r.Up, r.Down = dc.Bytes()
	select {
	case <-dc.bothConnected:
		r.BothConnected = true
	default:
	}
	return r
}

// wait returns the result, which must come in time.
func wait(t testing.TB, dc *Connection) result {
	t.Helper()
	select {
	case <-dc.Done():
	case <-time.After(relaytest.Patience):
		t.Fatal("the connection does not end")
	}
	return resultOf(dc)
}

// wantBroken checks who broke a connection.
func wantBroken(t testing.TB, err error, side Side) {
	t.Helper()
	var broken *BrokenError
	if !errors.As(err, &broken) || broken.Side != side {
		t.Errorf("got %v; want it broken by %q", err, side)
	}
}
