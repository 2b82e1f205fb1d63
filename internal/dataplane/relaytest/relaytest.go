// Package relaytest provides loopback peers for tests of data connections that this process carries.
package relaytest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
)

// The actors of the tests. Their addresses belong to this process, so that test binaries which run at the
// same time do not take each other's ports.
var (
	Gateway        = actor(1) // where pinholes open
	Peer           = actor(2) // the peer that is admitted
	UnexpectedPeer = actor(3) // one that is not
	Inside         = actor(4) // the gateway as the far end sees it
	Server         = actor(5) // the far end
	SecondServer   = actor(6)
	SecondInside   = actor(7) // the gateway as the second server sees it
	Loopback6      = netip.IPv6Loopback()
)

// NetworkVariable names the environment variable that makes a child process use the addresses of its parent.
const NetworkVariable = "RELAYTEST_NETWORK"

// Network identifies the addresses of this process for NetworkVariable.
func Network() string { return strconv.Itoa(network()) }

// network is 16 bits: the process's own number, or its parent's.
func network() int {
	if n, err := strconv.Atoi(os.Getenv(NetworkVariable)); err == nil {
		return n
	}
	return os.Getpid() & 0xffff
}

// actor returns 127.x.y.n, where x.y is the network.
func actor(n byte) netip.Addr {
	id := network()
	return netip.AddrFrom4([4]byte{127, byte(id >> 8), byte(id), n})
}

// Patience is how long a test waits for an expected event. Only a failing test waits that long.
const Patience = time.Minute

// Listen listens as the far end.
func Listen(t testing.TB, addr netip.Addr) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Accept accepts l's next connection, which must arrive in time.
func Accept(t testing.TB, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	l.SetDeadline(time.Now().Add(Patience))
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return Impatient(t, c)
}

// Dial connects from an address.
func Dial(t testing.TB, local netip.Addr, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Timeout: Patience}
	c, err := d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(local, 0), to)
	if err != nil {
		t.Fatal(err)
	}
	return Impatient(t, c)
}

// Reset resets c, as the kernel does for a program that dies or closes without reading.
func Reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// Impatient makes reads and writes of c fail if they hang.
func Impatient(t testing.TB, c *net.TCPConn) *net.TCPConn {
	c.SetDeadline(time.Now().Add(Patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// Await yields the processor until a condition holds: for states without a channel.
func Await(t testing.TB, come func() bool, otherwise func() string) {
	t.Helper()
	for until := time.Now().Add(Patience); !come(); runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatal(otherwise())
		}
	}
}

// Noise returns n bytes that cannot be compressed, repeated or guessed.
func Noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// Send writes data and a FIN in a goroutine of its own; the channel returns the error.
func Send(c *net.TCPConn, data []byte) <-chan error {
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.CloseWrite())
	}()
	return sent
}

// WantData reads c to its FIN.
func WantData(t testing.TB, who string, c *net.TCPConn, want []byte) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes, equal %t, %v; want %d bytes and a FIN",
			who, len(got), bytes.Equal(got, want), err, len(want))
	}
}

// WantReset reads c to its reset; a FIN would make a broken transfer look complete.
func WantReset(t testing.TB, who string, c *net.TCPConn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: got %d bytes, then %v; want %v", who, n, err, syscall.ECONNRESET)
	}
}

// WantCutOff connects from local and reads to the reset, which may arrive before connect(2) returns.
func WantCutOff(t testing.TB, who string, local netip.Addr, to netip.AddrPort) {
	t.Helper()
	d := net.Dialer{Timeout: Patience}
	c, err := d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(local, 0), to)
	if err == nil {
		WantReset(t, who, Impatient(t, c))
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: got %v; want %v", who, err, syscall.ECONNRESET)
	}
}

// WantRefused checks that no socket listens at addr.
func WantRefused(t testing.TB, addr netip.AddrPort) {
	t.Helper()
	d := net.Dialer{Timeout: Patience}
	c, err := d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(Peer, 0), addr)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect to %s: got %v; want %v", addr, err, syscall.ECONNREFUSED)
	}
}

// LocalAddrPort returns a socket's address, IPv4 as such.
func LocalAddrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// TakenPorts occupies consecutive ports of the gateway's address, and returns them with their listeners.
func TakenPorts(t *testing.T, n int) (forward.PortRange, []net.Listener) {
	t.Helper()
	for first := 20000; first < 30000; first += n {
		var held []net.Listener
		for i := range n {
			at := netip.AddrPortFrom(Gateway, uint16(first+i))
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
			if err != nil {
				break
			}
			held = append(held, l)
		}
		if len(held) == n {
			t.Cleanup(func() {
				for _, l := range held {
					l.Close()
				}
			})
			return forward.PortRange{First: uint16(first), Last: uint16(first + n - 1)}, held
		}
		for _, l := range held {
			l.Close()
		}
	}
	t.Fatalf("no %d free ports in a row", n)
	return forward.PortRange{}, nil
}

// FreePorts returns consecutive ports that are free now.
func FreePorts(t *testing.T, n int) (r forward.PortRange) {
	t.Helper()
	t.Run("reserve", func(t *testing.T) { r, _ = TakenPorts(t, n) }) // released at its end
	return r
}
