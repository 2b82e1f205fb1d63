package path

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relaytest"
)

// fakeTables are the kernel's tables: they can be lost, and refuse everything then.
type fakeTables struct {
	mu           sync.Mutex
	lost         bool
	pinholes     map[pinhole.Pinhole]int
	later        []pinhole.Pinhole               // removed later
	kept         map[pinhole.Pinhole]func() bool // the last one
	passthroughs map[pinhole.Passthrough]int
	sources      []string
	renewed      int
	closed       int
	errAdd       error
}

func (k *fakeTables) add(errLost error, do func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.lost:
		return errLost
	case k.errAdd != nil:
		return k.errAdd
	}
	do()
	return nil
}

func (k *fakeTables) setLost(lost bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost = lost
}

func (k *fakeTables) open(h pinhole.Pinhole) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pinholes[h]
}

// fakePinholes and fakePassthroughs are the two halves of the tables.
type fakePinholes struct{ *fakeTables }

func (k fakePinholes) Add(h pinhole.Pinhole) error {
	return k.add(unix.ENOENT, func() { k.pinholes[h]++ })
}

func (k fakePinholes) Keep(h pinhole.Pinhole, wanted func() bool) {
	_ = k.add(nil, func() { k.kept = map[pinhole.Pinhole]func() bool{h: wanted} })
}

func (k fakePinholes) Remove(h pinhole.Pinhole) error {
	return k.add(nil, func() { delete(k.pinholes, h) })
}

func (k fakePinholes) RemoveLater(h pinhole.Pinhole) {
	_ = k.add(nil, func() {
		delete(k.pinholes, h)
		k.later = append(k.later, h)
	})
}

// Restore has every pinhole that is not used once more.
func (k fakePinholes) Restore(used func(pinhole.Pinhole) bool) error {
	return k.add(unix.ENOENT, func() {
		for h := range k.pinholes {
			if !used(h) {
				k.pinholes[h]++
			}
		}
	})
}

func (k fakePinholes) Close() error { return k.add(nil, func() { k.closed++ }) }

type fakePassthroughs struct{ *fakeTables }

func (k fakePassthroughs) Add(p pinhole.Passthrough) error {
	return k.add(unix.ENOENT, func() { k.passthroughs[p]++ })
}

func (k fakePassthroughs) Remove(p pinhole.Passthrough) error {
	return k.add(nil, func() { delete(k.passthroughs, p) })
}

func (k fakePassthroughs) Renew() error { return k.add(unix.ENOENT, func() { k.renewed++ }) }

func (k fakePassthroughs) Ranges() (ranges []forward.PortRange) {
	_ = k.add(nil, func() {
		for p := range k.passthroughs {
			ranges = append(ranges, p.Ports)
		}
	})
	return ranges
}

func (k fakePassthroughs) Close() error { return k.add(nil, func() { k.closed++ }) }

// fakeFlow counts what the test says.
type fakeFlow struct {
	expected   pinhole.Pinhole
	outcome    pinhole.Outcome
	severed    int
	forgotten  int
	remembered bool   // by the client
	released   []bool // used or not
	kept       bool
	complete   func() // closes the pinhole
	onSever    func()
}

func (f *fakeFlow) Outcome() pinhole.Outcome       { return f.outcome }
func (f *fakeFlow) ForgetEarlier() bool            { f.forgotten++; return f.remembered }
func (f *fakeFlow) OnComplete(closePinhole func()) { f.complete = closePinhole }
func (f *fakeFlow) Keep(kept bool)                 { f.kept = kept }
func (f *fakeFlow) Sever() {
	if f.severed++; f.onSever != nil {
		f.onSever()
	}
}
func (f *fakeFlow) Release(used bool) { f.released = append(f.released, used) }

// stage is Paths over fake tables, with one forward.
type stage struct {
	*Paths
	t       *testing.T
	tables  *fakeTables
	log     *strings.Builder
	repair  func(context.Context) error // what Config.Repair does
	forward forward.Resolved
	flow    *fakeFlow // the last expectation
	counts  bool      // bytes are counted
}

var testPorts = forward.PortRange{First: 50000, Last: 50009}

// newStage returns a stage whose tables are usable. The gateway's own address is 192.168.5.2, and every port
// is free.
func newStage(t *testing.T) *stage {
	s := &stage{t: t, log: &strings.Builder{}, counts: true,
		forward: forward.Resolved{Forward: forward.Forward{
			Name: "archive", Tracking: forward.TrackingProxy, PassivePorts: testPorts}}}
	s.tables = &fakeTables{pinholes: map[pinhole.Pinhole]int{}, passthroughs: map[pinhole.Passthrough]int{}}
	s.repair = func(context.Context) error {
		s.tables.setLost(false)
		return nil
	}
	s.Paths = New(Config{Table: "ftpgate", Log: slog.New(slog.NewTextHandler(s.log, nil)),
		Repair: func(ctx context.Context) error { return s.repair(ctx) }})
	s.openTables = func(string, func(error)) (*tables, error) {
		return &tables{pinholes: fakePinholes{s.tables}, passthroughs: fakePassthroughs{s.tables},
			ownSources: fakeOwnSources{s.tables}}, nil
	}
	s.expect = func(p pinhole.Pinhole) expectation {
		if !s.counts {
			return nil
		}
		s.flow = &fakeFlow{expected: p, outcome: pinhole.KernelOutcome()}
		s.flow.outcome.Counted = true
		return s.flow
	}
	s.free.ask = func(netip.AddrPort) bool { return true }
	s.host.read = func() ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.168.5.2")},
			nil
	}
	if err := s.Connect(); err != nil {
		t.Fatal(err)
	}
	s.Update([]forward.Resolved{s.forward}, true)
	t.Cleanup(s.Close)
	return s
}

// path returns the data path of the stage's forward.
func (s *stage) path() dataplane.Path {
	return s.For(func() forward.Resolved { return s.forward })
}

// open opens a pinhole, which the test closes.
func (s *stage) open(p pinhole.Pinhole) (dataplane.Data, netip.AddrPort) {
	s.t.Helper()
	data, listen, err := s.path().Open(s.t.Context(), p, dataplane.DataTLS{})
	if err != nil {
		s.t.Fatal(err)
	}
	return data, listen
}

// passive is a pinhole between two ends that are beyond the gateway.
func passive() pinhole.Pinhole {
	return pinhole.Pinhole{From: netip.MustParseAddr("192.168.5.1"),
		Listen: netip.MustParseAddrPort("192.168.5.2:0"),
		Target: netip.MustParseAddrPort("203.0.113.21:40000"), SourceIP: netip.MustParseAddr("203.0.113.1")}
}

// onLoopback is a pinhole between addresses of this host, to a listener of its server.
func onLoopback(to *net.TCPListener) pinhole.Pinhole {
	return pinhole.Pinhole{From: relaytest.Peer, Listen: netip.AddrPortFrom(relaytest.Gateway, 0),
		Target: relaytest.LocalAddrPort(to.Addr()), SourceIP: relaytest.Inside}
}

// fakeOwnSources is the kernel's map of sources.
type fakeOwnSources struct{ *fakeTables }

func (f fakeOwnSources) Add(own, target netip.AddrPort, source netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sources = append(f.sources, fmt.Sprintf("%s > %s as %s", own, target, source))
	return f.errAdd
}

func (f fakeOwnSources) Remove(_, _ netip.AddrPort, _ netip.Addr) error { return nil }
func (f fakeOwnSources) Close() error                                   { return nil }
