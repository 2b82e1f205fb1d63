package harness

import (
	"net/netip"
	"testing"

	"ftpgate/internal/try/lab"
)

// Gateway4 and Gateway6 are where clients connect, Server4 is where the server listens.
const (
	Gateway4 = "192.168.5.2:2121"
	Gateway6 = "[2001:db8:5::2]:2121"
	Server4  = "203.0.113.21:21"
)

// Forward is a forward in the lab: where clients connect, where the server is, and the source address
// that the server sees.
type Forward struct {
	Listen, Server netip.AddrPort
	Source         netip.Addr
}

// Forward4 and Forward6 have one version of IP on both sides, Forward4To6 and Forward6To4 join clients with
// a server of the other version.
var (
	Forward4 = Forward{netip.AddrPortFrom(lab.GatewayLAN4, 2121), netip.AddrPortFrom(lab.ServerAddr4, 21),
		lab.GatewayWAN4}
	Forward6 = Forward{netip.AddrPortFrom(lab.GatewayLAN6, 2121), netip.AddrPortFrom(lab.ServerAddr6, 21),
		lab.GatewayWAN6}

	Forward4To6 = Forward{Forward4.Listen, Forward6.Server, Forward6.Source}
	Forward6To4 = Forward{Forward6.Listen, Forward4.Server, Forward4.Source}
)

// IPVersion returns the version of IP that clients use: IPv4 or IPv6.
func (f Forward) IPVersion() string {
	if f.Listen.Addr().Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// StartForward starts ftpgate forward on the lab's gateway.
func StartForward(t *testing.T, l *lab.Lab, f Forward, flags ...string) {
	t.Helper()
	Start(t, l.Gateway(), append(append([]string{"forward"}, flags...), f.Listen.String(),
		f.Server.String())...).AwaitReady()
}

// DataPaths has the flags for each data path.
var DataPaths = map[string][]string{"kernel": {"--data", "kernel"}, "relay": {"--data", "relay"}}
