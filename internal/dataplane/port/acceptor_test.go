package port_test

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/relaytest"
	"ftpgate/internal/dataplane/socket"
)

// receiver keeps what it is given.
type receiver struct {
	conns chan *socket.Conn

	mu      sync.Mutex
	refused []netip.Addr
}

func newReceiver() *receiver { return &receiver{conns: make(chan *socket.Conn, 10)} }

func (r *receiver) Accept(c *socket.Conn, _ port.Peer) { r.conns <- c }

func (r *receiver) Refused(from netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, from)
}

// open opens a route that ends with the test.
func open(t *testing.T, a *port.Acceptor, from netip.Addr, at netip.AddrPort) (*receiver, *port.Route) {
	t.Helper()
	r := newReceiver()
	route, err := a.Open(from, at, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(route.Close)
	return r, route
}

func gatewayPort(t *testing.T) netip.AddrPort {
	return netip.AddrPortFrom(relaytest.Gateway, relaytest.FreePorts(t, 1).First)
}

// Two clients share a port: each one's connections go to its own receiver, a third one is reset.
func TestShared(t *testing.T) {
	a, at := &port.Acceptor{}, gatewayPort(t)
	first, firstRoute := open(t, a, relaytest.Peer, at)
	second, secondRoute := open(t, a, relaytest.Inside, at)
	if _, err := a.Open(relaytest.Peer, at, newReceiver()); err != port.ErrTaken {
		t.Errorf("got %v; want %v", err, port.ErrTaken)
	}
	for range 2 {
		relaytest.Dial(t, relaytest.Inside, at)
		relaytest.Dial(t, relaytest.Peer, at)
		if got := relaytest.LocalAddrPort((<-first.conns).RemoteAddr()); got.Addr() != relaytest.Peer {
			t.Errorf("the first one got %s; want %s", got, relaytest.Peer)
		}
		if got := relaytest.LocalAddrPort((<-second.conns).RemoteAddr()); got.Addr() != relaytest.Inside {
			t.Errorf("the second one got %s; want %s", got, relaytest.Inside)
		}
	}
	relaytest.WantCutOff(t, "unexpected peer", relaytest.UnexpectedPeer, at)
	for _, r := range []*receiver{first, second} {
		relaytest.Await(t, func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.refused) == 1 && r.refused[0] == relaytest.UnexpectedPeer
		}, func() string { return "the unexpected peer was not reported" })
	}
	firstRoute.Close()
	firstRoute.Close() // once more: nothing
	relaytest.WantCutOff(t, "gone", relaytest.Peer, at)
	relaytest.Dial(t, relaytest.Inside, at)
	<-second.conns
	if !a.Listens(at) {
		t.Error("got no port; want it while one has it")
	}
	secondRoute.Close()
	a.Wait()
	relaytest.WantRefused(t, at)
	if a.Listens(at) {
		t.Error("got a port; want none")
	}
}

// What has connected was given away when AcceptPending returns, whichever goroutine runs first.
func TestAcceptPending(t *testing.T) {
	a, at := &port.Acceptor{}, gatewayPort(t)
	r, route := open(t, a, relaytest.Peer, at)
	for range 200 {
		c := relaytest.Dial(t, relaytest.Peer, at)
		route.AcceptPending()
		select {
		case accepted := <-r.conns:
			accepted.Close()
		default:
			t.Fatal("got nothing; want the connection that stands")
		}
		c.Close()
	}
	route.Close()
	route.AcceptPending() // nothing
}

// slow holds the port's lock over each connection, until it is told to continue.
type slow struct {
	receiver
	has, goOn chan struct{}
}

func (s *slow) Accept(c *socket.Conn, _ port.Peer) {
	defer c.Close()
	s.has <- struct{}{}
	<-s.goOn
}

// toPort takes the ports that connections come from.
type toPort struct {
	receiver
	ports chan uint16
}

func (r *toPort) Accept(c *socket.Conn, peer port.Peer) {
	defer c.Close()
	r.ports <- peer.From.Port()
}

// A connection that is reset before it is accepted has its source port, but no address.
func TestResetBeforeAccept(t *testing.T) {
	a, at := &port.Acceptor{}, gatewayPort(t)
	s := &slow{has: make(chan struct{}), goOn: make(chan struct{})}
	r := &toPort{ports: make(chan uint16)}
	for from, to := range map[netip.Addr]port.Receiver{relaytest.Inside: s, relaytest.Peer: r} {
		route, err := a.Open(from, at, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(route.Close)
	}
	relaytest.Dial(t, relaytest.Inside, at)
	<-s.has
	c := relaytest.Dial(t, relaytest.Peer, at)
	want := relaytest.LocalAddrPort(c.LocalAddr()).Port()
	relaytest.Reset(c)
	close(s.goOn)
	if got := <-r.ports; got != want {
		t.Errorf("got port %d; want %d", got, want)
	}
}

// flood connects once more with each connection that is accepted, until it is stopped.
type flood struct {
	receiver
	t       *testing.T
	at      netip.AddrPort
	n       int // connections, of the goroutine that accepts
	stopped atomic.Bool
}

func (f *flood) Accept(c *socket.Conn, _ port.Peer) {
	defer c.Close()
	if f.n++; f.n == 10_000 {
		f.t.Error("AcceptPending does not return while connections come")
		f.stopped.Store(true)
	}
	if !f.stopped.Load() {
		f.connect()
	}
}

// connect connects once. It fails where the connection is reset at once, or the port is closed.
func (f *flood) connect() {
	from := netip.AddrPortFrom(relaytest.Peer, 0)
	c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(f.at))
	if err == nil {
		c.Close()
	}
}

// Connections that come faster than they are given away keep no caller from the port's lock.
func TestAcceptPendingInFlood(t *testing.T) {
	a, at := &port.Acceptor{}, gatewayPort(t)
	f := &flood{t: t, at: at}
	route, err := a.Open(relaytest.Peer, at, f)
	if err != nil {
		t.Fatal(err)
	}
	f.connect()
	route.AcceptPending()
	f.stopped.Store(true)
	route.Close()
	a.Wait()
}

// A port of another program is not to be had.
func TestOpenTaken(t *testing.T) {
	ports, _ := relaytest.TakenPorts(t, 1)
	a := &port.Acceptor{}
	_, err := a.Open(relaytest.Peer, netip.AddrPortFrom(relaytest.Gateway, ports.First), newReceiver())
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v; want %v", err, syscall.EADDRINUSE)
	}
}
