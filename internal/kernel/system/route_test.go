package system

import (
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

func TestRouteTo(t *testing.T) {
	labtest.Need(t, "ip")
	gateway := labtest.New(t).Gateway()
	for _, args := range []string{
		"link set wan0 mtu 1400",
		"route add 198.51.100.0/24 via 203.0.113.21 mtu 1000",
		"route add 192.0.2.0/24 via inet6 2001:db8:113::21 src 192.168.5.2",
		"route add unreachable 10.1.0.0/16", "route add unreachable 2001:db8:1::/48",
		"route add prohibit 10.2.0.0/16", "route add prohibit 2001:db8:2::/48",
		"route add blackhole 10.3.0.0/16", "route add blackhole 2001:db8:3::/48",
	} {
		if out, err := gateway.Output(t.Context(), "ip", strings.Fields(args)...); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	tests := []struct {
		to   string
		want Route
	}{
		{"203.0.113.21", Route{Interface: "wan0", Source: lab.GatewayWAN4, MTU: 1400}},
		{"::ffff:203.0.113.21", Route{Interface: "wan0", Source: lab.GatewayWAN4, MTU: 1400}},
		{"192.168.5.77", Route{Interface: "lan0", Source: lab.GatewayLAN4, MTU: 1500}},
		{"198.51.100.1",
			Route{Interface: "wan0", Source: lab.GatewayWAN4, Gateway: lab.ServerAddr4, MTU: 1000}},
		{"192.0.2.1", Route{Interface: "wan0", Source: lab.GatewayLAN4, Gateway: lab.ServerAddr6, MTU: 1400}},
		{"2001:db8:113::21", Route{Interface: "wan0", Source: lab.GatewayWAN6, MTU: 1400}},
		{"192.168.5.2", Route{Interface: "lo", Source: lab.GatewayLAN4, MTU: 65536, Local: true}},
		// The kernel makes local routes of links later.
		{"::1", Route{Interface: "lo", Source: netip.IPv6Loopback(), MTU: 65536, Local: true}},
		{"8.8.8.8", Route{Problem: "there is no route, not even a default one"}},
		{"2001:db8:ffff::1", Route{Problem: "there is no route, not even a default one"}},
		{"10.1.0.1", Route{Problem: "a route of type unreachable forbids it"}},
		{"10.2.0.1", Route{Problem: "a route of type prohibit forbids it"}},
		{"10.3.0.1", Route{Problem: "a route of type blackhole forbids it"}},
		{"2001:db8:1::1", Route{Problem: "a route of type unreachable forbids it"}},
		{"2001:db8:2::1", Route{Problem: "a route of type prohibit forbids it"}},
		{"2001:db8:3::1", Route{Problem: "a route of type blackhole forbids it"}},
	}
	in(t, gateway, func() error {
		for _, tt := range tests {
			got, err := RouteTo(netip.MustParseAddr(tt.to))
			if err != nil || got != tt.want {
				t.Errorf("RouteTo(%s) = %+v, %v; want %+v", tt.to, got, err, tt.want)
			}
		}
		if r, err := RouteTo(netip.Addr{}); err == nil {
			t.Errorf("RouteTo without an address = %+v; want an error", r)
		}
		return nil
	})
}

func TestLinks(t *testing.T) {
	labtest.Need(t, "ip")
	gateway := labtest.New(t).Gateway()
	add := func(kind string) error {
		_, err := gateway.Output(t.Context(), "ip", "link", "add", "down0", "mtu", "1000", "type", kind)
		return err
	}
	if err := add("dummy"); err != nil {
		if err := add("veth"); err != nil {
			t.Fatal(err)
		}
	}
	in(t, gateway, func() error {
		links, err := Links()
		if err != nil {
			return err
		}
		found := map[string]Link{}
		for _, l := range links {
			found[l.Name] = l
		}
		wan := found[lab.GatewayWANLink]
		if !wan.Up || wan.MTU != 1500 || len(wan.Addrs) < 2 ||
			wan.Addrs[0] != netip.MustParsePrefix("203.0.113.1/24") {
			t.Errorf("got %+v; want wan0 up, with 203.0.113.1/24 and 1500", wan)
		}
		if down := found["down0"]; down.Up || down.MTU != 1000 {
			t.Errorf("got %+v; want down0 down, with 1000", down)
		}
		return nil
	})
}
