package passthrough

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relay"
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

func TestPassthrough(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 8)
	var mu sync.Mutex
	ends := map[pinhole.Passthrough]error{}
	ps := newPassthroughs(t, func(p pinhole.Passthrough, err error) {
		mu.Lock()
		defer mu.Unlock()
		ends[p] = err
	})
	want := passthroughTo(r)
	p := pass(t, ps, want)
	defer p.Close()
	for i, l := range ls {
		at := netip.AddrPortFrom(relaytest.Gateway, r.First+uint16(i))
		client, srv := through(t, relaytest.Peer, at, l)
		if got := relaytest.LocalAddrPort(srv.RemoteAddr()).Addr(); got != relaytest.Inside {
			t.Errorf("port %d: the server sees %s; want %s", at.Port(), got, relaytest.Inside)
		}
		talk(t, client, srv)
	}
	relaytest.WantCutOff(t, "unexpected peer", relaytest.UnexpectedPeer,
		netip.AddrPortFrom(relaytest.Gateway, r.First))
	ps.await(t, 8)
	if open, routes := ps.openNow(); open != 1 || routes != 8 {
		t.Errorf("got %d passthroughs, %d routes; want 1 and 8", open, routes)
	}
	for i := range ls {
		one := want
		one.Ports = forward.PortRange{First: r.First + uint16(i), Last: r.First + uint16(i)}
		if err, ended := ends[one]; err != nil || !ended {
			t.Errorf("%s: got %v, ended %t; want it to end in order", one, err, ended)
		}
	}
}

// TestPassthroughOneByOne uses one port for one connection after the other, and for two at once.
func TestPassthroughOneByOne(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 1)
	defer pass(t, newPassthroughs(t, nil), passthroughTo(r)).Close()
	at := netip.AddrPortFrom(relaytest.Gateway, r.First)
	for range 10 {
		c1, s1 := through(t, relaytest.Peer, at, ls[0])
		c2, s2 := through(t, relaytest.Peer, at, ls[0])
		talk(t, c2, s2)
		talk(t, c1, s1)
	}
}

func TestPassthroughTwoClients(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 3)
	other := atPorts(t, relaytest.SecondServer, r)
	ps := newPassthroughs(t, nil)
	mine := passthroughTo(r)
	theirs := mine
	theirs.From = relaytest.UnexpectedPeer
	theirs.Target, theirs.SourceIP = relaytest.SecondServer, relaytest.SecondInside
	theirs.Ports.First++ // they overlap
	first, second := pass(t, ps, mine), pass(t, ps, theirs)
	at := netip.AddrPortFrom(relaytest.Gateway, r.Last)
	c1, s1 := through(t, relaytest.Peer, at, ls[2])
	c2, s2 := through(t, relaytest.UnexpectedPeer, at, other[2])
	if got := relaytest.LocalAddrPort(s2.RemoteAddr()).Addr(); got != theirs.SourceIP {
		t.Errorf("the second server sees %s; want %s", got, theirs.SourceIP)
	}
	talk(t, c1, s1)
	talk(t, c2, s2)
	relaytest.WantCutOff(t, "client without that port", relaytest.UnexpectedPeer,
		netip.AddrPortFrom(relaytest.Gateway, r.First))
	first.Close()
	relaytest.WantRefused(t, netip.AddrPortFrom(relaytest.Gateway, r.First))
	relaytest.WantCutOff(t, "client whose passthrough is closed", relaytest.Peer, at)
	c2, s2 = through(t, relaytest.UnexpectedPeer, at, other[2])
	talk(t, c2, s2)
	second.Close()
	relaytest.WantRefused(t, at)
}

// TestPassthroughCounted has sessions of one client share a passthrough.
func TestPassthroughCounted(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 4)
	ps := newPassthroughs(t, nil)
	var open []*Handle
	for range 20 {
		open = append(open, pass(t, ps, passthroughTo(r)))
	}
	narrow := passthroughTo(forward.PortRange{First: r.Last, Last: r.Last})
	within := pass(t, ps, narrow) // the same way once more, as another passthrough
	at := netip.AddrPortFrom(relaytest.Gateway, r.First)
	for _, p := range open[1:] {
		p.Close()
		p.Close()
		c, s := through(t, relaytest.Peer, at, ls[0])
		talk(t, c, s)
	}
	open[0].Close()
	for i := range 3 {
		relaytest.WantRefused(t, netip.AddrPortFrom(relaytest.Gateway, r.First+uint16(i)))
	}
	c, s := through(t, relaytest.Peer, netip.AddrPortFrom(relaytest.Gateway, r.Last), ls[3])
	talk(t, c, s)
	within.Close()
	relaytest.WantRefused(t, netip.AddrPortFrom(relaytest.Gateway, r.Last))
	if got, routes := ps.openNow(); got != 0 || routes != 0 {
		t.Errorf("got %+v; want nothing open", got)
	}
}

// TestPassthroughRunsOn closes a passthrough under a transfer, opens it again beside it, and then closes all.
func TestPassthroughRunsOn(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 2)
	ends := make(chan error, 2)
	ps := newPassthroughs(t, func(_ pinhole.Passthrough, err error) { ends <- err })
	at := netip.AddrPortFrom(relaytest.Gateway, r.First)
	p := pass(t, ps, passthroughTo(r))
	c1, s1 := through(t, relaytest.Peer, at, ls[0])
	p.Close()
	relaytest.WantRefused(t, at)
	if _, err := s1.Write([]byte("on")); err != nil {
		t.Fatal(err)
	}
	if _, err := c1.Read(make([]byte, 2)); err != nil {
		t.Fatalf("running connection after Close: %v", err)
	}
	p = pass(t, ps, passthroughTo(r))
	c2, s2 := through(t, relaytest.Peer, at, ls[0])
	talk(t, c1, s1)
	if err := <-ends; err != nil {
		t.Errorf("the one that ran on: got %v; want no error", err)
	}
	ps.Close()
	ps.Close()
	p.Close()
	relaytest.WantReset(t, "client", c2)
	relaytest.WantReset(t, "server", s2)
	if err := <-ends; !errors.Is(err, ErrClosed) {
		t.Errorf("the one that was cut: got %v; want %v", err, ErrClosed)
	}
	relaytest.WantRefused(t, at)
	if _, err := ps.Open(passthroughTo(r)); !errors.Is(err, ErrClosed) {
		t.Errorf("open after the end: got %v; want %v", err, ErrClosed)
	}
}

// TestPassthroughClosedAtOnce has a client connect all the time: what comes after Close has returned is
// refused.
func TestPassthroughClosedAtOnce(t *testing.T) {
	r, _ := ranged(t, relaytest.Server, 1)
	ps := newPassthroughs(t, nil)
	at := netip.AddrPortFrom(relaytest.Gateway, r.First)
	for range 50 {
		p := pass(t, ps, passthroughTo(r))
		busy := make(chan struct{})
		go func() {
			defer close(busy)
			for {
				c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(relaytest.Peer, 0)),
					net.TCPAddrFromAddrPort(at))
				if errors.Is(err, syscall.ECONNREFUSED) {
					return
				}
				if err == nil {
					relaytest.Reset(c)
				}
			}
		}()
		before := ps.connections.Load()
		relaytest.Await(t, func() bool { return ps.connections.Load() > before },
			func() string { return "nobody comes" })
		p.Close()
		relaytest.WantRefused(t, at)
		<-busy
	}
}

func TestPassthroughUnreached(t *testing.T) {
	r := relaytest.FreePorts(t, 1)
	ends := make(chan error, 1)
	ps := newPassthroughs(t, func(_ pinhole.Passthrough, err error) { ends <- err })
	defer pass(t, ps, passthroughTo(r)).Close()
	relaytest.WantCutOff(t, "client", relaytest.Peer, netip.AddrPortFrom(relaytest.Gateway, r.First))
	err := <-ends
	var dial *relay.DialError
	if !errors.As(err, &dial) || dial.Side != relay.Server ||
		dial.To != netip.AddrPortFrom(relaytest.Server, r.First) {
		t.Errorf("got %v; want a DialError of the server", err)
	}
}

// TestPassthroughBroken has either end break: the other one sees it.
func TestPassthroughBroken(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 1)
	defer pass(t, newPassthroughs(t, nil), passthroughTo(r)).Close()
	at := netip.AddrPortFrom(relaytest.Gateway, r.First)
	client, srv := through(t, relaytest.Peer, at, ls[0])
	relaytest.Reset(srv)
	relaytest.WantReset(t, "client", client)
	client, srv = through(t, relaytest.Peer, at, ls[0])
	relaytest.Reset(client)
	relaytest.WantReset(t, "server", srv)
}

func TestPassthroughTwoFamilies(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 2)
	p := pinhole.Passthrough{From: relaytest.Loopback6, Listen: relaytest.Loopback6, Ports: r,
		Target: relaytest.Server, SourceIP: relaytest.Inside}
	defer pass(t, newPassthroughs(t, nil), p).Close()
	for i, l := range ls {
		client, srv := through(t, relaytest.Loopback6, netip.AddrPortFrom(relaytest.Loopback6,
			r.First+uint16(i)), l)
		talk(t, client, srv)
	}
}

// TestPassthroughMapped writes an IPv4 client as the sockets of a listener for both families do.
func TestPassthroughMapped(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 1)
	p := passthroughTo(r)
	p.From, p.Listen = netip.AddrFrom16(p.From.As16()), netip.AddrFrom16(p.Listen.As16())
	defer pass(t, newPassthroughs(t, nil), p).Close()
	client, srv := through(t, relaytest.Peer, netip.AddrPortFrom(relaytest.Gateway, r.First), ls[0])
	talk(t, client, srv)
}

// TestPassthroughManyHands opens, uses and closes the same and other passthroughs from all sides at once.
func TestPassthroughManyHands(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 3)
	for _, l := range ls {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	}
	ps := newPassthroughs(t, nil)
	var hands sync.WaitGroup
	for i := range 8 {
		p := passthroughTo(r)
		p.From = []netip.Addr{relaytest.Peer, relaytest.UnexpectedPeer}[i%2]
		p.Ports.First += uint16(i % 3)
		hands.Go(func() {
			for range 20 {
				open, err := ps.Open(p)
				if err == nil {
					err = open.Arm()
				}
				if err != nil {
					t.Error(err)
					return
				}
				d := net.Dialer{Timeout: relaytest.Patience,
					LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.From, 0))}
				c, err := d.Dial("tcp", netip.AddrPortFrom(relaytest.Gateway, r.Last).String())
				if err != nil {
					t.Error(err)
				} else {
					relaytest.WantData(t, "client", c.(*net.TCPConn), nil)
					c.Close()
				}
				open.Close()
			}
		})
	}
	hands.Wait()
	ps.await(t, 160)
	if got, routes := ps.openNow(); got != 0 || routes != 0 {
		t.Errorf("got %d passthroughs, %d routes; want none", got, routes)
	}
}
