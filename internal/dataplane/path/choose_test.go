package path

import (
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// The kernel carries what it can; a forward that wants the kernel hears why it cannot.
func TestChoosePinhole(t *testing.T) {
	p := func(from, at, to, as string) pinhole.Pinhole {
		return pinhole.Pinhole{From: netip.MustParseAddr(from),
			Listen: netip.AddrPortFrom(netip.MustParseAddr(at), 0),
			Target: netip.AddrPortFrom(netip.MustParseAddr(to), 5000), SourceIP: netip.MustParseAddr(as)}
	}
	four := p("192.168.5.1", "192.168.5.2", "203.0.113.21", "203.0.113.1")
	six := p("2001:db8:5::1", "2001:db8:5::2", "2001:db8:113::21", "2001:db8:113::1")
	mixed := p("2001:db8:5::1", "2001:db8:5::2", "203.0.113.21", "203.0.113.1")
	local := p("192.168.5.2", "192.168.5.2", "203.0.113.21", "203.0.113.1")
	localActive := p("203.0.113.21", "203.0.113.1", "192.168.5.2", "192.168.5.2")
	encrypted := four
	encrypted.TLS.Client = true
	own := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.168.5.2") }
	for _, tt := range []struct {
		name    string
		want    forward.DataPath
		pinhole pinhole.Pinhole
		usable  bool
		got     string // the path, or part of the error
	}{
		{"auto", forward.DataAuto, four, true, "kernel"},
		{"IPv6", forward.DataAuto, six, true, "kernel"},
		{"no privilege", forward.DataAuto, four, false, "relay"},
		{"two families", forward.DataAuto, mixed, true, "relay"},
		{"a client on the gateway", forward.DataAuto, local, true, "relay"},
		{"active", forward.DataAuto, localActive, true, "relay"},
		{"encrypted", forward.DataAuto, encrypted, true, "relay"},
		{"kernel forced, encrypted", forward.DataKernel, encrypted, true, "ftpgate itself encrypts it"},
		{"relay forced", forward.DataRelay, four, true, "relay"},
		{"kernel forced", forward.DataKernel, four, true, "kernel"},
		{"kernel forced without privilege", forward.DataKernel, four, false,
			"ftpgate may not change the kernel's tables"},
		{"kernel forced with two families", forward.DataKernel, mixed, true,
			"one end has IPv4 and the other IPv6"},
		{"kernel forced on the gateway", forward.DataKernel, local, true,
			"192.168.5.2 is the gateway itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chosen, err := choosePinhole(tt.want, tt.pinhole, tt.usable, own)
			got := chosen.String()
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.got) || err == nil && got != tt.got {
				t.Errorf("got %s; want %s", got, tt.got)
			}
		})
	}
}

// Passthroughs are carried like pinholes.
func TestChoosePassthrough(t *testing.T) {
	through := func(from, to string) pinhole.Passthrough {
		return pinhole.Passthrough{From: netip.MustParseAddr(from),
			Listen: netip.MustParseAddr("192.168.5.2"),
			Ports:  forward.PortRange{First: 50000, Last: 50100},
			Target: netip.MustParseAddr(to), SourceIP: netip.MustParseAddr("203.0.113.1")}
	}
	four := through("192.168.5.1", "203.0.113.21")
	own := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.168.5.2") }
	for _, tt := range []struct {
		name    string
		want    forward.DataPath
		through pinhole.Passthrough
		usable  bool
		got     string // the path, or the end of the error
	}{
		{"auto", forward.DataAuto, four, true, "kernel"},
		{"no privilege", forward.DataAuto, four, false, "relay"},
		{"two families", forward.DataAuto, through("192.168.5.1", "2001:db8:113::21"), true, "relay"},
		{"a client on the gateway", forward.DataAuto, through("192.168.5.2", "203.0.113.21"), true, "relay"},
		{"a server on the gateway", forward.DataAuto, through("192.168.5.1", "192.168.5.2"), true, "relay"},
		{"relay forced", forward.DataRelay, four, true, "relay"},
		{"kernel forced", forward.DataKernel, four, true, "kernel"},
		{"kernel forced without privilege", forward.DataKernel, four, false,
			"cannot carry " + four.String() + ": ftpgate may not change the kernel's tables"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chosen, err := choosePassthrough(tt.want, tt.through, tt.usable, own)
			got := chosen.String()
			if err != nil {
				got = err.Error()
			}
			if !strings.HasSuffix(got, tt.got) || err == nil && got != tt.got {
				t.Errorf("got %s; want %s", got, tt.got)
			}
		})
	}
}
