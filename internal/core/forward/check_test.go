package forward_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
)

// parseForward reads "NAME LISTEN SERVER [TRACKING [PORTS [CLIENT...]]] [KEY=VALUE...]"; "-" for PORTS is
// none.
func parseForward(t *testing.T, s string) forward.Forward {
	t.Helper()
	w := strings.Fields(s)
	f := forward.Forward{Name: w[0], Listen: listen(t, w[1])}
	for i := len(w) - 1; strings.Contains(w[i], "="); i-- {
		key, value, _ := strings.Cut(w[i], "=")
		give(t, &f, key, value)
		w = w[:i]
	}
	var err error
	if f.Server, err = forward.ParseServer(w[2]); err != nil {
		t.Fatal(err)
	}
	if len(w) > 3 {
		if f.Tracking, err = forward.ParseWord[forward.Tracking]("tracking", w[3]); err != nil {
			t.Fatal(err)
		}
	}
	if len(w) > 4 && w[4] != "-" {
		if f.ServerPorts, err = forward.ParsePortRange(w[4]); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range w[min(5, len(w)):] {
		f.Clients = append(f.Clients, netip.MustParsePrefix(c))
	}
	return f
}

// give sets a key of a proxy.
func give(t *testing.T, f *forward.Forward, key, value string) {
	t.Helper()
	var err error
	switch key {
	case "data":
		f.Data, err = forward.ParseWord[forward.DataPath]("data", value)
	case "passive_ports":
		f.PassivePorts, err = forward.ParsePortRange(value)
	case "server_mode":
		f.ServerMode, err = forward.ParseWord[forward.ServerMode]("server_mode", value)
	case "advertise":
		for s := range strings.SplitSeq(value, ",") {
			var a forward.Advertise
			a, err = forward.ParseAdvertise(s)
			f.Advertise = append(f.Advertise, a)
		}
	default:
		giveTLS(t, f, key, value)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// checkTest is forwards for parseForward, and their faults.
type checkTest struct {
	name     string
	forwards []string
	want     []string // "INDEX KEY start of the text"
}

func TestCheck(t *testing.T) { runCheck(t, checkTests) }

var checkTests = []checkTest{
	{"sound", []string{
		"a 192.0.2.1:21 203.0.113.1", "b 192.0.2.1:2121 203.0.113.1", "c [2001:db8::1]:21 2001:db8::21",
		"d :2222 ftp.example.com kernel", "e 192.0.2.2:21 203.0.113.2 none 50000-50100",
		"f 192.0.2.3:21 203.0.113.2 none all 10.0.0.0/8",
		"g 192.0.2.3:2121 203.0.113.2 kernel", "h 192.0.2.4:21 2001:db8::21 proxy",
		"i [2001:db8::2]:21 203.0.113.2 proxy data=auto",
		"j 192.0.2.2:2121 203.0.113.3 proxy passive_ports=1024-49999",
		"k 192.0.2.2:2122 203.0.113.3 proxy passive_ports=1024-49999",
		"l 192.0.2.2:2123 203.0.113.3", // the ports of default leave 50000-50100 out
		"m 127.0.0.1:2121 127.0.0.1 proxy data=relay server_mode=passive", "n [::1]:2121 127.0.0.1",
		"o 192.0.2.5:21 203.0.113.2 proxy data=kernel",
		"p 192.0.2.6:2223 203.0.113.2 proxy data=kernel",
		"q 192.0.2.5:2121 203.0.113.2 proxy " +
			"advertise=198.51.100.7,10.0.0.0/8=a.example,10.0.0.0/16=198.51.100.8",
	}, nil},
	{"same name", []string{"a :21 203.0.113.1", "a :22 203.0.113.1"},
		[]string{`1 name name "a" is taken by forward 1`}},
	{"same listen", []string{"a 192.0.2.1:21 203.0.113.1", "b 192.0.2.1:21 203.0.113.2"},
		[]string{`1 listen listen 192.0.2.1:21 is taken by forward "a"`}},
	{"wildcard after", []string{"a 192.0.2.1:21 203.0.113.1", "b :21 203.0.113.2"},
		[]string{`1 listen listen :21 is taken by forward "a" (192.0.2.1:21)`}},
	{"wildcard before", []string{"a :21 203.0.113.1", "b 192.0.2.1:21 203.0.113.2"},
		[]string{`1 listen listen 192.0.2.1:21 is taken by forward "a" (:21)`}},
	{"family", []string{"a 192.0.2.1:21 2001:db8::21 kernel"},
		[]string{"0 server server 2001:db8::21 is IPv6 and listen 192.0.2.1:21 is IPv4"}},
	{"family without tracking", []string{"a [2001:db8::1]:21 203.0.113.1 none 50000"},
		[]string{"0 server server 203.0.113.1 is IPv4 and listen [2001:db8::1]:21 is " +
			"IPv6: tracking none"}},
	{"to itself", []string{"a 192.0.2.1:21 192.0.2.1:21"},
		[]string{"0 server the server is the forward itself"}},
	{"to another", []string{"a 192.0.2.1:21 203.0.113.1", "b 192.0.2.2:21 192.0.2.1:21"},
		[]string{`1 server the server is the listen address of forward "a"`}},
	{"to a later one", []string{"b 192.0.2.2:21 192.0.2.1:21", "a 192.0.2.1:21 203.0.113.1"},
		[]string{`0 server the server is the listen address of forward "a"`}},
	{"loopback", []string{"a 192.0.2.1:21 127.0.0.1"},
		[]string{"0 server server 127.0.0.1:21 is the gateway itself: to try ftpgate on one host, " +
			"listen on a loopback address too, like 127.0.0.1:21"}},
	{"loopback from everywhere", []string{"a :2121 ::1"},
		[]string{"0 server server [::1]:21 is the gateway itself: to try"}},
	{"loopback in the kernel", []string{"a 127.0.0.1:2121 127.0.0.1 kernel"},
		[]string{"0 server server 127.0.0.1:21 is the gateway itself"}},
	{"loopback to itself", []string{"a 127.0.0.1:21 127.0.0.1"},
		[]string{"0 server the server is the forward itself"}},
	{"client of the other family", []string{"a 192.0.2.1:21 203.0.113.1 kernel - 2001:db8::/32"},
		[]string{"0 clients client 2001:db8::/32 is IPv6 and can never reach listen 192.0.2.1:21"}},
	{"none without ports", []string{"a 192.0.2.1:21 203.0.113.1 none"},
		[]string{"0 server_ports tracking none needs"}},
	{"ports without none", []string{"a 192.0.2.1:21 203.0.113.1 kernel 50000-50100"},
		[]string{"0 server_ports server_ports is for tracking proxy and none; tracking kernel"}},
	{"all without clients", []string{"a 192.0.2.1:21 203.0.113.1 none all"},
		[]string{`0 server_ports server_ports "all" takes over every port`}},
	{"listen within own ports", []string{"a 192.0.2.1:50050 203.0.113.1 none 50000-50100"},
		[]string{"0 server_ports listen port 50050 lies within"}},
	{"listen within another's ports", []string{"a 192.0.2.1:50050 203.0.113.1",
		"b 192.0.2.1:21 203.0.113.1 none 50000-50100"},
		[]string{`0 listen listen 192.0.2.1:50050 lies within the server_ports ` +
			`50000-50100 of forward "b"`}},
	{"ports overlap", []string{"a 192.0.2.1:21 203.0.113.1 none 50000-50100",
		"b :2121 203.0.113.2 none 50100-50200"},
		[]string{`1 server_ports server_ports 50100-50200 overlap 50000-50100 of forward "a"`}},
	{"several at once", []string{"a 192.0.2.1:21 2001:db8::1 kernel", "a 192.0.2.1:21 127.0.0.1"},
		[]string{"0 server server", "1 server server 127", `1 name name "a"`,
			"1 listen listen 192.0.2.1:21"}},
}

// TestCheckProxy: the faults of what only a proxy has.
func TestCheckProxy(t *testing.T) {
	runCheck(t, []checkTest{
		{"data kernel between the families", []string{"a 192.0.2.1:21 2001:db8::21 proxy data=kernel"},
			[]string{"0 data server 2001:db8::21 is IPv6 and listen 192.0.2.1:21 is " +
				"IPv4: the kernel cannot"}},
		{"data kernel between the families, the other way",
			[]string{"a [2001:db8::1]:21 203.0.113.1 proxy data=kernel"},
			[]string{"0 data server 203.0.113.1 is IPv4 and listen [2001:db8::1]:21 is " +
				"IPv6: the kernel cannot"}},
		{"data kernel with a passive server", []string{"a :21 203.0.113.1 proxy data=kernel " +
			"server_mode=passive"},
			[]string{"0 data server_mode passive joins active clients by the relay"}},
		{"data kernel on loopback", []string{"a 127.0.0.1:2121 127.0.0.1 proxy data=kernel"},
			[]string{"0 data listen 127.0.0.1:2121: the kernel translates nothing on loopback"}},
		{"all passive ports", []string{"a :21 203.0.113.1 proxy passive_ports=all"},
			[]string{"0 passive_ports passive_ports all: the ports below 1024"}},
		{"first passive port too low", []string{"a :21 203.0.113.1 proxy passive_ports=1023-2000"},
			[]string{"0 passive_ports passive_ports 1023-2000: the ports below 1024"}},
		{"every passive port too low", []string{"a :21 203.0.113.1 proxy passive_ports=20-30"},
			[]string{"0 passive_ports passive_ports 20-30: the ports below 1024"}},
		{"the listen port is the only passive port", []string{"a :2121 203.0.113.1 proxy passive_ports=2121"},
			[]string{"0 passive_ports passive_ports 2121 is only the port of listen"}},
		{"the listen port is one of two passive ports",
			[]string{"a :2121 203.0.113.1 proxy passive_ports=2121-2122"}, nil},
		{"passive ports overlap server_ports of one before",
			[]string{"a 192.0.2.1:21 203.0.113.1 none 50000-50100",
				"b 192.0.2.1:2121 203.0.113.2 proxy passive_ports=50100-50200"},
			[]string{`1 passive_ports passive_ports 50100-50200 overlap the server_ports 50000-50100 of ` +
				`forward "a"`}},
		{"passive ports overlap server_ports of one behind, at every address",
			[]string{"b :2121 203.0.113.2 proxy passive_ports=50100-50200",
				"a 192.0.2.1:21 203.0.113.1 none 50000-50100"},
			[]string{`0 passive_ports passive_ports 50100-50200 overlap the server_ports 50000-50100 of ` +
				`forward "a"`}},
		{"passive ports and server_ports at two addresses",
			[]string{"a 192.0.2.1:21 203.0.113.1 none 50000-50100",
				"b 192.0.2.2:2121 203.0.113.2 proxy passive_ports=50000-50100"}, nil},
		{"passive ports of a forward without a proxy overlap nothing",
			[]string{"a 192.0.2.1:21 203.0.113.1 none 50000-50100",
				"b 192.0.2.1:2121 203.0.113.2 kernel passive_ports=50000-50100"}, nil},
		{"listen of a proxy within another's ports",
			[]string{"a 192.0.2.1:50050 203.0.113.1 proxy", "b 192.0.2.1:21 203.0.113.1 none 50000-50100"},
			[]string{`0 listen listen 192.0.2.1:50050 lies within the server_ports ` +
				`50000-50100 of forward "b"`}},
		{"a proxy within all ports of another", []string{"a :2121 203.0.113.1",
			"b 192.0.2.1:21 203.0.113.1 none all 10.0.0.0/8"},
			[]string{`0 listen listen :2121 lies within the server_ports "all" of forward "b", whose ` +
				`clients could not reach the proxy`}},
		{"advertise twice to all clients", []string{"a :21 203.0.113.1 proxy " +
			"advertise=198.51.100.7,10.0.0.1=198.51.100.8,b.example"},
			[]string{"0 advertise advertise has two addresses for all clients, 198.51.100.7 and b.example"}},
		{"advertise twice to some", []string{"a :21 203.0.113.1 proxy " +
			"advertise=198.51.100.7,10.0.0.0/8=a.example,10.0.0.0/8=b.example"},
			[]string{"0 advertise advertise has two addresses for clients 10.0.0.0/8: " +
				"a.example and b.example"}},
		{"advertise to no client", []string{"a [2001:db8::1]:21 203.0.113.1 proxy advertise=198.51.100.7"},
			[]string{"0 advertise listen [2001:db8::1]:21 is IPv6"}},
		{"advertise at every address", []string{"a :21 203.0.113.1 proxy advertise=198.51.100.7"}, nil},
	})
}

func runCheck(t *testing.T, tests []checkTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var forwards []forward.Forward
			for _, s := range tt.forwards {
				forwards = append(forwards, parseForward(t, s))
			}
			var got []string
			for i, faults := range forward.Check(forwards) {
				for _, f := range faults {
					got = append(got, fmt.Sprintf("%d %s %s", i, f.Key, f.Text))
				}
			}
			for i, want := range tt.want {
				if i >= len(got) {
					break
				}
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("got %q; want %q", got[i], want)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("got %d faults %q; want %d", len(got), got, len(tt.want))
			}
		})
	}
}

// TestCheckInterfacesApart: two interfaces make one listen address two.
func TestCheckInterfacesApart(t *testing.T) {
	a, b := parseForward(t, "a :21 203.0.113.1"), parseForward(t, "b :21 203.0.113.2")
	a.Listen.Interface, b.Listen.Interface = "lan0", "lan1"
	if got := forward.Check([]forward.Forward{a, b}); len(got) > 0 {
		t.Errorf("got %v; want no faults", got)
	}
}

func BenchmarkCheck10000(b *testing.B) {
	forwards := make([]forward.Forward, 10000)
	addr := netip.MustParseAddr("10.0.0.1")
	for i := range forwards {
		forwards[i] = forward.Forward{Name: addr.String(), Listen: forward.Listen{Addr: addr, Port: 21},
			Server: forward.Server{Host: "203.0.113.1", Port: 21}}
		addr = addr.Next()
	}
	for b.Loop() {
		if faults := forward.Check(forwards); len(faults) > 0 {
			b.Fatal(faults)
		}
	}
}
