package forward

import (
	"net/netip"
	"strings"
	"testing"
)

func outbound(servers, denied string) Resolved {
	destinations := func(list string) (all []Destination) {
		for s := range strings.FieldsSeq(list) {
			if p, err := netip.ParsePrefix(s); err == nil {
				all = append(all, Destination{Prefix: p})
			} else {
				all = append(all, Destination{Host: s})
			}
		}
		return all
	}
	return Resolved{Forward: Forward{Outbound: &Outbound{Explicit: true, Servers: destinations(servers),
		Denied: destinations(denied)}}}
}

const (
	none    = "it is not the address of a server"
	denied  = "it is denied"
	gateway = "it is an address of the gateway, and no prefix of servers allows it"
	clients = "it is in a network of the clients, and no prefix of servers allows it"
	local   = "it is a private or local address, and no prefix of servers allows it"
	other   = "it is not among servers"
)

var admitCases = []struct{ servers, denied, host, at, want string }{
	{"", "", "ftp.example.com", "203.0.113.21", ""},
	{"", "", "ftp.example.com", "2001:db8:113::21", ""},
	{"", "", "rebinding.example.com", "127.0.0.1", local},
	{"", "", "a", "127.255.255.254", local},
	{"", "", "a", "10.1.2.3", local},
	{"", "", "a", "172.31.0.1", local},
	{"", "", "a", "172.32.0.1", ""},
	{"", "", "a", "192.168.5.1", local},
	{"", "", "a", "192.168.5.2", gateway},
	{"", "", "a", "203.0.113.1", gateway},
	{"", "", "a", "::ffff:203.0.113.1", gateway},
	{"", "", "a", "2001:db8:113::1", gateway},
	{"", "", "a", "198.51.100.9", clients},
	{"", "", "a", "2001:db8:5::9", clients},
	{"", "", "a", "169.254.169.254", local},
	{"", "", "a", "100.100.100.200", local},
	{"", "", "a", "198.19.0.1", local},
	{"", "", "a", "0.0.0.0", none},
	{"", "", "a", "0.1.2.3", none},
	{"", "", "a", "255.255.255.255", none},
	{"", "", "a", "239.1.1.1", none},
	{"", "", "a", "250.0.0.1", none},
	{"", "", "a", "::", none},
	{"", "", "a", "::1", local},
	{"", "", "a", "::ffff:127.0.0.1", local},
	{"", "", "a", "::127.0.0.1", local},
	{"", "", "a", "fe80::1", local},
	{"", "", "a", "fe80::1%eth0", none},
	{"", "", "a", "fd00::1", local},
	{"", "", "a", "fec0::1", local},
	{"", "", "a", "ff02::1", none},
	{"", "", "a", "64:ff9b::7f00:1", "it leads to 127.0.0.1: " + local},
	{"", "", "a", "64:ff9b::cb00:7115", ""},
	{"", "", "a", "64:ff9b::cb00:7101", "it leads to 203.0.113.1: " + gateway},
	{"", "", "a", "2002:a00:1::1", "it leads to 10.0.0.1: " + local},
	{"", "", "a", "2001:0:1::1", local},
	{"", "", "a", "64:ff9b:1::a00:1", local},

	{"0.0.0.0/0 ::/0", "", "a", "10.0.0.1", local},
	{"0.0.0.0/0 ::/0", "", "a", "::1", local},
	{"0.0.0.0/0 ::/0", "", "a", "203.0.113.21", ""},
	{"a", "", "a", "10.0.0.1", local},
	{"a", "", "a", "203.0.113.21", ""},
	{"a", "", "b", "203.0.113.21", other},
	{"10.0.0.0/8", "", "a", "10.0.0.1", ""},
	{"10.0.0.0/8", "", "a", "203.0.113.21", other},
	{"10.0.0.0/7", "", "a", "10.0.0.1", local},
	{"192.168.0.0/16", "", "a", "192.168.5.2", gateway},
	{"192.168.5.2/32", "", "a", "192.168.5.2", ""},
	{"198.51.100.0/24", "", "a", "198.51.100.9", ""},
	{"198.51.0.0/16", "", "a", "198.51.100.9", clients},
	{"127.0.0.0/8", "", "a", "127.0.0.1", ""},
	{"203.0.113.0/24", "203.0.113.21/32", "a", "203.0.113.21", denied},
	{"a", "a", "a", "203.0.113.21", denied},
	{"", "b", "a", "203.0.113.21", ""},
	{"", "203.0.113.0/24", "a", "64:ff9b::cb00:7115", "it leads to 203.0.113.21: " + denied},
}

// What a client names leads to no address of the inside, unless a prefix of the inside allows it.
func TestAdmits(t *testing.T) {
	near := Nearby{Own: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("192.168.5.2"),
		netip.MustParseAddr("2001:db8:113::1")},
		Inside: prefixes("198.51.100.0/24", "2001:db8:5::/64")}
	for _, tt := range admitCases {
		server := Server{Host: tt.host, Port: 21}
		got := outbound(tt.servers, tt.denied).Admits(server, netip.MustParseAddr(tt.at), near)
		if got != tt.want {
			t.Errorf("servers %q, denied %q: %s at %s: got %q; want %q", tt.servers, tt.denied, tt.host,
				tt.at, got, tt.want)
		}
	}
}

// The addresses of names, which change, allow and deny, but open nothing inside.
func TestAdmitsAddressesOfNames(t *testing.T) {
	r := outbound("ftp.example.com", "")
	r.Reach.Allowed = []Reached{{Addrs: addrs("203.0.113.21", "10.0.0.1")}}
	alias := Server{Host: "mirror.example.com", Port: 21}
	for at, want := range map[string]string{"203.0.113.21": "", "203.0.113.22": "it is not among servers",
		"10.0.0.1": "it is a private or local address, and no prefix of servers allows it"} {
		if got := r.Admits(alias, netip.MustParseAddr(at), Nearby{}); got != want {
			t.Errorf("%s: got %q; want %q", at, got, want)
		}
	}
	r.Reach.Denied = []Reached{{Addrs: addrs("203.0.113.21")}}
	if got := r.Admits(alias, netip.MustParseAddr("203.0.113.21"), Nearby{}); got != "it is denied" {
		t.Errorf("got %q; want denied", got)
	}
}

func TestAdmitsPort(t *testing.T) {
	r := outbound("", "")
	if r.AdmitsPort(21) != "" || r.AdmitsPort(22) == "" {
		t.Error("without ports, want 21 and no other")
	}
	r.Outbound.Ports = []uint16{2121, 990}
	if r.AdmitsPort(21) == "" || r.AdmitsPort(990) != "" {
		t.Error("with ports 2121 and 990, want these and no other")
	}
}

func addrs(list ...string) (all []netip.Addr) {
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}
