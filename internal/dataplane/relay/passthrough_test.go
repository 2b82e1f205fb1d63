package relay

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// passages returns Passages that end with the test and leave nothing behind.
func passages(t *testing.T, ended func(pinhole.Passthrough, Result)) *Passthroughs {
	t.Helper()
	ps := NewPassthroughs(patience, ended)
	t.Cleanup(func() {
		ps.Close()
		if got := ps.Counts(); got.Passthroughs != 0 || got.Ports != 0 || got.Running != 0 {
			t.Errorf("after the end: got %+v; want nothing open", got)
		}
		noPassageGoroutines(t)
	})
	return ps
}

// noPassageGoroutines fails the test if a goroutine of some Passages still runs.
func noPassageGoroutines(t *testing.T) {
	t.Helper()
	var left string
	await(t, func() bool {
		buf := make([]byte, 8<<20)
		left = string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(left, "relay.(*Passages)") && !strings.Contains(left, "relay.(*Transfer)")
	}, func() string { return "goroutines are left:\n" + left })
}

// pass opens a passage.
func pass(t *testing.T, ps *Passthroughs, p pinhole.Passthrough) *Handle {
	t.Helper()
	got, err := ps.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// passageTo is a passage from peer to server.
func passageTo(ports forward.PortRange) pinhole.Passthrough {
	return pinhole.Passthrough{From: peer, Listen: gateway, Ports: ports, Target: server, SourceIP: inside}
}

// ranged listens at every port of a range of n, which is free at the gateway too.
func ranged(t *testing.T, addr netip.Addr, n int) (forward.PortRange, []*net.TCPListener) {
	t.Helper()
	r := free(t, n)
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
	up, down := noise(70<<10), noise(300<<10)
	send(client, up)
	wantData(t, "server", srv, up)
	send(srv, down) // the other direction is closed already
	wantData(t, "client", client, down)
	client.Close()
	srv.Close()
}

// through connects from a client to a port of the gateway and takes the connection at l.
func through(t *testing.T, from netip.Addr, at netip.AddrPort, l *net.TCPListener) (client, srv *net.TCPConn) {
	t.Helper()
	client = dialFrom(t, from, at)
	return client, acceptFrom(t, l)
}

func TestPassage(t *testing.T) {
	r, ls := ranged(t, server, 8)
	var mu sync.Mutex
	results := map[pinhole.Passthrough]Result{}
	ps := passages(t, func(p pinhole.Passthrough, r Result) {
		mu.Lock()
		defer mu.Unlock()
		results[p] = r
	})
	want := passageTo(r)
	p := pass(t, ps, want)
	defer p.Close()
	for i, l := range ls {
		at := netip.AddrPortFrom(gateway, r.First+uint16(i))
		client, srv := through(t, peer, at, l)
		if got := localAddrPort(srv.RemoteAddr()).Addr(); got != inside {
			t.Errorf("port %d: the server sees %s; want %s", at.Port(), got, inside)
		}
		talk(t, client, srv)
	}
	wantCutOff(t, "stranger", stranger, netip.AddrPortFrom(gateway, r.First))
	await(t, func() bool { return ps.Counts().Running == 0 }, func() string { return "connections do not end" })
	got := ps.Counts()
	if want := (PassthroughCounts{Passthroughs: 1, Ports: 8, Connections: 8, Strangers: 1}); got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
	for i := range ls {
		one := want
		one.Ports = forward.PortRange{First: r.First + uint16(i), Last: r.First + uint16(i)}
		if res := results[one]; res.Err != nil || res.FromTo != 70<<10 || res.ToFrom != 300<<10 || res.Joined.IsZero() {
			t.Errorf("%s: got %+v; want all of it", one, res)
		}
	}
}

// TestPassageOneByOne uses one port for one connection after the other, and for two at once.
func TestPassageOneByOne(t *testing.T) {
	r, ls := ranged(t, server, 1)
	defer pass(t, passages(t, nil), passageTo(r)).Close()
	at := netip.AddrPortFrom(gateway, r.First)
	for range 10 {
		c1, s1 := through(t, peer, at, ls[0])
		c2, s2 := through(t, peer, at, ls[0])
		talk(t, c2, s2)
		talk(t, c1, s1)
	}
}

func TestPassageTwoClients(t *testing.T) {
	r, ls := ranged(t, server, 3)
	other := atPorts(t, netip.MustParseAddr("127.0.0.6"), r)
	ps := passages(t, nil)
	mine := passageTo(r)
	theirs := mine
	theirs.From, theirs.Target, theirs.SourceIP = stranger, netip.MustParseAddr("127.0.0.6"), netip.MustParseAddr("127.0.0.7")
	theirs.Ports.First++ // they overlap
	first, second := pass(t, ps, mine), pass(t, ps, theirs)
	at := netip.AddrPortFrom(gateway, r.Last)
	c1, s1 := through(t, peer, at, ls[2])
	c2, s2 := through(t, stranger, at, other[2])
	if got := localAddrPort(s2.RemoteAddr()).Addr(); got != theirs.SourceIP {
		t.Errorf("the second server sees %s; want %s", got, theirs.SourceIP)
	}
	talk(t, c1, s1)
	talk(t, c2, s2)
	wantCutOff(t, "client without that port", stranger, netip.AddrPortFrom(gateway, r.First))
	first.Close()
	wantRefused(t, netip.AddrPortFrom(gateway, r.First))
	wantCutOff(t, "client whose passage is closed", peer, at)
	c2, s2 = through(t, stranger, at, other[2])
	talk(t, c2, s2)
	second.Close()
	wantRefused(t, at)
}

// TestPassageCounted has sessions of one client share a passage.
func TestPassageCounted(t *testing.T) {
	r, ls := ranged(t, server, 4)
	ps := passages(t, nil)
	var open []*Handle
	for range 20 {
		open = append(open, pass(t, ps, passageTo(r)))
	}
	narrow := passageTo(forward.PortRange{First: r.Last, Last: r.Last})
	within := pass(t, ps, narrow) // the same way once more, as another passage
	at := netip.AddrPortFrom(gateway, r.First)
	for _, p := range open[1:] {
		p.Close()
		p.Close()
		c, s := through(t, peer, at, ls[0])
		talk(t, c, s)
	}
	open[0].Close()
	for i := range 3 {
		wantRefused(t, netip.AddrPortFrom(gateway, r.First+uint16(i)))
	}
	c, s := through(t, peer, netip.AddrPortFrom(gateway, r.Last), ls[3])
	talk(t, c, s)
	within.Close()
	wantRefused(t, netip.AddrPortFrom(gateway, r.Last))
	if got := ps.Counts(); got.Passthroughs != 0 || got.Ports != 0 {
		t.Errorf("got %+v; want nothing open", got)
	}
}

// TestPassageRunsOn closes a passage under a transfer, opens it again beside it, and then closes all.
func TestPassageRunsOn(t *testing.T) {
	r, ls := ranged(t, server, 2)
	results := make(chan Result, 2)
	ps := passages(t, func(_ pinhole.Passthrough, r Result) { results <- r })
	at := netip.AddrPortFrom(gateway, r.First)
	p := pass(t, ps, passageTo(r))
	c1, s1 := through(t, peer, at, ls[0])
	p.Close()
	wantRefused(t, at)
	if _, err := s1.Write([]byte("on")); err != nil {
		t.Fatal(err)
	}
	if _, err := c1.Read(make([]byte, 2)); err != nil {
		t.Fatalf("running connection after Close: %v", err)
	}
	p = pass(t, ps, passageTo(r))
	c2, s2 := through(t, peer, at, ls[0])
	talk(t, c1, s1)
	if r := <-results; r.Err != nil {
		t.Errorf("the one that ran on: got %v; want no error", r.Err)
	}
	ps.Close()
	ps.Close()
	p.Close()
	wantReset(t, "client", c2)
	wantReset(t, "server", s2)
	if r := <-results; !errors.Is(r.Err, ErrClosed) {
		t.Errorf("the one that was cut: got %v; want %v", r.Err, ErrClosed)
	}
	wantRefused(t, at)
	if _, err := ps.Open(passageTo(r)); !errors.Is(err, ErrClosed) {
		t.Errorf("open after the end: got %v; want %v", err, ErrClosed)
	}
}

// TestPassageClosedAtOnce has a client connect all the time: what comes after Close has returned is refused.
func TestPassageClosedAtOnce(t *testing.T) {
	r, _ := ranged(t, server, 1)
	ps := passages(t, nil)
	at := netip.AddrPortFrom(gateway, r.First)
	for range 50 {
		p := pass(t, ps, passageTo(r))
		busy := make(chan struct{})
		go func() {
			defer close(busy)
			for {
				c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(peer, 0)), net.TCPAddrFromAddrPort(at))
				if errors.Is(err, syscall.ECONNREFUSED) {
					return
				}
				if err == nil {
					reset(c)
				}
			}
		}()
		before := ps.Counts().Connections
		await(t, func() bool { return ps.Counts().Connections > before }, func() string { return "nobody comes" })
		p.Close()
		wantRefused(t, at)
		<-busy
	}
}

func TestPassageUnreached(t *testing.T) {
	r := free(t, 1)
	results := make(chan Result, 1)
	ps := passages(t, func(_ pinhole.Passthrough, r Result) { results <- r })
	defer pass(t, ps, passageTo(r)).Close()
	wantCutOff(t, "client", peer, netip.AddrPortFrom(gateway, r.First))
	res := <-results
	var dial *DialError
	if !errors.As(res.Err, &dial) || dial.Side != To || dial.To != netip.AddrPortFrom(server, r.First) {
		t.Errorf("got %v; want a DialError of the server", res.Err)
	}
}

// TestPassageBroken has either end break: the other one sees it.
func TestPassageBroken(t *testing.T) {
	r, ls := ranged(t, server, 1)
	defer pass(t, passages(t, nil), passageTo(r)).Close()
	at := netip.AddrPortFrom(gateway, r.First)
	client, srv := through(t, peer, at, ls[0])
	reset(srv)
	wantReset(t, "client", client)
	client, srv = through(t, peer, at, ls[0])
	reset(client)
	wantReset(t, "server", srv)
}

func TestPassageTwoFamilies(t *testing.T) {
	r, ls := ranged(t, server, 2)
	p := pinhole.Passthrough{From: loop6, Listen: loop6, Ports: r, Target: server, SourceIP: inside}
	defer pass(t, passages(t, nil), p).Close()
	for i, l := range ls {
		client, srv := through(t, loop6, netip.AddrPortFrom(loop6, r.First+uint16(i)), l)
		talk(t, client, srv)
	}
}

// TestPassageMapped writes an IPv4 client as the sockets of a listener for both families do.
func TestPassageMapped(t *testing.T) {
	r, ls := ranged(t, server, 1)
	p := passageTo(r)
	p.From, p.Listen = netip.AddrFrom16(p.From.As16()), netip.AddrFrom16(p.Listen.As16())
	defer pass(t, passages(t, nil), p).Close()
	client, srv := through(t, peer, netip.AddrPortFrom(gateway, r.First), ls[0])
	talk(t, client, srv)
}

// TestPassageManyHands opens, uses and closes the same and other passages from all sides at once.
func TestPassageManyHands(t *testing.T) {
	r, ls := ranged(t, server, 3)
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
	ps := passages(t, nil)
	var hands sync.WaitGroup
	for i := range 8 {
		p := passageTo(r)
		p.From = []netip.Addr{peer, stranger}[i%2]
		p.Ports.First += uint16(i % 3)
		hands.Go(func() {
			for range 20 {
				open, err := ps.Open(p)
				if err != nil {
					t.Error(err)
					return
				}
				d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.From, 0))}
				c, err := d.Dial("tcp", netip.AddrPortFrom(gateway, r.Last).String())
				if err != nil {
					t.Error(err)
				} else {
					wantData(t, "client", c.(*net.TCPConn), nil)
					c.Close()
				}
				open.Close()
			}
		})
	}
	hands.Wait()
	if got := ps.Counts(); got.Connections != 160 || got.Strangers != 0 || got.Ports != 0 {
		t.Errorf("got %+v; want 160 connections, and nothing open", got)
	}
}
