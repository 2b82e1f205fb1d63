package forward_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
)

// TestWords: the words of the file are those of the values; the zero value is the default.
func TestWords(t *testing.T) {
	for _, tt := range []struct{ in, want, wrong string }{
		{"proxy", "proxy", ""}, {"kernel", "kernel", ""}, {"none", "none", ""},
		{"", "", `unknown tracking "": want proxy, kernel or none`},
		{"Proxy", "", `unknown tracking "Proxy"`},
	} {
		v, err := forward.ParseWord[forward.Tracking]("tracking", tt.in)
		check(t, tt.in, v.String(), tt.want, err, tt.wrong)
	}
	for _, tt := range []struct{ in, want, wrong string }{
		{"auto", "auto", ""}, {"kernel", "kernel", ""}, {"relay", "relay", ""},
		{"", "", `unknown data "": want auto, kernel or relay`},
		{"proxy", "", `unknown data "proxy": want auto, kernel or relay`},
	} {
		v, err := forward.ParseWord[forward.DataPath]("data", tt.in)
		check(t, tt.in, v.String(), tt.want, err, tt.wrong)
	}
	for _, tt := range []struct{ in, want, wrong string }{
		{"client", "client", ""}, {"passive", "passive", ""},
		{"", "", `unknown server_mode "": want client or passive`},
		{"active", "", `unknown server_mode "active": want client or passive`},
	} {
		v, err := forward.ParseWord[forward.ServerMode]("server_mode", tt.in)
		check(t, tt.in, v.String(), tt.want, err, tt.wrong)
	}
	var f forward.Forward
	if got := fmt.Sprint(f.Tracking, f.Data, f.ServerMode); got != "proxy auto client" {
		t.Errorf("got %q of a forward that says nothing; want %q", got, "proxy auto client")
	}
	if got := fmt.Sprint(forward.Tracking(3), forward.DataPath(3),
		forward.ServerMode(2)); got != "Tracking(3) DataPath(3) ServerMode(2)" {
		t.Errorf("got %q for values that have no word", got)
	}
}

func TestParseAdvertise(t *testing.T) {
	for _, tt := range []struct{ in, want, wrong string }{
		{"198.51.100.7", "198.51.100.7", ""},
		{"::ffff:198.51.100.7", "198.51.100.7", ""},
		{"gate.example.net", "gate.example.net", ""},
		{"10.0.0.0/8=10.0.0.1", "10.0.0.0/8=10.0.0.1", ""},
		{"10.0.0.7=gate", "10.0.0.7/32=gate", ""},
		{"0.0.0.0/0=198.51.100.7", "0.0.0.0/0=198.51.100.7", ""},
		{"::ffff:10.0.0.0/104=10.0.0.1", "10.0.0.0/8=10.0.0.1", ""},
		{"", "", "want ADDR or PREFIX=ADDR"},
		{"=198.51.100.7", "", "want an address or a prefix"},
		{"10.0.0.0/8=", "", "want ADDR or PREFIX=ADDR"},
		{"10.0.0.0/8=a=b", "", "want ADDR or PREFIX=ADDR"},
		{"198.51.100.7:21", "", "want ADDR or PREFIX=ADDR"},
		{"198.51.100.256", "", "want ADDR or PREFIX=ADDR"},
		{"198.51.100.7, 10.0.0.1", "", "want ADDR or PREFIX=ADDR"},
		{"10.0.0.1/8=10.0.0.1", "", "want 10.0.0.0/8"},
		{"lan=10.0.0.1", "", "want an address or a prefix"},
		{"2001:db8::7", "", "no room for an IPv6 address"},
		{"fe80::1%lan0", "", "no room for an IPv6 address"},
		{"2001:db8::/32=198.51.100.7", "", "clients with IPv6 never get an address"},
		{"::/0=198.51.100.7", "", "clients with IPv6 never get an address"},
		{"0.0.0.0", "", "cannot be a gateway's address"},
		{"10.0.0.0/8=224.0.0.1", "", "cannot be a gateway's address"},
	} {
		a, err := forward.ParseAdvertise(tt.in)
		check(t, tt.in, a.String(), tt.want, err, tt.wrong)
		if err != nil {
			if a != (forward.Advertise{}) {
				t.Errorf("%q: got %+v beside an error; want nothing", tt.in, a)
			}
			continue
		}
		if again, err := forward.ParseAdvertise(a.String()); err != nil || again != a {
			t.Errorf("%q: got %+v, error %v when read again; want %+v", tt.in, again, err, a)
		}
	}
}

func TestAdvertisedTo(t *testing.T) {
	var none netip.Addr
	advert := func(clients, addr string) forward.Advertised {
		a := forward.Advertised{}
		if clients != "" {
			a.Clients = netip.MustParsePrefix(clients)
		}
		if addr != "" {
			a.Addr = netip.MustParseAddr(addr)
		}
		return a
	}
	general, wide, narrow := advert("", "198.51.100.7"), advert("10.0.0.0/8", "10.0.0.1"),
		advert("10.1.0.0/16", "10.1.0.1")
	all := advert("0.0.0.0/0", "198.51.100.8")
	for _, tt := range []struct {
		name       string
		advertised []forward.Advertised
		client     string
		want       netip.Addr
	}{
		{"nothing", nil, "10.1.2.3", none},
		{"not for this one", []forward.Advertised{wide, narrow}, "192.0.2.1", none},
		{"default", []forward.Advertised{wide, general}, "192.0.2.1", general.Addr},
		{"prefix before default", []forward.Advertised{general, wide}, "10.2.3.4", wide.Addr},
		{"longest of two", []forward.Advertised{wide, narrow, general}, "10.1.2.3", narrow.Addr},
		{"longest of two, given first", []forward.Advertised{narrow, wide}, "10.1.2.3", narrow.Addr},
		{"the prefix of all before the default", []forward.Advertised{general, all}, "192.0.2.1",
			all.Addr},
		{"a name without an address", []forward.Advertised{general, advert("10.0.0.0/8", "")}, "10.2.3.4",
			none},
	} {
		r := forward.Resolved{Advertised: tt.advertised}
		if got := r.AdvertisedTo(netip.MustParseAddr(tt.client)); got != tt.want {
			t.Errorf("%s: got %s for %s; want %s", tt.name, got, tt.client, tt.want)
		}
	}
}

func TestLimitsOrDefault(t *testing.T) {
	d := forward.Limits{Dial: forward.DefaultDialTime, Login: forward.DefaultLoginTime,
		Idle:     forward.DefaultIdleTime,
		Sessions: forward.DefaultSessions, PerClient: forward.DefaultPerClient,
		IPv6Prefix: forward.DefaultIPv6Prefix, LoginFailures: forward.DefaultLoginFailures}
	if got := (forward.Limits{}).OrDefault(); got != d {
		t.Errorf("got %+v; want the defaults, %+v", got, d)
	}
	all := forward.Limits{Dial: 1, Login: 2, Idle: 3, Sessions: 4, PerClient: 5, IPv6Prefix: 6,
		LoginFailures: 7}
	if got := all.OrDefault(); got != all {
		t.Errorf("got %+v; want %+v as given", got, all)
	}
	want := d
	want.Idle, want.PerClient = time.Hour, 7
	if got := (forward.Limits{Idle: time.Hour, PerClient: 7}).OrDefault(); got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

func TestDataPorts(t *testing.T) {
	if got := (forward.Forward{}).DataPorts(); got != (forward.PortRange{First: 49152, Last: 65535}) {
		t.Errorf("got %s; want 49152-65535", got)
	}
	given := forward.PortRange{First: 50000, Last: 50000}
	if got := (forward.Forward{PassivePorts: given}).DataPorts(); got != given {
		t.Errorf("got %s; want %s", got, given)
	}
}

// TestShuffled: every port of a range comes once.
func TestShuffled(t *testing.T) {
	for _, r := range []forward.PortRange{
		{}, {First: 50000, Last: 50000}, {First: 50000, Last: 50001}, {First: 50000, Last: 50006},
		{First: 65535, Last: 65535},
		{First: 65533, Last: 65535}, forward.DefaultPassivePorts, forward.AllPorts, {First: 0, Last: 2},
		{First: 3, Last: 2},
	} {
		var want []uint16
		for port := max(int(r.First), 1); port <= int(r.Last); port++ {
			want = append(want, uint16(port))
		}
		got := slices.Sorted(r.Shuffled())
		if !slices.Equal(got, want) {
			t.Errorf("%d-%d: got %d ports; want each of %d once", r.First, r.Last, len(got), len(want))
		}
	}
}

// TestShuffledOrder: the order differs each time. Two orders of 16,384 ports are the same once in 16384!
// runs.
func TestShuffledOrder(t *testing.T) {
	r := forward.DefaultPassivePorts
	first, second := slices.Collect(r.Shuffled()), slices.Collect(r.Shuffled())
	if slices.Equal(first, second) {
		t.Error("got the same order twice")
	}
	if slices.IsSorted(first) {
		t.Error("got the ports in their own order")
	}
}

// TestShuffledEvenly: each port is equally likely to be the first. In 4,000 runs with 4 ports the count of
// each is about 1,000, and further from it than 300 once in 10^27.
func TestShuffledEvenly(t *testing.T) {
	count := map[uint16]int{}
	r := forward.PortRange{First: 65532, Last: 65535}
	for range 4000 {
		for port := range r.Shuffled() {
			count[port]++
			break
		}
	}
	for port := r.First; port >= r.First; port++ { // up to the overflow
		if n := count[port]; n < 700 || n > 1300 {
			t.Errorf("got port %d first %d times of 4000; want about 1000", port, n)
		}
	}
}

func TestCanReach(t *testing.T) {
	server := netip.MustParseAddr("2001:db8::21")
	for s, want := range map[string]bool{
		"a 192.0.2.1:21 x": true, "a 192.0.2.1:21 x kernel": false, "a 192.0.2.1:21 x none 50000": false,
		"a :21 x kernel": true, "a [2001:db8::1]:21 x none 50000": true,
	} {
		if got := parseForward(t, s).CanReach(server); got != want {
			t.Errorf("%s: got %t for %s; want %t", s, got, server, want)
		}
	}
}

// BenchmarkShuffled takes the first port, as each data connection does.
func BenchmarkShuffled(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		for range forward.DefaultPassivePorts.Shuffled() {
			break
		}
	}
}
