package system_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/kernel/system"
)

func TestListenTCP(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	l, err := system.ListenTCP(context.Background(), loopback, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	_, err = system.ListenTCP(context.Background(), loopback, at.Port(), "")
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("second listener: got %v; want EADDRINUSE", err)
	}
	_, err = system.ListenTCP(context.Background(), netip.MustParseAddr("192.0.2.77"), 0, "")
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("foreign address: got %v; want EADDRNOTAVAIL", err)
	}
	_, err = system.ListenTCP(context.Background(), loopback, 0, "nosuch0")
	if !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such interface: got %v; want ENODEV", err)
	}
	on, err := system.ListenTCP(context.Background(), netip.Addr{}, 0, "lo")
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, portOf(on)))
		if err != nil {
			t.Errorf("every address, on lo: dial %s: %v", host, err)
			continue
		}
		c.Close()
	}
}

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestPortFree(t *testing.T) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		l, err := net.Listen("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		probe := netip.MustParseAddr("127.0.0.1")
		if host == "[::1]:0" {
			probe = netip.MustParseAddr("::1")
		}
		at := netip.AddrPortFrom(probe, l.Addr().(*net.TCPAddr).AddrPort().Port())
		if system.PortFree(at) {
			t.Errorf("%s: got free; want in use by %s", at, l.Addr())
		}
		// A closed connection leaves a socket in TIME_WAIT, which does not make the port busy.
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		c.Close()
		l.Close()
		if !system.PortFree(at) {
			t.Errorf("%s: got in use; want free after the listener is closed", at)
		}
	}
	if system.PortFree(netip.MustParseAddrPort("192.0.2.77:5000")) {
		t.Error("an address that is not this host's: got free")
	}
}
