package passthrough

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relaytest"
)

// counted is Passthroughs that count what they report.
type counted struct {
	*Passthroughs
	connections  atomic.Int64 // that are over
	acceptErrors atomic.Int64
}

// newPassthroughs returns Passthroughs that end with the test and leave nothing behind.
func newPassthroughs(t *testing.T, ended func(pinhole.Passthrough, error)) *counted {
	t.Helper()
	ps := &counted{}
	ps.Passthroughs = New(Config{
		DialTime: relaytest.Patience,
		Ended: func(p pinhole.Passthrough, err error) {
			if ended != nil {
				ended(p, err)
			}
			ps.connections.Add(1)
		},
		AcceptFailed: func(netip.AddrPort, error) { ps.acceptErrors.Add(1) },
	})
	t.Cleanup(func() {
		ps.Close()
		if open, ports := ps.openNow(); open != 0 || ports != 0 {
			t.Errorf("after the end: got %d passthroughs, %d routes; want none", open, ports)
		}
		noGoroutines(t)
	})
	return ps
}

// openNow returns how many passthroughs are open, shared ones counted once, and how many routes they have.
func (c *counted) openNow() (passthroughs, routes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.handles), len(c.routes)
}

// await waits until so many connections are over.
func (c *counted) await(t *testing.T, connections int64) {
	t.Helper()
	relaytest.Await(t, func() bool { return c.connections.Load() >= connections },
		func() string { return fmt.Sprintf("got %d connections", c.connections.Load()) })
	if got := c.connections.Load(); got != connections {
		t.Errorf("got %d connections; want %d", got, connections)
	}
}

// noGoroutines fails the test if a goroutine of some Passthroughs still runs.
func noGoroutines(t *testing.T) {
	t.Helper()
	var left string
	relaytest.Await(t, func() bool {
		buf := make([]byte, 8<<20)
		left = string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(left, "passthrough.(*Passthroughs)") &&
			!strings.Contains(left, "relay.(*Connection)")
	}, func() string { return "goroutines are left:\n" + left })
}

// reserve opens a passthrough, and does not arm it.
func reserve(t *testing.T, ps *counted, p pinhole.Passthrough) *Handle {
	t.Helper()
	got, err := ps.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// pass opens a passthrough and arms it.
func pass(t *testing.T, ps *counted, p pinhole.Passthrough) *Handle {
	t.Helper()
	got := reserve(t, ps, p)
	if err := got.Arm(); err != nil {
		t.Fatal(err)
	}
	return got
}

// passthroughTo is a passthrough from peer to server.
func passthroughTo(ports forward.PortRange) pinhole.Passthrough {
	return pinhole.Passthrough{From: relaytest.Peer, Listen: relaytest.Gateway, Ports: ports,
		Target: relaytest.Server, SourceIP: relaytest.Inside}
}

// ranged listens at every port of a range of n, which is free at the gateway too.
func ranged(t *testing.T, addr netip.Addr, n int) (forward.PortRange, []*net.TCPListener) {
	t.Helper()
	r := relaytest.FreePorts(t, n)
	return r, atPorts(t, addr, r)
}

func atPorts(t *testing.T, addr netip.Addr, r forward.PortRange) (ls []*net.TCPListener) {
	t.Helper()
	for i := range portCount(r) {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, r.First+uint16(i))))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		ls = append(ls, l)
	}
	return ls
}

// talk sends something through in both directions, to the end of both.
func talk(t *testing.T, client, srv *net.TCPConn) {
	t.Helper()
	up, down := relaytest.Noise(70<<10), relaytest.Noise(300<<10)
	relaytest.Send(client, up)
	relaytest.WantData(t, "server", srv, up)
	relaytest.Send(srv, down) // the other direction is closed already
	relaytest.WantData(t, "client", client, down)
	client.Close()
	srv.Close()
}

// through connects from a client to a port of the gateway and takes the connection at l.
func through(t *testing.T, from netip.Addr, at netip.AddrPort, l *net.TCPListener) (client,
	srv *net.TCPConn) {
	t.Helper()
	client = relaytest.Dial(t, from, at)
	return client, relaytest.Accept(t, l)
}
