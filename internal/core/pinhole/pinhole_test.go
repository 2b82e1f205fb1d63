package pinhole

import (
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
)

var (
	client  = netip.MustParseAddr("192.168.5.1")
	gateway = netip.MustParseAddr("192.168.5.2")
	outside = netip.MustParseAddr("203.0.113.1")
	server  = netip.MustParseAddr("203.0.113.21")
	six     = netip.MustParseAddr("2001:db8::1")
)

func testPinhole(changes ...func(*Pinhole)) Pinhole {
	p := Pinhole{From: client, Listen: netip.AddrPortFrom(gateway, 50000),
		Target: netip.AddrPortFrom(server, 40000), SourceIP: outside}
	for _, change := range changes {
		change(&p)
	}
	return p
}

func testPassthrough(changes ...func(*Passthrough)) Passthrough {
	p := Passthrough{From: client, Listen: gateway, Ports: forward.PortRange{First: 50000, Last: 50100},
		Target: server, SourceIP: outside}
	for _, change := range changes {
		change(&p)
	}
	return p
}

// wantError checks an error; "" wants none.
func wantError(t *testing.T, what any, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%v: got %v; want %q", what, err, want)
	}
}

// A pinhole is exact, or it is refused.
func TestPinholeValidate(t *testing.T) {
	for _, tt := range []struct {
		change func(*Pinhole)
		want   string
	}{
		{func(p *Pinhole) {}, ""},
		{func(p *Pinhole) { p.Target = netip.AddrPortFrom(six, 40000) }, ""},
		{func(p *Pinhole) { p.SourceIP = netip.Addr{} }, ""},
		{func(p *Pinhole) { p.From = netip.Addr{} }, "missing the address that connects"},
		{func(p *Pinhole) { p.From = netip.IPv4Unspecified() }, "missing the address that connects"},
		{func(p *Pinhole) { p.Listen = netip.AddrPort{} }, "missing the gateway's address"},
		{func(p *Pinhole) { p.Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), 1) },
			"missing the gateway's address"},
		{func(p *Pinhole) { p.From = six }, "address family"},
		{func(p *Pinhole) { p.Target = netip.AddrPort{} }, "not a usable target"},
		{func(p *Pinhole) { p.Target = netip.AddrPortFrom(server, 0) },
			"203.0.113.21:0 is not a usable target"},
		{func(p *Pinhole) { p.Target = netip.AddrPortFrom(netip.IPv4Unspecified(), 1) },
			"not a usable target"},
	} {
		p := testPinhole(tt.change)
		wantError(t, p, p.Validate(), tt.want)
	}
}

// A passthrough is exact, and opens no port of a service.
func TestPassthroughValidate(t *testing.T) {
	for _, tt := range []struct {
		change func(*Passthrough)
		want   string
	}{
		{func(p *Passthrough) {}, ""},
		{func(p *Passthrough) { p.From = netip.Addr{} }, "missing the address that connects"},
		{func(p *Passthrough) { p.Listen = netip.IPv4Unspecified() }, "missing the gateway's address"},
		{func(p *Passthrough) { p.Target = netip.Addr{} }, "not a usable target"},
		{func(p *Passthrough) { p.Target = p.Listen }, "the gateway's own address"},
		{func(p *Passthrough) { p.Ports = forward.PortRange{First: 3000, Last: 2000} },
			"ports 3000-2000 are not a valid range"},
		{func(p *Passthrough) { p.Ports.First = 1023 }, "port 1023 is below 1024"},
	} {
		p := testPassthrough(tt.change)
		wantError(t, p, p.Validate(), tt.want)
	}
}

// Both ends of a bridge listen somewhere.
func TestBridgeValidate(t *testing.T) {
	leg := Leg{Target: netip.AddrPortFrom(server, 40000)}
	for _, tt := range []struct {
		bridge Bridge
		want   string
	}{
		{Bridge{Client: leg, Server: leg}, ""},
		{Bridge{Client: leg}, "not a usable target"},
		{Bridge{Server: leg}, "not a usable target"},
	} {
		wantError(t, tt.bridge, tt.bridge.Validate(), tt.want)
	}
}

// The kernel translates within one version of IP, and wants every address.
func TestOneFamily(t *testing.T) {
	for _, tt := range []struct {
		change func(*Pinhole)
		want   bool
	}{
		{func(p *Pinhole) {}, true},
		{func(p *Pinhole) { p.SourceIP = netip.Addr{} }, false},
		{func(p *Pinhole) { p.SourceIP = six }, false},
		{func(p *Pinhole) { p.Target = netip.AddrPortFrom(six, 1) }, false},
		{func(p *Pinhole) {
			p.From, p.SourceIP = six, six
			p.Listen, p.Target = netip.AddrPortFrom(six, 1), netip.AddrPortFrom(six, 2)
		}, true},
	} {
		p := testPinhole(tt.change)
		if got := p.OneFamily(); got != tt.want {
			t.Errorf("%s: got %t; want %t", p, got, tt.want)
		}
		through := Passthrough{From: p.From, Listen: p.Listen.Addr(), Target: p.Target.Addr(),
			SourceIP: p.SourceIP}
		if got := through.OneFamily(); got != tt.want {
			t.Errorf("%s: got %t; want %t", through, got, tt.want)
		}
	}
}

// Sockets for both versions of IP write IPv4 addresses as mapped ones.
func TestUnmap(t *testing.T) {
	mapped := func(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }
	p := testPinhole()
	p.From, p.SourceIP = mapped(p.From), mapped(p.SourceIP)
	p.Listen = netip.AddrPortFrom(mapped(gateway), p.Listen.Port())
	p.Target = netip.AddrPortFrom(mapped(server), p.Target.Port())
	if got := p.Unmap(); got != testPinhole() {
		t.Errorf("got %s; want %s", got, testPinhole())
	}
	through := testPassthrough()
	through.From, through.Listen = mapped(through.From), mapped(through.Listen)
	through.Target, through.SourceIP = mapped(through.Target), mapped(through.SourceIP)
	if got := through.Unmap(); got != testPassthrough() {
		t.Errorf("got %s; want %s", got, testPassthrough())
	}
	want := "192.168.5.1 > 192.168.5.2 port 50000-50100 > 203.0.113.1 > 203.0.113.21"
	if got := through.Unmap().String(); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	want = "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000"
	if got := p.Unmap().String(); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// One leg with TLS is enough to keep the kernel from carrying a connection.
func TestTLSLegs(t *testing.T) {
	for legs, want := range map[TLSLegs]bool{{}: false, {Client: true}: true, {Server: true}: true} {
		if got := legs.Any(); got != want {
			t.Errorf("%+v: got %t; want %t", legs, got, want)
		}
	}
}
