package socket_test

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relaytest"
	"ftpgate/internal/dataplane/socket"
)

// listen listens at the one port.
func listen(t *testing.T, ports forward.PortRange) *net.TCPListener {
	t.Helper()
	f, err := socket.Listen(netip.AddrPortFrom(relaytest.Gateway, ports.First))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// What is accepted or dialled resets its peer when it is closed, unless it is closed in order.
func TestResetOnClose(t *testing.T) {
	for name, closeIt := range map[string]func(*net.TCPConn){
		"reset":    func(c *net.TCPConn) { c.Close() },
		"in order": socket.CloseInOrder,
	} {
		want := func(who string, peer *net.TCPConn) {
			t.Helper()
			if name == "reset" {
				relaytest.WantReset(t, who, peer)
				return
			}
			relaytest.WantData(t, who, peer, nil)
		}
		l := listen(t, relaytest.FreePorts(t, 1))
		peer := relaytest.Dial(t, relaytest.Peer, relaytest.LocalAddrPort(l.Addr()))
		own := relaytest.Accept(t, l)
		if got := peerAddr(own); got != relaytest.Peer {
			t.Errorf("got peer %s; want %s", got, relaytest.Peer)
		}
		closeIt(own)
		want(name+", accepted", peer)

		far := relaytest.Listen(t, relaytest.Server)
		leg := pinhole.Leg{SourceIP: relaytest.Inside, Target: relaytest.LocalAddrPort(far.Addr())}
		own, err := socket.Dial(t.Context(), leg, 0, relaytest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		peer = relaytest.Accept(t, far)
		if got := peerAddr(peer); got != relaytest.Inside {
			t.Errorf("the far end sees %s; want %s", got, relaytest.Inside)
		}
		closeIt(own)
		want(name+", dialled", peer)
	}
}

// A source port is kept where it is free, and another one is taken where it is not.
func TestDialFrom(t *testing.T) {
	want := relaytest.FreePorts(t, 1).First
	far := relaytest.Listen(t, relaytest.Server)
	leg := pinhole.Leg{SourceIP: relaytest.Inside, Target: relaytest.LocalAddrPort(far.Addr())}
	for _, kept := range []bool{true, false} { // the second one has the same two ends
		c, err := socket.Dial(t.Context(), leg, want, relaytest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := relaytest.LocalAddrPort(c.LocalAddr()); (got.Port() == want) != kept ||
			got.Addr() != relaytest.Inside {
			t.Errorf("got %s; want %s, and port %d: %t", got, relaytest.Inside, want, kept)
		}
	}
}

// A port that somebody has is not shared, also where an earlier connection has left it in TIME_WAIT.
func TestListen(t *testing.T) {
	nowhere := netip.MustParseAddrPort("192.0.2.1:50000") // RFC 5737: no address of this machine
	if _, err := socket.Listen(nowhere); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("got %v; want %v", err, syscall.EADDRNOTAVAIL)
	}
	ports := relaytest.FreePorts(t, 1)
	for range 50 {
		l := listen(t, ports)
		peer := relaytest.Dial(t, relaytest.Peer, relaytest.LocalAddrPort(l.Addr()))
		own := relaytest.Accept(t, l)
		socket.CloseInOrder(own) // first, so that TIME_WAIT is here
		relaytest.WantData(t, "peer", peer, nil)
		peer.Close()
		l.Close()
		var takers sync.WaitGroup
		var mu sync.Mutex
		got := 0
		taken := make(chan func() error, 8)
		for range cap(taken) {
			takers.Go(func() {
				f, err := socket.Listen(netip.AddrPortFrom(relaytest.Gateway, ports.First))
				if err != nil {
					if !errors.Is(err, syscall.EADDRINUSE) {
						t.Error(err)
					}
					return
				}
				taken <- f.Close
				mu.Lock()
				defer mu.Unlock()
				got++
			})
		}
		takers.Wait()
		close(taken)
		for closeIt := range taken {
			if err := closeIt(); err != nil {
				t.Error(err)
			}
		}
		if got != 1 {
			t.Fatalf("got %d takers of one port; want 1", got)
		}
	}
}

// peerAddr returns the address of a connection's peer.
func peerAddr(c *net.TCPConn) netip.Addr {
	return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}
