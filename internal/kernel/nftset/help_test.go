package nftset_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// pinholeLab returns a lab with forwarding, two addresses of each family on every link, and a table.
func pinholeLab(t testing.TB) (*lab.Lab, *nftset.PinholeSet) {
	t.Helper()
	l := labtest.New(t)
	for _, name := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := l.Gateway().WriteSysctl(name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []struct {
		h            *lab.Host
		link, prefix string
	}{
		{l.Client(), lab.ClientLink, "192.168.5.9/24"}, {l.Client(), lab.ClientLink, "2001:db8:5::9/64"},
		{l.Gateway(), lab.GatewayLANLink, "192.168.5.3/24"},
		{l.Gateway(), lab.GatewayWANLink, "203.0.113.2/24"},
		{l.Server(), lab.ServerLink, "203.0.113.22/24"}, {l.Server(), lab.ServerLink, "2001:db8:113::22/64"},
	} {
		if err := a.h.AddAddress(a.link, netip.MustParsePrefix(a.prefix)); err != nil {
			t.Fatal(err)
		}
	}
	nfttest.Apply(t, nfttest.Open(t, l.Gateway()), pinholeTable())
	return l, openPinholes(t, l.Gateway())
}

func openPinholes(t testing.TB, h *lab.Host) *nftset.PinholeSet {
	t.Helper()
	return opened(t, h, func() (*nftset.PinholeSet, error) { return nftset.OpenPinholeSet("ftpgate") })
}

func openPinholesFor(t testing.TB, h *lab.Host, life, timeout time.Duration) *nftset.PinholeSet {
	t.Helper()
	return opened(t, h, func() (*nftset.PinholeSet, error) {
		return nftset.OpenPinholesFor("ftpgate", life, timeout)
	})
}

func opened(t testing.TB, h *lab.Host, open func() (*nftset.PinholeSet, error)) (p *nftset.PinholeSet) {
	t.Helper()
	if err := h.Do(func() (err error) { p, err = open(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func parsePinhole(t testing.TB, s string) pinhole.Pinhole {
	t.Helper()
	f := strings.Split(s, " > ")
	return pinhole.Pinhole{From: netip.MustParseAddr(f[0]), Listen: netip.MustParseAddrPort(f[1]),
		SourceIP: netip.MustParseAddr(f[2]), Target: netip.MustParseAddrPort(f[3])}
}

func add(t testing.TB, p *nftset.PinholeSet, pinhole pinhole.Pinhole) {
	t.Helper()
	if err := p.Add(pinhole); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, p *nftset.PinholeSet, pinhole pinhole.Pinhole) {
	t.Helper()
	if err := p.Remove(pinhole); err != nil {
		t.Fatal(err)
	}
}

func listen(t testing.TB, h *lab.Host, at netip.AddrPort) *net.TCPListener {
	t.Helper()
	ln, err := h.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// dial connects from an address of a host.
func dial(t testing.TB, h *lab.Host, from netip.Addr, to netip.AddrPort) (c *net.TCPConn, err error) {
	t.Helper()
	err = h.Do(func() error {
		d := net.Dialer{Timeout: patience, FallbackDelay: -1}
		c, err = d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(from, 0), to)
		return err
	})
	return c, err
}

func wantRefused(t testing.TB, h *lab.Host, from netip.Addr, to netip.AddrPort) {
	t.Helper()
	if c, err := dial(t, h, from, to); err == nil {
		c.Close()
		t.Errorf("%s > %s: got a connection; want it refused", from, to)
	} else if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%s > %s: got %v; want it refused", from, to, err)
	}
}

// through makes the connection of a pinhole and returns both ends.
func through(t testing.TB, h *lab.Host, p pinhole.Pinhole, ln *net.TCPListener) (from, to *net.TCPConn) {
	t.Helper()
	from, err := dial(t, h, p.From, p.Listen)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	t.Cleanup(func() { from.Close() })
	ln.SetDeadline(time.Now().Add(patience))
	if to, err = ln.AcceptTCP(); err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	t.Cleanup(func() { to.Close() })
	if got := to.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); got != p.SourceIP {
		t.Errorf("%s: the far end sees %s", p, got)
	}
	return from, to
}

func wantThrough(t testing.TB, h *lab.Host, p pinhole.Pinhole, ln *net.TCPListener) {
	t.Helper()
	from, to := through(t, h, p, ln)
	wantEcho(t, from, to)
	for _, c := range []*net.TCPConn{from, to} {
		c.SetLinger(0)
		c.Close()
	}
}

// wantEcho sends a few bytes in both directions.
func wantEcho(t testing.TB, a, b net.Conn) {
	t.Helper()
	for range 2 {
		a.SetDeadline(time.Now().Add(patience))
		b.SetDeadline(time.Now().Add(patience))
		got := make([]byte, 4)
		if _, err := a.Write([]byte("data")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "data" {
			t.Fatalf("got %q, %v; want data", got, err)
		}
		a, b = b, a
	}
}

// listed returns the elements of all sets.
func listed(t testing.TB, h *lab.Host) (all []any) {
	t.Helper()
	for _, o := range nfttest.ListJSON(t, h) {
		for _, x := range o.(map[string]any) {
			if elements, ok := x.(map[string]any)["elem"].([]any); ok {
				all = append(all, elements...)
			}
		}
	}
	return all
}

func wantElements(t testing.TB, h *lab.Host, want int) {
	t.Helper()
	if got := listed(t, h); len(got) != want {
		first, _ := json.Marshal(got[:min(len(got), 3)])
		t.Errorf("got %d elements in the kernel, like %s; want %d", len(got), first, want)
	}
}
