package socket_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relaytest"
	"ftpgate/internal/dataplane/socket"
	"ftpgate/internal/kernel/system"
)

// listen listens at the one port.
func listen(t *testing.T, ports forward.PortRange) *os.File {
	t.Helper()
	f, err := socket.Listen(netip.AddrPortFrom(relaytest.Gateway, ports.First))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// accept accepts the next connection of a port.
func accept(t *testing.T, l *os.File) (c *socket.Conn, from netip.AddrPort) {
	t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(relaytest.Patience)); err != nil {
		t.Fatal(err)
	}
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	var peer unix.Sockaddr
	errWait := raw.Read(func(listener uintptr) bool {
		fd, peer, err = unix.Accept4(int(listener), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return err != unix.EAGAIN
	})
	if err := errors.Join(errWait, err); err != nil {
		t.Fatal(err)
	}
	if c, err = socket.NewConn(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, system.AddrPort(peer)
}

// What is accepted or dialled resets its peer when it is closed, unless it is closed in order.
func TestResetOnClose(t *testing.T) {
	for name, closeIt := range map[string]func(*socket.Conn){
		"reset":    func(c *socket.Conn) { c.Close() },
		"in order": (*socket.Conn).CloseInOrder,
	} {
		want := func(who string, peer *net.TCPConn) {
			t.Helper()
			if name == "reset" {
				relaytest.WantReset(t, who, peer)
				return
			}
			relaytest.WantData(t, who, peer, nil)
		}
		ports := relaytest.FreePorts(t, 1)
		l := listen(t, ports)
		peer := relaytest.Dial(t, relaytest.Peer, netip.AddrPortFrom(relaytest.Gateway, ports.First))
		own, from := accept(t, l)
		if want := relaytest.LocalAddrPort(peer.LocalAddr()); from != want || peerOf(own) != want {
			t.Errorf("got peers %s and %s; want %s", from, peerOf(own), want)
		}
		if got := relaytest.LocalAddrPort(own.LocalAddr()).Port(); got != ports.First {
			t.Errorf("got port %d; want %d", got, ports.First)
		}
		wantNoDelay(t, own)
		closeIt(own)
		want(name+", accepted", peer)

		far := relaytest.Listen(t, relaytest.Server)
		leg := pinhole.Leg{SourceIP: relaytest.Inside, Target: relaytest.LocalAddrPort(far.Addr())}
		own, err := socket.Dialer{Timeout: relaytest.Patience}.Dial(t.Context(), leg, 0)
		if err != nil {
			t.Fatal(err)
		}
		peer = relaytest.Accept(t, far)
		wantNoDelay(t, own)
		if got := peerOf(peer).Addr(); got != relaytest.Inside {
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
		c, err := socket.Dialer{Timeout: relaytest.Patience}.Dial(t.Context(), leg, want)
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

// A port that is taken is not shared, also where an earlier connection has left it in TIME_WAIT.
func TestListen(t *testing.T) {
	nowhere := netip.MustParseAddrPort("192.0.2.1:50000") // RFC 5737: no address of this machine
	if _, err := socket.Listen(nowhere); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("got %v; want %v", err, syscall.EADDRNOTAVAIL)
	}
	ports := relaytest.FreePorts(t, 1)
	for range 50 {
		l := listen(t, ports)
		peer := relaytest.Dial(t, relaytest.Peer, netip.AddrPortFrom(relaytest.Gateway, ports.First))
		own, _ := accept(t, l)
		own.CloseInOrder() // first, so that TIME_WAIT is here
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

// peerOf returns the far end of a connection.
func peerOf(c net.Conn) netip.AddrPort { return relaytest.LocalAddrPort(c.RemoteAddr()) }

// wantNoDelay wants the last bytes of a connection to leave at once, also while others are unacknowledged.
func wantNoDelay(t *testing.T, c *socket.Conn) {
	t.Helper()
	got := 0
	err := c.Control(func(fd int) (err error) {
		got, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
		return err
	})
	if got == 0 || err != nil {
		t.Errorf("got TCP_NODELAY %d, %v; want it set", got, err)
	}
}

// Dial says why it fails: the far end refuses, or the caller gives up.
func TestDialFails(t *testing.T) {
	nobody := netip.AddrPortFrom(relaytest.Server, relaytest.FreePorts(t, 1).First)
	leg := pinhole.Leg{SourceIP: relaytest.Inside, Target: nobody}
	dialer := socket.Dialer{Timeout: relaytest.Patience}
	if _, err := dialer.Dial(t.Context(), leg, 0); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v; want %v", err, syscall.ECONNREFUSED)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	far := relaytest.Listen(t, relaytest.Server)
	leg.Target = relaytest.LocalAddrPort(far.Addr())
	if _, err := dialer.Dial(ctx, leg, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want %v", err, context.Canceled)
	}
}
