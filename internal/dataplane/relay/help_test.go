package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// The actors of the tests, all on loopback.
var (
	gateway  = netip.MustParseAddr("127.0.0.1") // where pinholes open
	peer     = netip.MustParseAddr("127.0.0.2") // who may come
	stranger = netip.MustParseAddr("127.0.0.3") // who may not
	inside   = netip.MustParseAddr("127.0.0.4") // the gateway as the far end sees it
	server   = netip.MustParseAddr("127.0.0.5") // the far end
	loop6    = netip.IPv6Loopback()
)

// patience is how long a test waits for what must come. No test waits it out unless it fails.
const patience = 20 * time.Second

// far listens as the far end.
func far(t testing.TB, addr netip.Addr) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// acceptFrom takes l's next connection, which must come in time.
func acceptFrom(t testing.TB, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	l.SetDeadline(time.Now().Add(patience))
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return impatient(t, c)
}

// dialFrom connects as an address.
func dialFrom(t testing.TB, local netip.Addr, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	c, err := d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(local, 0), to)
	if err != nil {
		t.Fatal(err)
	}
	return impatient(t, c)
}

// reset breaks c off, as the kernel does for a program that dies or closes without reading.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// impatient has reads and writes of c fail where they hang.
func impatient(t testing.TB, c *net.TCPConn) *net.TCPConn {
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// hole is a pinhole from peer to l.
func hole(l *net.TCPListener) pinhole.Pinhole {
	return pinhole.Pinhole{From: peer, Listen: netip.AddrPortFrom(gateway, 0), Target: localAddrPort(l.Addr()), SourceIP: inside}
}

// path is a path with the ports and times that hold where none are given.
func path() *Path { return &Path{Ports: forward.DefaultPassivePorts} }

// open opens and arms a transfer that ends with the test, and leaves nothing behind.
func open(t testing.TB, p *Path, h pinhole.Pinhole) *Transfer {
	t.Helper()
	tr := reserve(t, p, h)
	if err := tr.Arm(); err != nil {
		t.Fatal(err)
	}
	return tr
}

// reserve opens a transfer and does not arm it.
func reserve(t testing.TB, p *Path, h pinhole.Pinhole) *Transfer {
	t.Helper()
	tr, err := p.Open(context.Background(), h, DataTLS{})
	if err != nil {
		t.Fatal(err)
	}
	owned(t, tr)
	return tr
}

func owned(t testing.TB, tr *Transfer) {
	t.Cleanup(func() {
		tr.Close()
		noGoroutines(t, tr)
	})
}

// noGoroutines fails the test if a goroutine still runs for the transfer. The last one may be on its
// way out, between done and its end.
func noGoroutines(t testing.TB, tr *Transfer) {
	t.Helper()
	receiver := fmt.Sprintf("relay.(*Transfer).run(%p", tr)
	flow := fmt.Sprintf("relay.(*Transfer).flow(%p", tr)
	var left string
	await(t, func() bool {
		buf := make([]byte, 8<<20)
		left = string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(left, receiver) && !strings.Contains(left, flow) &&
			!strings.Contains(left, "relay.(*Transfer).callOff")
	}, func() string { return "goroutines are left:\n" + left })
}

// await gives way until what is awaited has come: for states that no channel tells of.
func await(t testing.TB, come func() bool, otherwise func() string) {
	t.Helper()
	for until := time.Now().Add(patience); !come(); runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatal(otherwise())
		}
	}
}

// joined returns a transfer with both its ends.
func joined(t testing.TB) (tr *Transfer, client, srv *net.TCPConn) {
	t.Helper()
	return joinedBy(t, path())
}

// joinedBy returns a transfer of p with both its ends.
func joinedBy(t testing.TB, p *Path) (tr *Transfer, client, srv *net.TCPConn) {
	t.Helper()
	l := far(t, server)
	tr = open(t, p, hole(l))
	client = dialFrom(t, peer, tr.At())
	return tr, client, acceptFrom(t, l)
}

// wait returns the result, which must come in time.
func wait(t testing.TB, tr *Transfer) Result {
	t.Helper()
	select {
	case <-tr.Done():
	case <-time.After(patience):
		t.Fatal("the transfer does not end")
	}
	return tr.Result()
}

// noise returns n bytes that cannot be compressed, repeated or guessed.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// send writes data and a FIN in a goroutine of its own; the error comes through the channel.
func send(c *net.TCPConn, data []byte) <-chan error {
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.CloseWrite())
	}()
	return sent
}

// wantData reads c to its FIN.
func wantData(t testing.TB, who string, c *net.TCPConn, want []byte) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes, equal %t, %v; want %d bytes and a FIN", who, len(got), bytes.Equal(got, want), err, len(want))
	}
}

// wantReset reads c to its reset; a FIN would make a broken transfer look complete.
func wantReset(t testing.TB, who string, c *net.TCPConn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: got %d bytes, then %v; want %v", who, n, err, syscall.ECONNRESET)
	}
}

// wantCutOff connects and reads to the reset, which may be faster than connect(2).
func wantCutOff(t testing.TB, who string, local netip.Addr, to netip.AddrPort) {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	c, err := d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(local, 0), to)
	if err == nil {
		wantReset(t, who, impatient(t, c))
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: got %v; want %v", who, err, syscall.ECONNRESET)
	}
}

// wantRefused checks that nobody listens at addr.
func wantRefused(t testing.TB, addr netip.AddrPort) {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	c, err := d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(peer, 0), addr)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect to %s: got %v; want %v", addr, err, syscall.ECONNREFUSED)
	}
}

// wantBroken checks who broke a transfer.
func wantBroken(t testing.TB, err error, side Side) {
	t.Helper()
	var broken *BrokenError
	if !errors.As(err, &broken) || broken.Side != side {
		t.Errorf("got %v; want it broken by %q", err, side)
	}
}

// localAddrPort returns a socket's address, IPv4 as such.
func localAddrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
