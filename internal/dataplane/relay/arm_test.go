package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/relaytest"
)

// TestReserved has ports in every state that a reservation can meet: it keeps the port for itself
// against other programs, admits no peer, and becomes a pinhole when it is armed.
func TestReserved(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(*testing.T, *Opener) // what happened at the port
	}{
		{"fresh", func(*testing.T, *Opener) {}},
		// TIME_WAIT is here
		{"closed first by the gateway", func(t *testing.T, p *Opener) { carryOne(t, p, Server) }},
		{"closed first by the peer", func(t *testing.T, p *Opener) { carryOne(t, p, Client) }},
		{"in use by a transfer", func(t *testing.T, p *Opener) { connectedBy(t, p) }},
		{"given back", func(t *testing.T, p *Opener) {
			reserve(t, p,
				pinholeTo(relaytest.Listen(t, relaytest.Server))).Close()
		}},
		{"given back after Arm", func(t *testing.T, p *Opener) {
			open(t, p,
				pinholeTo(relaytest.Listen(t, relaytest.Server))).Close()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &Opener{Relay: newRelay(), Ports: relaytest.FreePorts(t, 1)}
			tt.before(t, p)
			l := relaytest.Listen(t, relaytest.Server)
			dc := reserve(t, p, pinholeTo(l))
			wantTaken(t, p, dc.Listen())
			relaytest.WantCutOff(t, "early peer", relaytest.Peer, dc.Listen())
			if err := dc.Arm(); err != nil {
				t.Fatal(err)
			}
			wantTaken(t, p, dc.Listen())
			client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
			srv := relaytest.Accept(t, l)
			relaytest.Send(srv, []byte("mine"))
			relaytest.WantData(t, "client", client, []byte("mine"))
			client.Close()
			if r := wait(t, dc); r.Err != nil || r.UnexpectedPeer.IsValid() {
				t.Errorf("got %+v; want neither an error nor unexpected peers", r)
			}
		})
	}
}

// carryOne has a connection go through, of which one side is the first to close.
func carryOne(t *testing.T, p *Opener, first Side) {
	t.Helper()
	dc, client, srv := connectedBy(t, p)
	ends := [2]*net.TCPConn{client, srv}
	ends[first].Close()
	relaytest.WantData(t, "other end", ends[first.other()], nil)
	ends[first.other()].Close()
	if r := wait(t, dc); r.Err != nil {
		t.Fatal(r.Err)
	}
}

// wantTaken checks that the port is taken: for pinholes, for listeners, on all addresses
// too, and for sockets that are only bound.
func wantTaken(t *testing.T, p *Opener, at netip.AddrPort) {
	t.Helper()
	for range 2 { // what the first one fails at must not help the second one
		if second, err := p.Open(t.Context(), pinholeTo(relaytest.Listen(t, relaytest.Server)),
			dataplane.DataTLS{}); !errors.Is(err, port.ErrNone) {
			if err == nil {
				second.Close()
			}
			t.Errorf("second pinhole at %s: got %v; want %v", at, err, port.ErrNone)
		}
	}
	for _, addr := range []netip.Addr{at.Addr(), netip.IPv4Unspecified()} {
		l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, at.Port())))
		if err == nil {
			l.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listen at %s, port %d: got %v; want %v", addr, at.Port(), err, syscall.EADDRINUSE)
		}
	}
}

// TestReservedByAnother has another process ask for the port, as a second ftpgate with the same range
// does.
func TestReservedByAnother(t *testing.T) {
	if isChild() {
		ports, err := forward.ParsePortRange(os.Getenv("RELAY_TEST_PORTS"))
		if err != nil {
			t.Fatal(err)
		}
		p := &Opener{Relay: newRelay(), Ports: ports}
		wantTaken(t, p, netip.AddrPortFrom(relaytest.Gateway, p.Ports.First))
		return
	}
	p := &Opener{Relay: newRelay(), Ports: relaytest.FreePorts(t, 1)}
	carryOne(t, p, Server)
	reserve(t, p, pinholeTo(relaytest.Listen(t, relaytest.Server)))
	cmd := again(t, "TestReservedByAnother")
	cmd.Env = append(cmd.Env, "RELAY_TEST_PORTS="+p.Ports.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestOpenAtOnce has many pinholes want few ports at the same moment: each port has one taker.
func TestOpenAtOnce(t *testing.T) {
	const ports, takers = 8, 32
	p := &Opener{Relay: newRelay(), Ports: relaytest.FreePorts(t, ports)}
	h := pinholeTo(relaytest.Listen(t, relaytest.Server))
	got := make(chan *Connection)
	for range takers {
		go func() {
			dc, err := p.Open(context.Background(), h, dataplane.DataTLS{})
			if err == nil {
				err = dc.Arm()
			}
			if err != nil && !errors.Is(err, port.ErrNone) {
				t.Errorf("got %v; want %v", err, port.ErrNone)
			}
			got <- dc
		}()
	}
	seen := map[uint16]bool{}
	for range takers {
		dc := <-got
		if dc == nil {
			continue
		}
		owned(t, dc)
		if seen[dc.Listen().Port()] {
			t.Errorf("port %d has two takers", dc.Listen().Port())
		}
		seen[dc.Listen().Port()] = true
	}
	if len(seen) != ports {
		t.Errorf("got %d of %d ports", len(seen), ports)
	}
}

func TestAvoid(t *testing.T) {
	p := &Opener{Relay: newRelay(), Ports: relaytest.FreePorts(t, 3)}
	kept := p.Ports.First + 1
	p.Avoid = func(at netip.AddrPort) bool {
		if at.Addr() != relaytest.Gateway {
			t.Errorf("asked for %s; want %s", at.Addr(), relaytest.Gateway)
		}
		return at.Port() == kept
	}
	h := pinholeTo(relaytest.Listen(t, relaytest.Server))
	for range 2 {
		if dc := reserve(t, p, h); dc.Listen().Port() == kept {
			t.Errorf("got port %d, which is to be avoided", kept)
		}
	}
	if _, err := p.Open(t.Context(), h, dataplane.DataTLS{}); !errors.Is(err, port.ErrNone) {
		t.Errorf("got %v; want %v", err, port.ErrNone)
	}
}

// TestArmAfterEnd arms what is over: nothing opens.
func TestArmAfterEnd(t *testing.T) {
	why := errors.New("the session is over")
	ctx, cancel := context.WithCancelCause(context.Background())
	dc, err := opener().Open(ctx, pinholeTo(relaytest.Listen(t, relaytest.Server)), dataplane.DataTLS{})
	if err != nil {
		t.Fatal(err)
	}
	owned(t, dc)
	cancel(why)
	if r := wait(t, dc); !errors.Is(r.Err, ErrClosed) || !errors.Is(r.Err, why) {
		t.Errorf("got %v; want %v and %v", r.Err, ErrClosed, why)
	}
	if err := dc.Arm(); !errors.Is(err, ErrClosed) {
		t.Errorf("Arm: got %v; want %v", err, ErrClosed)
	}
	relaytest.WantRefused(t, dc.Listen())
}

// TestArmOnceMore arms what is armed already, while it waits and while it carries: nothing changes.
func TestArmOnceMore(t *testing.T) {
	dc, client, srv := connected(t)
	for range 2 {
		if err := dc.Arm(); err != nil {
			t.Error(err)
		}
	}
	relaytest.WantRefused(t, dc.Listen())
	client.Close()
	srv.Close()
	if r := wait(t, dc); r.Err != nil {
		t.Error(r.Err)
	}
}

// Two clients have the only port at the same time, each for its own server.
func TestPortShared(t *testing.T) {
	p := &Opener{Relay: newRelay(), Ports: relaytest.FreePorts(t, 1)}
	servers := []*net.TCPListener{relaytest.Listen(t, relaytest.Server), relaytest.Listen(t,
		relaytest.Server)}
	clients := []netip.Addr{relaytest.Peer, relaytest.Inside}
	var connections []*Connection
	for i, l := range servers {
		h := pinholeTo(l)
		h.From = clients[i]
		connections = append(connections, open(t, p, h))
	}
	for i, dc := range connections {
		client := relaytest.Dial(t, clients[i], dc.Listen())
		relaytest.Send(relaytest.Accept(t, servers[i]), []byte(clients[i].String()))
		relaytest.WantData(t, "client", client, []byte(clients[i].String()))
	}
	relaytest.WantRefused(t, connections[0].Listen())
}

// waits reports whether a connection waits to be accepted.
func waits(l *net.TCPListener) bool {
	raw, err := l.SyscallConn()
	n := 0
	if err == nil {
		_ = raw.Control(func(fd uintptr) {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		})
	}
	return n > 0 && err == nil
}

// AwaitBothEnds waits for the far end where the peer has connected, and for nothing else.
func TestJoin(t *testing.T) {
	t.Parallel()
	l := relaytest.Listen(t, relaytest.Server)
	reserve(t, opener(), pinholeTo(l)).AwaitBothEnds(nil) // before Arm
	dc := open(t, opener(), pinholeTo(l))
	dc.AwaitBothEnds(nil) // no end
	for range 50 {
		dc := open(t, opener(), pinholeTo(l))
		relaytest.Dial(t, relaytest.Peer, dc.Listen())
		dc.AwaitBothEnds(nil)
		if !waits(l) {
			t.Fatal("the server has no connection; want it to have it when AwaitBothEnds returns")
		}
		relaytest.Accept(t, l)
	}
	dc = open(t, opener(), pinholeTo(deaf(t)))
	relaytest.Dial(t, relaytest.Peer, dc.Listen())
	cancel := make(chan struct{})
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		dc.AwaitBothEnds(cancel)
	}()
	<-dc.connected
	select {
	case <-returned:
		t.Error("AwaitBothEnds has returned; want it to wait for the far end")
	default:
	}
	close(cancel)
	<-returned
	dc.Sever()
	dc.AwaitBothEnds(nil) // it has failed
}

// A connection that comes late finds the pinhole open while a transfer command waits for it, and not else.
func TestUse(t *testing.T) {
	l := relaytest.Listen(t, relaytest.Server)
	p := opener()
	p.WaitTime = time.Millisecond
	dc := reserve(t, p, pinholeTo(l))
	dc.Use()
	dc.Use() // once more: nothing
	if err := dc.Arm(); err != nil {
		t.Fatal(err)
	}
	unused := open(t, p, pinholeTo(l))
	if r := wait(t, unused); !errors.Is(r.Err, ErrNoPeer) {
		t.Errorf("got %v; want %v", r.Err, ErrNoPeer)
	}
	client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
	srv := relaytest.Accept(t, l)
	relaytest.Send(srv, []byte("late"))
	relaytest.WantData(t, "client", client, []byte("late"))
	unused = reserve(t, p, pinholeTo(l))
	unused.Use()
	if err := unused.Arm(); err != nil {
		t.Fatal(err)
	}
	unused.Unuse()
	if r := wait(t, unused); !errors.Is(r.Err, ErrNoPeer) {
		t.Errorf("after Unuse: got %v; want %v", r.Err, ErrNoPeer)
	}
}

// The client of an active connection sees the port that the server has connected from.
func TestActivePort(t *testing.T) {
	client := relaytest.Listen(t, relaytest.Server)
	h := pinholeTo(client)
	h.Active = true
	for range 2 { // the second time, the first connection is in TIME_WAIT
		dc := open(t, opener(), h)
		server := relaytest.Dial(t, relaytest.Peer, dc.Listen())
		c := relaytest.Accept(t, client)
		if got, want := relaytest.LocalAddrPort(c.RemoteAddr()).Port(),
			relaytest.LocalAddrPort(server.LocalAddr()).Port(); got != want {
			t.Errorf("the client sees port %d; want %d, the server's", got, want)
		}
	}
}

// BenchmarkExhausted asks for a port of the default range, all of which is taken.
func BenchmarkExhausted(b *testing.B) {
	p := opener()
	h := pinhole.Pinhole{From: relaytest.Peer, Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"),
		0), Target: netip.AddrPortFrom(relaytest.Server, 2000), SourceIP: relaytest.Inside}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 20000 {
		b.Skipf("%d open files are too few, %v", limit.Cur, err)
	}
	for {
		dc, err := p.Open(context.Background(), h, dataplane.DataTLS{})
		if errors.Is(err, port.ErrNone) {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		defer dc.Close()
	}
	for b.Loop() {
		if _, err := p.Open(context.Background(), h, dataplane.DataTLS{}); !errors.Is(err, port.ErrNone) {
			b.Fatal(err)
		}
	}
}
