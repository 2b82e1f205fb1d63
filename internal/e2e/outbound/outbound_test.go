// Package outbound tests clients that reach servers by the servers' own addresses, and servers that see the
// clients' own ones, with the whole program in the lab.
package outbound

import (
	"net/netip"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// family is the lab's addresses of one version of IP.
type family struct {
	client, wan, server netip.Addr
	routes              []string // of the client to the server, and of the server back to the client
}

var families = map[string]family{
	"IPv4": {lab.ClientAddr4, lab.GatewayWAN4, lab.ServerAddr4,
		[]string{"ip route add default via 192.168.5.2", "ip route add 192.168.5.0/24 via 203.0.113.1"}},
	"IPv6": {lab.ClientAddr6, lab.GatewayWAN6, lab.ServerAddr6,
		[]string{"ip -6 route add default via 2001:db8:5::2",
			"ip -6 route add 2001:db8:5::/64 via 2001:db8:113::1"}},
}

// newTestbed runs ftpgate outbound with flags on a gateway between a scripted client and a scripted server,
// which dials the server's own address. back: the server's way back to the client leads through the gateway.
func newTestbed(t *testing.T, f family, back bool, flags ...string) *harness.Testbed {
	t.Helper()
	l := labtest.New(t)
	harness.Shell(t, l.Client(), "%s", f.routes[0])
	if back {
		harness.Shell(t, l.Server(), "%s", f.routes[1])
	}
	at := netip.AddrPortFrom(f.server, 21).String()
	s := &harness.Testbed{Lab: l, T: t, Address: at, Listener: harness.Listen(t, l.Server(), at)}
	s.StartProgram(append([]string{"outbound", "--interface", "lan0"}, flags...)...)
	return s
}

// Each end sees the right peer on the control connection and on data connections in both modes: the client
// the server's own address, the server the gateway's, or with source "client" the client's.
func TestFaces(t *testing.T) {
	t.Parallel()
	for version, f := range families {
		for path, data := range harness.DataPaths {
			for _, source := range []string{"gateway", "client"} {
				t.Run(version+"/"+path+"/"+source, func(t *testing.T) {
					t.Parallel()
					s := newTestbed(t, f, source == "client", append(data, "--source", source)...)
					seen := f.wan
					if source == "client" {
						seen = f.client
					}
					p := s.Login()
					wantFaces(p, f.server, seen)
					wantFaces(p, f.server, seen) // once more, with the ports of the first ones resting
					p.Quit()
				})
			}
		}
	}
}

// wantFaces transfers in both modes, and checks what each end sees.
func wantFaces(p harness.Session, server, seen netip.Addr) {
	p.T.Helper()
	if got := harness.PeerAddr(p.Server); got != seen {
		p.T.Errorf("on control the server sees %s; want %s", got, seen)
	}
	passive := p.Retrieve(netip.Addr{})
	if got := passive.Address.Addr(); got != server {
		p.T.Errorf("the client is told to dial %s; want %s", got, server)
	}
	if got := harness.PeerAddr(passive.ServerData); got != seen {
		p.T.Errorf("in passive mode the server sees %s; want %s", got, seen)
	}
	passive.Complete()
	active := p.RetrieveActive()
	if got := active.Address.Addr(); got != seen {
		p.T.Errorf("the server is told to dial %s; want %s", got, seen)
	}
	if got := harness.PeerAddr(active.ClientData); got != server {
		p.T.Errorf("in active mode the client sees %s; want %s", got, server)
	}
	active.Complete()
}
