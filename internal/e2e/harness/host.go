package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/try/lab"

	"golang.org/x/sys/unix"
)

// Shell runs a shell command on a host and returns its output. The command must succeed.
func Shell(t *testing.T, h *lab.Host, format string, args ...any) string {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	out, err := h.Output(ctx, "sh", "-c", line)
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", h.Name(), line, err, out)
	}
	return string(out)
}

// HostState is a shell command that prints what a program could change in a host's network: rules,
// sysctls, links, addresses, routes. It leaves out the counter of connections and what the kernel draws
// at random.
const HostState = `nft list ruleset; ip addr show scope global; ip route; ip -6 route; ip rule
	sysctl -a 2>/dev/null | grep ^net | grep -v 'nf_conntrack_count\|nf_conntrack_buckets\|secret\|random'`

// WantBroken expects that a data connection ends with an error.
func WantBroken(t *testing.T, who string, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s reads %d bytes and then: %v; want the connection broken", who, n, err)
	}
}

// SingleUser reports whether this user namespace has root and no other user. labtest.Main makes one
// like that for an ordinary user (user_namespaces(7): first ID inside, outside, count).
func SingleUser(t *testing.T) bool {
	t.Helper()
	fields := strings.Fields(ReadFile(t, "/proc/self/uid_map"))
	return len(fields) == 3 && fields[0] == "0" && fields[2] == "1"
}

// AddAddress gives an address to a link.
func AddAddress(t *testing.T, h *lab.Host, link, prefix string) {
	t.Helper()
	if err := h.AddAddress(link, netip.MustParsePrefix(prefix)); err != nil {
		t.Fatal(err)
	}
}

// Listen listens on a host until the test ends.
func Listen(t *testing.T, h *lab.Host, at string) net.Listener {
	t.Helper()
	l, err := h.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// StopListening ends a listener at once. A close alone does not while another test starts a program: until
// that runs, its process has the socket, too, and the kernel goes on to accept.
func StopListening(t *testing.T, l net.Listener) {
	t.Helper()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var errShutdown error
	err = raw.Control(func(fd uintptr) { errShutdown = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	if err := errors.Join(err, errShutdown, l.Close()); err != nil {
		t.Fatal(err)
	}
}

// Accept accepts one connection. The test's end closes it.
func Accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(Timeout)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("no peer connects to %s: %v", l.Addr(), err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// DialFrom connects from one of a host's addresses.
func DialFrom(t *testing.T, h *lab.Host, from netip.Addr, to netip.AddrPort) (c net.Conn, err error) {
	t.Helper()
	err = h.Do(func() error {
		d := net.Dialer{FallbackDelay: -1, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		c, err = d.DialContext(t.Context(), "tcp", to.String())
		return err
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
		err = c.SetDeadline(time.Now().Add(Timeout))
	}
	return c, err
}

// PeerAddr returns the address of a connection's other end.
func PeerAddr(c net.Conn) netip.Addr { return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() }

// Reset ends a connection with an RST.
func Reset(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// Ruleset returns what nft lists on a host.
func Ruleset(t *testing.T, h *lab.Host) string {
	t.Helper()
	return Shell(t, h, "nft list ruleset")
}

// WantRefused expects that a host refuses connections to an address, with an error that comes at once.
func WantRefused(t *testing.T, from *lab.Host, address string) {
	t.Helper()
	c, err := from.Dial(t.Context(), "tcp", address)
	if err == nil {
		c.Close()
		t.Errorf("dial %s: got a connection; want it refused", address)
	} else if !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("dial %s: got %v; want it refused", address, err)
	}
}
