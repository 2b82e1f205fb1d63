package system

import (
	"net"
	"net/netip"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

// A redirected connection has the destination that its client dialled; another one has its own local end.
func TestOriginalDestination(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	for _, a := range [][]string{{"ip", "route", "add", "default", "via", "192.168.5.2"},
		{"ip", "-6", "route", "add", "default", "via", "2001:db8:5::2"}} {
		if _, err := l.Client().Output(t.Context(), a[0], a[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	const rules = "add table inet test; " +
		"add chain inet test pre { type nat hook prerouting priority -100; }; " +
		"add rule inet test pre tcp dport 21 redirect to :8021"
	if _, err := l.Gateway().Output(t.Context(), "nft", rules); err != nil {
		t.Fatal(err)
	}
	ln, err := l.Gateway().Listen("tcp", ":8021")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, at := range []string{"203.0.113.21:21", "[2001:db8:113::21]:21",
		"192.168.5.2:8021", "[2001:db8:5::2]:8021"} {
		c, err := l.Client().Dial(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got, err := OriginalDestination(accepted.(*net.TCPConn))
		if err != nil || netip.AddrPortFrom(got.Addr().Unmap(), got.Port()).String() != at {
			t.Errorf("dialled %s: got %s, error %v", at, got, err)
		}
		c.Close()
		accepted.Close()
	}
}
