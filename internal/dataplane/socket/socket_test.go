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

// listen reserves one of the ports and listens there.
func listen(t *testing.T, ports forward.PortRange) *net.TCPListener {
	t.Helper()
	reserved, _, err := socket.Reserve(t.Context(), relaytest.Gateway, ports, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reserved.Close()
	l, err := socket.Listen(reserved)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
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
		if got := socket.PeerAddr(own); got != relaytest.Peer {
			t.Errorf("got peer %s; want %s", got, relaytest.Peer)
		}
		closeIt(own)
		want(name+", accepted", peer)

		far := relaytest.Listen(t, relaytest.Server)
		leg := pinhole.Leg{SourceIP: relaytest.Inside, Target: relaytest.LocalAddrPort(far.Addr())}
		own, err := socket.Dial(t.Context(), leg, relaytest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		peer = relaytest.Accept(t, far)
		if got := socket.PeerAddr(peer); got != relaytest.Inside {
			t.Errorf("the far end sees %s; want %s", got, relaytest.Inside)
		}
		closeIt(own)
		want(name+", dialled", peer)
	}
}

// Every port of the range is tried, except those to be avoided, and each has one taker.
func TestReserve(t *testing.T) {
	ports := relaytest.FreePorts(t, 4)
	avoid := func(at netip.AddrPort) bool { return at.Port() == ports.First }
	seen := map[uint16]bool{}
	for range 3 {
		reserved, at, err := socket.Reserve(t.Context(), relaytest.Gateway, ports, avoid)
		if err != nil {
			t.Fatal(err)
		}
		defer reserved.Close()
		if seen[at.Port()] || !ports.Contains(at.Port()) || at.Port() == ports.First {
			t.Errorf("got port %d; want another one of %s that is not avoided", at.Port(), ports)
		}
		seen[at.Port()] = true
	}
	if _, _, err := socket.Reserve(t.Context(), relaytest.Gateway, ports, avoid); !errors.Is(err,
		socket.ErrNoPorts) {
		t.Errorf("got %v; want %v", err, socket.ErrNoPorts)
	}
	nowhere := netip.MustParseAddr("192.0.2.1") // RFC 5737: no address of this machine
	if _, _, err := socket.Reserve(t.Context(), nowhere, ports, nil); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("got %v; want %v", err, syscall.EADDRNOTAVAIL)
	}
}

// A port that an earlier connection has left in TIME_WAIT has one taker, however many ask at once.
func TestReserveAfterTimeWait(t *testing.T) {
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
		reserved := make(chan func() error, 8)
		for range cap(reserved) {
			takers.Go(func() {
				f, _, err := socket.Reserve(t.Context(), relaytest.Gateway, ports, nil)
				if err != nil {
					if !errors.Is(err, socket.ErrNoPorts) {
						t.Error(err)
					}
					return
				}
				reserved <- f.Close
				mu.Lock()
				defer mu.Unlock()
				got++
			})
		}
		takers.Wait()
		close(reserved)
		for closeIt := range reserved {
			if err := closeIt(); err != nil {
				t.Error(err)
			}
		}
		if got != 1 {
			t.Fatalf("got %d takers of one port; want 1", got)
		}
	}
}
