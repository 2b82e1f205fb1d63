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
	allocator := &port.Allocator{}
	for _, from := range []netip.Addr{client, other} {
		seen := map[netip.AddrPort]bool{}
		for range 4 {
			at, err := allocator.Allocate(from, gateway, ports, free)
			if err != nil || at.Addr() != gateway || !ports.Contains(at.Port()) || seen[at] {
				t.Fatalf("%s: got %s, %v; want another port of %s", from, at, err, ports)
			}
			seen[at] = true
		}
		_, err := allocator.Allocate(from, gateway, ports, free)
		if !errors.Is(err, port.ErrNone) || !strings.HasSuffix(err.Error(), "in 50000-50003") {
			t.Errorf("%s: got %v; want %v of the range", from, err, port.ErrNone)
		}
	}
	allocator.Release(client, netip.AddrPortFrom(gateway, 50002))
	if at, err := allocator.Allocate(client, gateway, ports, free); err != nil || at.Port() != 50002 {
		t.Errorf("got %s, %v; want the port that was given back", at, err)
	}
}

// A port rests as long as there is another one, and no longer.
func TestRest(t *testing.T) {
	ports := forward.PortRange{First: 50000, Last: 59999}
	allocator := &port.Allocator{}
	rested := map[netip.AddrPort]bool{}
	for range 4096 {
		at, err := allocator.Allocate(client, gateway, ports, free)
		if err != nil || rested[at] {
			t.Fatalf("got %s, %v; want a port that has not rested", at, err)
		}
		rested[at] = true
		allocator.Rest(client, at)
	}
	few := forward.PortRange{First: 50000, Last: 50002}
	allocator = &port.Allocator{}
	order := []uint16{50001, 50000, 50002}
	for _, port := range order {
		allocator.Rest(client, netip.AddrPortFrom(gateway, port))
	}
	for range 4 { // each of them rests
		at, err := allocator.Allocate(client, gateway, few, free)
		if err != nil {
			t.Fatalf("got %v; want a port that rests, as there is no other", err)
		}
		allocator.Rest(client, at)
	}
	if at, err := allocator.Allocate(other, gateway, few, free); err != nil || !few.Contains(at.Port()) {
		t.Errorf("got %s, %v; want a port: they rest for another address", at, err)
	}
	all := forward.PortRange{First: 1024, Last: 65535}
	for range 2 * 4096 { // the first ones are forgotten
		at, err := allocator.Allocate(client, gateway, all, free)
		if err != nil {
			t.Fatal(err)
		}
		allocator.Rest(client, at)
	}
	taken := map[uint16]bool{}
	for range 3 {
		at, err := allocator.Allocate(client, gateway, few, free)
		if err != nil || taken[at.Port()] {
			t.Fatalf("got %s, %v; want another one of the ports", at, err)
		}
		taken[at.Port()] = true
	}
	if _, err := allocator.Allocate(client, gateway, few, free); !errors.Is(err, port.ErrNone) {
		t.Errorf("got %v; want %v", err, port.ErrNone)
	}
}

// A port that is not to be used stays free for others, and an error of use is the caller's.
func TestDrawRefused(t *testing.T) {
	ports := forward.PortRange{First: 50000, Last: 50009}
	allocator := &port.Allocator{}
	tried := map[uint16]bool{}
	at, err := allocator.Allocate(client, gateway, ports, func(at netip.AddrPort) (bool, error) {
		tried[at.Port()] = true
		return len(tried) == 10, nil
	})
	if err != nil || len(tried) != 10 {
		t.Fatalf("got %s, %v after %d ports; want the last of 10", at, err, len(tried))
	}
	why := errors.New("no such address")
	if _, err := allocator.Allocate(client, gateway, ports, func(netip.AddrPort) (bool, error) {
		return false,
			why
	}); err != why {
		t.Errorf("got %v; want %v", err, why)
	}
	for range 9 {
		if _, err := allocator.Allocate(client, gateway, ports, free); err != nil {
			t.Errorf("got %v; want the ports that were not used", err)
		}
	}
}
