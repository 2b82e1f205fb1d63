package passthrough

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relay"
	"ftpgate/internal/dataplane/relaytest"
)

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
			func() string { return "no client connects" })
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
