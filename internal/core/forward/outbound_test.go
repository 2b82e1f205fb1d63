package forward

import (
	"net/netip"
	"testing"
)

// A fault names an outbound that has taken a name or an address as one.
func TestTakenByOutbound(t *testing.T) {
	listen := Listen{Addr: netip.MustParseAddr("192.0.2.1"), Port: 2121}
	first := Forward{Name: "a", Listen: listen, Outbound: &Outbound{Explicit: true}}
	second := Forward{Name: "a", Listen: listen, Server: Server{Host: "203.0.113.21", Port: 21}}
	got := map[string]bool{}
	for _, f := range Check([]Forward{first, second})[1] {
		got[f.Text] = true
	}
	for _, want := range []string{`name "a" is taken by an outbound`,
		`listen 192.0.2.1:2121 is taken by outbound "a"`} {
		if !got[want] {
			t.Errorf("got %v; want %q", got, want)
		}
	}
}

func TestReaches(t *testing.T) {
	const notAllowed = "it is not among the servers that are allowed"
	destination := func(s string) []Reached {
		switch p, err := netip.ParsePrefix(s); {
		case s == "":
			return nil
		case err == nil:
			return []Reached{{Destination: Destination{Prefix: p}}}
		}
		return []Reached{{Destination: Destination{Host: s},
			Addrs: addrs("203.0.113.21", "2001:db8:113::21")}}
	}
	for _, tt := range []struct{ servers, denied, at, want string }{
		{"", "", "203.0.113.21", ""},
		{"", "", "2001:db8:113::21", ""},
		{"", "", "10.0.0.1", ""},
		{"", "", "0.0.0.0", none},
		{"", "", "::", none},
		{"", "", "127.0.0.1", none},
		{"", "", "::1", none},
		{"", "", "169.254.1.1", none},
		{"", "", "fe80::1", none},
		{"", "", "224.0.0.1", none},
		{"", "", "ff01::1", none},
		{"", "", "ff0e::1", none},
		{"", "", "255.255.255.255", none},
		{"127.0.0.0/8", "", "127.0.0.1", none},
		{"203.0.113.0/24", "", "203.0.113.21", ""},
		{"203.0.113.0/24", "", "198.51.100.1", notAllowed},
		{"203.0.113.0/24", "", "2001:db8:113::21", notAllowed},
		{"ftp.example.com", "", "203.0.113.21", ""},
		{"ftp.example.com", "", "2001:db8:113::21", ""},
		{"ftp.example.com", "", "203.0.113.22", notAllowed},
		{"", "203.0.113.0/24", "203.0.113.21", denied},
		{"", "203.0.113.0/24", "203.0.114.21", ""},
		{"", "ftp.example.com", "2001:db8:113::21", denied},
		{"203.0.113.0/24", "ftp.example.com", "203.0.113.21", denied},
		{"203.0.113.0/24", "ftp.example.com", "203.0.113.22", ""},
	} {
		r := outbound(tt.servers, tt.denied)
		r.Outbound.Explicit = false
		r.Reach = Reach{Allowed: destination(tt.servers), Denied: destination(tt.denied)}
		if got := r.Reaches(netip.MustParseAddr(tt.at)); got != tt.want {
			t.Errorf("servers %q, denied %q: %s: got %q; want %q", tt.servers, tt.denied, tt.at, got, tt.want)
		}
	}
	if got := outbound("", "").Reaches(netip.Addr{}); got != none {
		t.Errorf("no address: got %q; want %q", got, none)
	}
	unresolved := outbound("ftp.example.com", "")
	if got := unresolved.Reaches(netip.MustParseAddr("203.0.113.21")); got != notAllowed {
		t.Errorf("a name without addresses: got %q; want %q", got, notAllowed)
	}
}

// FTPS that is refused names the table of TLS that an outbound has.
func TestOutboundFTPS(t *testing.T) {
	f := Forward{Outbound: &Outbound{}, Tracking: TrackingProxy}
	const want = "AUTH gets 534; set server_ports or [outbound.tls] to allow FTPS"
	if what, why := f.FTPS(); what != "refused" || why != want {
		t.Errorf("got %q, %q; want refused, %q", what, why, want)
	}
}
