package nftset_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// openOwnSources returns a lab with the table ftpgate, and the set of a table that gives the gateway's own
// connections another source.
func openOwnSources(t *testing.T, table string) (*lab.Lab, *nftset.OwnSourceSet) {
	t.Helper()
	l := labtest.New(t)
	f := rulesettest.Forward("main", "192.168.5.2:2121", "203.0.113.21", forward.TrackingProxy)
	f.Source = forward.SourceClient
	nfttest.Apply(t, nfttest.Open(t, l.Gateway()), ruleset.Build("ftpgate", []forward.Resolved{f}))
	var s *nftset.OwnSourceSet
	if err := l.Gateway().Do(func() (err error) {
		s, err = nftset.OpenOwnSourceSet(table)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return l, s
}

// An element is added once for a connection, and removed; a second removal is no error.
func TestOwnSource(t *testing.T) {
	t.Parallel()
	l, s := openOwnSources(t, "ftpgate")
	for _, a := range []struct{ own, target, source string }{
		{"203.0.113.1:40000", "203.0.113.21:21", "192.168.5.1"},
		{"[2001:db8:113::1]:40000", "[2001:db8:113::21]:21", "2001:db8:5::1"},
	} {
		own, target := netip.MustParseAddrPort(a.own), netip.MustParseAddrPort(a.target)
		source := netip.MustParseAddr(a.source)
		if err := s.Add(own, target, source); err != nil {
			t.Fatal(err)
		}
		wantElements(t, l.Gateway(), 1)
		for range 2 {
			if err := s.Remove(own, target, source); err != nil {
				t.Errorf("remove: %v", err)
			}
			wantElements(t, l.Gateway(), 0)
		}
	}
}

// What cannot be a connection, and a set that is closed, are errors that change nothing.
func TestOwnSourceUnsound(t *testing.T) {
	t.Parallel()
	l, s := openOwnSources(t, "ftpgate")
	own, target := netip.MustParseAddrPort("203.0.113.1:40000"), netip.MustParseAddrPort("203.0.113.21:21")
	if err := s.Add(own, target, netip.MustParseAddr("2001:db8:5::1")); err == nil {
		t.Error("a source of another version of IP: got no error")
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	source := netip.MustParseAddr("192.168.5.1")
	if err := s.Add(own, target, source); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: got %v; want net.ErrClosed", err)
	}
	if err := s.Remove(own, target, source); err != nil {
		t.Errorf("remove of a closed one: got %v; want none", err)
	}
	wantElements(t, l.Gateway(), 0)
}

// Without the table, an element is not added: ENOENT.
func TestOwnSourceTableGone(t *testing.T) {
	t.Parallel()
	_, s := openOwnSources(t, "ftpgate-gone")
	err := s.Add(netip.MustParseAddrPort("203.0.113.1:40000"), netip.MustParseAddrPort("203.0.113.21:21"),
		netip.MustParseAddr("192.168.5.1"))
	if !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v; want ENOENT", err)
	}
}
