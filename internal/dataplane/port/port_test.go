package port_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/dataplane/port"
)

var (
	gateway = netip.MustParseAddr("192.168.5.2")
	client  = netip.MustParseAddr("192.168.5.10")
	other   = netip.MustParseAddr("192.168.5.11")
)

// free takes every port.
func free(netip.AddrPort) (bool, error) { return true, nil }

// Each client has each port once, and each port is drawn sooner or later.
func TestDraw(t *testing.T) {
	ports := forward.PortRange{First: 50000, Last: 50003}
	claims := &port.Claims{}
	for _, from := range []netip.Addr{client, other} {
		seen := map[netip.AddrPort]bool{}
		for range 4 {
			at, err := claims.Draw(from, gateway, ports, free)
			if err != nil || at.Addr() != gateway || !ports.Contains(at.Port()) || seen[at] {
				t.Fatalf("%s: got %s, %v; want another port of %s", from, at, err, ports)
			}
			seen[at] = true
		}
		_, err := claims.Draw(from, gateway, ports, free)
		if !errors.Is(err, port.ErrNone) || !strings.HasSuffix(err.Error(), "in 50000-50003") {
			t.Errorf("%s: got %v; want %v of the range", from, err, port.ErrNone)
		}
	}
	claims.GiveBack(client, netip.AddrPortFrom(gateway, 50002))
	if at, err := claims.Draw(client, gateway, ports, free); err != nil || at.Port() != 50002 {
		t.Errorf("got %s, %v; want the port that was given back", at, err)
	}
}

// A port that is not to be used stays free for others, and an error of use is the caller's.
func TestDrawRefused(t *testing.T) {
	ports := forward.PortRange{First: 50000, Last: 50009}
	claims := &port.Claims{}
	tried := map[uint16]bool{}
	at, err := claims.Draw(client, gateway, ports, func(at netip.AddrPort) (bool, error) {
		tried[at.Port()] = true
		return len(tried) == 10, nil
	})
	if err != nil || len(tried) != 10 {
		t.Fatalf("got %s, %v after %d ports; want the last of 10", at, err, len(tried))
	}
	why := errors.New("no such address")
	if _, err := claims.Draw(client, gateway, ports, func(netip.AddrPort) (bool, error) {
		return false,
			why
	}); err != why {
		t.Errorf("got %v; want %v", err, why)
	}
	for range 9 {
		if _, err := claims.Draw(client, gateway, ports, free); err != nil {
			t.Errorf("got %v; want the ports that were not used", err)
		}
	}
}
