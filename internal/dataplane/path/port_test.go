package path

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/core/forward"
)

// Rules of forwards reserve their listen ports, except those of proxies, and the server's port ranges that
// they pass through; a forward without an address reserves them at all addresses.
func TestReservedPorts(t *testing.T) {
	addr := netip.MustParseAddr("192.168.5.2")
	r := reservedBy([]forward.Resolved{
		{Forward: forward.Forward{Listen: forward.Listen{Addr: addr, Port: 2121},
			Tracking: forward.TrackingKernel}},
		{Forward: forward.Forward{Listen: forward.Listen{Port: 2122}, Tracking: forward.TrackingNone,
			ServerPorts: forward.PortRange{First: 50000, Last: 50009}}},
		{Forward: forward.Forward{Listen: forward.Listen{Addr: addr, Port: 2123},
			Tracking: forward.TrackingProxy}},
		{Forward: forward.Forward{Listen: forward.Listen{Addr: addr, Port: 2124},
			Tracking:    forward.TrackingNone,
			ServerPorts: forward.AllPorts}},
	})
	for at, want := range map[string]bool{
		"192.168.5.2:2121":    true,
		"192.168.5.3:2121":    false,
		"192.168.5.3:2122":    true,
		"[2001:db8::2]:50009": true,
		"192.168.5.2:50010":   false,
		"192.168.5.2:2123":    false,
		"192.168.5.2:40000":   false,
	} {
		if got := r.has(netip.MustParseAddrPort(at)); got != want {
			t.Errorf("%s: got reserved %t; want %t", at, got, want)
		}
	}
}

// The kernel is asked once in two minutes for a port that is free, and each time for one that is not.
func TestPortCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, free := 0, true
		c := newPortCache(func(netip.AddrPort) bool {
			asked++
			return free
		})
		at := netip.MustParseAddrPort("192.168.5.2:50000")
		want := func(wantFree bool, wantAsked int) {
			t.Helper()
			if got := c.has(at); got != wantFree || asked != wantAsked {
				t.Errorf("got free %t, asked %d times; want %t, %d", got, asked, wantFree, wantAsked)
			}
		}
		want(true, 1)
		<-time.After(freeTime - 1)
		want(true, 1)
		free = false
		<-time.After(1)
		want(false, 2)
		want(false, 3)
		free = true
		want(true, 4)
		for i := range maxFree {
			c.has(netip.AddrPortFrom(netip.MustParseAddr("192.168.5.3"), uint16(i)))
		}
		if len(c.since) > maxFree {
			t.Errorf("got %d answers kept; want at most %d", len(c.since), maxFree)
		}
	})
}

// The gateway's addresses are read again after half a minute. Those that cannot be read stay as they were.
func TestHostAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &strings.Builder{}
		var addrs []netip.Addr
		var err error
		h := &hostAddresses{log: slog.New(slog.NewTextHandler(log, nil)),
			read: func() ([]netip.Addr, error) { return addrs, err }}
		want := func(addr string, want bool) {
			t.Helper()
			if got := h.has(netip.MustParseAddr(addr)); got != want {
				t.Errorf("%s: got the gateway's own %t; want %t", addr, got, want)
			}
		}
		addrs = []netip.Addr{netip.MustParseAddr("192.168.5.2"), netip.MustParseAddr("fe80::2%eth0")}
		want("192.168.5.2", true)
		want("fe80::2", true)
		want("127.0.0.9", true)
		want("192.168.5.3", false)
		addrs = []netip.Addr{netip.MustParseAddr("192.168.5.3")}
		want("192.168.5.3", false)
		<-time.After(hostTime)
		want("192.168.5.3", true)
		want("192.168.5.2", false)
		err = errors.New("netlink is broken")
		<-time.After(hostTime)
		want("192.168.5.3", true)
		want("192.168.5.3", true)
		if strings.Count(log.String(), "netlink is broken") != 1 {
			t.Errorf("got log\n%s\nwant the error once", log)
		}
	})
}
