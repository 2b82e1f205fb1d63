package path_test

import (
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/path"
)

func TestCarrier(t *testing.T) {
	hole := func(from, at, to, as string) pinhole.Pinhole {
		return pinhole.Pinhole{From: netip.MustParseAddr(from), At: netip.AddrPortFrom(netip.MustParseAddr(at), 0),
			To: netip.AddrPortFrom(netip.MustParseAddr(to), 5000), As: netip.MustParseAddr(as)}
	}
	four := hole("192.168.5.1", "192.168.5.2", "203.0.113.21", "203.0.113.1")
	six := hole("2001:db8:5::1", "2001:db8:5::2", "2001:db8:113::21", "2001:db8:113::1")
	mixed := hole("2001:db8:5::1", "2001:db8:5::2", "203.0.113.21", "203.0.113.1")
	local := hole("192.168.5.2", "192.168.5.2", "203.0.113.21", "203.0.113.1")
	localActive := hole("203.0.113.21", "203.0.113.1", "192.168.5.2", "192.168.5.2")
	sealed := four
	sealed.Encrypted.Client = true
	own := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.168.5.2") }
	for _, tt := range []struct {
		name   string
		want   forward.DataPath
		hole   pinhole.Pinhole
		tables bool
		got    string // the path, or part of the error
	}{
		{"auto", forward.DataAuto, four, true, "kernel"},
		{"IPv6", forward.DataAuto, six, true, "kernel"},
		{"no privilege", forward.DataAuto, four, false, "relay"},
		{"two families", forward.DataAuto, mixed, true, "relay"},
		{"a client on the gateway", forward.DataAuto, local, true, "relay"},
		{"active", forward.DataAuto, localActive, true, "relay"},
		{"encrypted", forward.DataAuto, sealed, true, "relay"},
		{"kernel forced, encrypted", forward.DataKernel, sealed, true, "ftpgate itself encrypts it"},
		{"relay forced", forward.DataRelay, four, true, "relay"},
		{"kernel forced", forward.DataKernel, four, true, "kernel"},
		{"kernel forced without privilege", forward.DataKernel, four, false, "ftpgate may not change the kernel's tables"},
		{"kernel forced with two families", forward.DataKernel, mixed, true, "one end has IPv4 and the other IPv6"},
		{"kernel forced on the gateway", forward.DataKernel, local, true, "192.168.5.2 is the gateway itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			carrier, err := path.Carrier(tt.want, tt.hole, tt.tables, own)
			got := carrier.String()
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.got) || err == nil && got != tt.got {
				t.Errorf("got %s; want %s", got, tt.got)
			}
		})
	}
}

// Passages are carried like pinholes.
func TestPassageCarrier(t *testing.T) {
	passage := func(from, to string) pinhole.Passage {
		return pinhole.Passage{From: netip.MustParseAddr(from), At: netip.MustParseAddr("192.168.5.2"), Ports: forward.PortRange{First: 50000, Last: 50100},
			To: netip.MustParseAddr(to), As: netip.MustParseAddr("203.0.113.1")}
	}
	four := passage("192.168.5.1", "203.0.113.21")
	own := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.168.5.2") }
	for _, tt := range []struct {
		name    string
		want    forward.DataPath
		passage pinhole.Passage
		tables  bool
		got     string // the path, or the end of the error
	}{
		{"auto", forward.DataAuto, four, true, "kernel"},
		{"no privilege", forward.DataAuto, four, false, "relay"},
		{"two families", forward.DataAuto, passage("192.168.5.1", "2001:db8:113::21"), true, "relay"},
		{"a client on the gateway", forward.DataAuto, passage("192.168.5.2", "203.0.113.21"), true, "relay"},
		{"a server on the gateway", forward.DataAuto, passage("192.168.5.1", "192.168.5.2"), true, "relay"},
		{"relay forced", forward.DataRelay, four, true, "relay"},
		{"kernel forced", forward.DataKernel, four, true, "kernel"},
		{"kernel forced without privilege", forward.DataKernel, four, false, "cannot carry " + four.String() + ": ftpgate may not change the kernel's tables"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			carrier, err := path.PassageCarrier(tt.want, tt.passage, tt.tables, own)
			got := carrier.String()
			if err != nil {
				got = err.Error()
			}
			if !strings.HasSuffix(got, tt.got) || err == nil && got != tt.got {
				t.Errorf("got %s; want %s", got, tt.got)
			}
		})
	}
}
