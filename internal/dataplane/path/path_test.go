package path

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/passthrough"
	"ftpgate/internal/dataplane/relaytest"
)

// failureOf returns the Failure of an error, and fails the test where it has none.
func failureOf(t *testing.T, err error) pinhole.Failure {
	t.Helper()
	f, ok := errors.AsType[*pinhole.Failure](err)
	if !ok {
		t.Fatalf("got error %v; want a Failure", err)
	}
	return *f
}

// A pinhole gets a port of the range that no rule and no program of the gateway has, and the kernel hears of
// it when it is armed.
func TestOpenByKernel(t *testing.T) {
	s := newStage(t)
	taken := netip.MustParseAddrPort("192.168.5.2:50004")
	s.free.ask = func(at netip.AddrPort) bool { return at != taken }
	reserving := forward.Resolved{Forward: forward.Forward{Name: "plc", Tracking: forward.TrackingNone,
		Listen:      forward.Listen{Addr: netip.MustParseAddr("192.168.5.2"), Port: 50001},
		ServerPorts: forward.PortRange{First: 50006, Last: 50009}}}
	s.Update([]forward.Resolved{s.forward, reserving}, true)
	var got []uint16
	for range 4 {
		data, listen := s.open(passive())
		defer data.Close()
		got = append(got, listen.Port())
		p := passive()
		p.Listen = listen
		if s.tables.open(p) != 0 {
			t.Errorf("%s is open before it is armed", p)
		}
		if err := data.Arm(); err != nil || s.tables.open(p) != 1 {
			t.Errorf("%s: got it %d times in the kernel, error %v; want once", p, s.tables.open(p), err)
		}
		if s.flow.expected != p {
			t.Errorf("got %s expected; want %s", s.flow.expected, p)
		}
	}
	if slices.Sort(got); !slices.Equal(got, []uint16{50000, 50002, 50003, 50005}) {
		t.Errorf("got ports %d; want those that are free", got)
	}
	_, _, err := s.path().Open(t.Context(), passive(), dataplane.DataTLS{})
	if f := failureOf(t, err); f.Fault.Code != verdict.CodeNoPortsLeft || f.Fault.Ports != testPorts ||
		f.Reason != "" {
		t.Errorf("got %+v; want no ports left of %s", f, testPorts)
	}
}

// The relay carries what the kernel cannot, and says so when its ports are exhausted, too.
func TestOpenByRelay(t *testing.T) {
	s := newStage(t)
	l := relaytest.Listen(t, relaytest.Server)
	data, listen := s.open(onLoopback(l))
	if o := data.Outcome(); o.Path != forward.DataRelay || !o.Counted || listen.Port() < 50000 {
		t.Errorf("got %+v at %s; want the relay at a port of %s", o, listen, testPorts)
	}
	if o := data.Close(); !o.Complete || o.Failure != nil || !o.Over {
		t.Errorf("never armed: got %+v; want it complete", o)
	}
	s.reserved.Store(&reservedPorts{ranges: map[netip.Addr][]forward.PortRange{{}: {testPorts}}})
	_, _, err := s.path().Open(t.Context(), onLoopback(l), dataplane.DataTLS{})
	if f := failureOf(t, err); f.Fault.Code != verdict.CodeNoPortsLeft || f.Fault.Ports != testPorts {
		t.Errorf("got %+v; want no ports left of %s", f, testPorts)
	}
}

// A forward that wants the kernel hears why it cannot have it; without tables the others are relayed.
func TestOpenWithoutTables(t *testing.T) {
	s := newStage(t)
	s.Update([]forward.Resolved{s.forward}, false)
	s.forward.Data = forward.DataKernel
	_, _, err := s.path().Open(t.Context(), passive(), dataplane.DataTLS{})
	const why = "ftpgate may not change the kernel's tables"
	if f := failureOf(t, err); f.Fault.Code != verdict.CodeNoDataPath || !strings.HasSuffix(f.Fault.Err,
		why) {
		t.Errorf("got %+v; want that %s", f, why)
	}
	if s.tables.closed != 0 {
		t.Error("the tables were closed; want them kept for when they are usable again")
	}
}

// A bridge is always relayed, and its error is a Failure.
func TestBridge(t *testing.T) {
	s := newStage(t)
	l := relaytest.Listen(t, relaytest.Server)
	leg := pinhole.Leg{Target: onLoopback(l).Target}
	data, err := s.path().Bridge(t.Context(), pinhole.Bridge{Client: leg, Server: leg}, dataplane.DataTLS{})
	if err != nil {
		t.Fatal(err)
	}
	if o := data.Outcome(); o.Path != forward.DataRelay {
		t.Errorf("got path %s; want the relay", o.Path)
	}
	data.Close()
	_, err = s.path().Bridge(t.Context(), pinhole.Bridge{Client: leg}, dataplane.DataTLS{})
	if f := failureOf(t, err); f.Fault.Code != verdict.CodeNoDataPath {
		t.Errorf("got %+v; want no data path", f)
	}
}

// A passthrough is in the kernel while a session has it, and its range stays in the table for that long.
func TestPassthroughByKernel(t *testing.T) {
	s := newStage(t)
	p := pinhole.Passthrough{From: netip.MustParseAddr("192.168.5.1"), Ports: testPorts,
		Listen: netip.MustParseAddr("192.168.5.2"), Target: netip.MustParseAddr("203.0.113.21"),
		SourceIP: netip.MustParseAddr("203.0.113.1")}
	handle, err := s.path().OpenPassthrough(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, inKernel := range []int{0, 1} {
		if got := s.PassthroughRanges(); !slices.Equal(got, []forward.PortRange{testPorts}) ||
			s.tables.passthroughs[p] != inKernel {
			t.Errorf("got ranges %v, %v in the kernel; want %s, %d times", got, s.tables.passthroughs,
				testPorts, inKernel)
		}
		if err := handle.Arm(); err != nil {
			t.Fatal(err)
		}
	}
	other := p
	other.Target = netip.MustParseAddr("203.0.113.22")
	_, err = s.path().OpenPassthrough(other)
	if f := failureOf(t, err); f.Fault.Code != "" || f.ReplyCode != 431 || f.Reason == "" ||
		f.Remedy != passthrough.RemedyOverlap || !strings.Contains(f.Error(), p.String()) {
		t.Errorf("got %+v; want a 431 with a remedy that names %s", f, p)
	}
	handle.Close()
	if got := s.PassthroughRanges(); len(got) != 0 {
		t.Errorf("got ranges %v; want none", got)
	}
}

// What the relay has to say of a passthrough the client hears, with 431.
func TestPassthroughByRelay(t *testing.T) {
	s := newStage(t)
	wide := pinhole.Passthrough{From: relaytest.Peer, Listen: relaytest.Gateway,
		Ports:  forward.PortRange{First: 10000, Last: 60000},
		Target: relaytest.Server, SourceIP: relaytest.Inside}
	_, err := s.path().OpenPassthrough(wide)
	f := failureOf(t, err)
	const why = "the server has more ports for data than the gateway can open"
	if f.ReplyCode != 431 || f.Reason != why || f.Remedy == "" {
		t.Errorf("got %+v; want 431 with the reason and a remedy", f)
	}
	narrow := wide
	narrow.Ports, _ = relaytest.TakenPorts(t, 1)
	if _, err = s.path().OpenPassthrough(narrow); failureOf(t, err).ReplyCode != 431 {
		t.Errorf("got error %v; want 431", err)
	}
	s.forward.Data = forward.DataKernel
	_, err = s.path().OpenPassthrough(wide)
	obstacle := relaytest.Peer.String() + " is the gateway itself"
	if f := failureOf(t, err); !strings.HasSuffix(f.Error(), obstacle) {
		t.Errorf("got %v; want why the kernel cannot carry it", err)
	}
}

// What can fail comes before the forwards are published: Connect. Afterwards a table without the maps of
// passthroughs is reported, and the forwards are served.
func TestUpdate(t *testing.T) {
	s := newStage(t)
	s.tables.errAdd = errors.New("no answer")
	s.Update(nil, true)
	if got := s.log.String(); !strings.Contains(got, "cannot renew the ports of encrypted sessions") ||
		s.kernel.Load() == nil {
		t.Errorf("got kernel path %v, log %q; want the path, and what failed", s.kernel.Load(), got)
	}
	s.tables.errAdd = nil
	fresh := New(Config{Table: "ftpgate", Log: s.Paths.log})
	defer fresh.Close()
	fresh.openTables = func(string, func(error)) (*tables, error) {
		return nil, errors.ErrUnsupported
	}
	if err := fresh.Connect(); !errors.Is(err, errors.ErrUnsupported) ||
		!strings.HasPrefix(err.Error(), "data path: ") {
		t.Errorf("got error %v; want %v", err, errors.ErrUnsupported)
	}
	if got := fresh.PassthroughRanges(); got != nil {
		t.Errorf("got ranges %v without tables; want none", got)
	}
}

// A stop waits for what either path carries on, as long as it may.
func TestDrain(t *testing.T) {
	s := newStage(t)
	left := 2
	s.carried = func() int {
		left--
		return left
	}
	if s.Drain(t.Context()); left != 0 {
		t.Errorf("got %d connections of the kernel left; want it to wait for none", left)
	}
	s.carried = func() int { return 1 }
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.Drain(ended)
}
