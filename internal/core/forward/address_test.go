package forward_test

import (
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
)

func TestParseListen(t *testing.T) {
	tests := []struct{ in, want, wrong string }{
		{"192.168.5.2:2121", "192.168.5.2:2121", ""},
		{"[2001:db8::1]:2121", "[2001:db8::1]:2121", ""},
		{":2121", ":2121", ""},
		{"2121", ":2121", ""},
		{"0.0.0.0:21", ":21", ""}, // every address, as it is meant
		{"[::]:21", ":21", ""},
		{"[::ffff:192.0.2.1]:21", "192.0.2.1:21", ""},
		{"", "", "empty"},
		{":", "", "no port after the colon"},
		{"192.168.5.2:", "", "no port after the colon"},
		{"192.168.5.2", "", "no port: want ADDR:PORT"},
		{":0", "", "port 0 is not between 1 and 65535"},
		{":65536", "", "not between 1 and 65535"},
		{":+21", "", "not a port number"},
		{":ftp", "", "not a port number"},
		{"gateway:21", "", `"gateway" is not an IP address`},
		{"256.1.1.1:21", "", "is not an IP address"},
		{"2001:db8::1:2121", "", "needs brackets"},
		{"[2001:db8::1]", "", "no port"},
		{"[2001:db8::1]2121", "", "want :PORT after the bracket"},
		{"[2001:db8::1:21", "", "the bracket is not closed"},
		{"[fe80::1%eth0]:21", "", "zone"},
		{"fe80::1%eth0:21", "", "needs brackets"},
		{":21,:2121", "", "a list: want one ADDR:PORT, and a forward for each"},
		{"ftp://:2121", "", "a URL: want only its host and port, like :2121"},
		{"‘:2121’", "", "these quotes are a word processor's"},
	}
	for _, tt := range tests {
		l, err := forward.ParseListen(tt.in)
		check(t, tt.in, l.String(), tt.want, err, tt.wrong)
	}
}

func TestParseServer(t *testing.T) {
	tests := []struct{ in, want, wrong string }{
		{"203.0.113.21:2100", "203.0.113.21:2100", ""},
		{"203.0.113.21", "203.0.113.21:21", ""},
		{"2001:db8::21", "[2001:db8::21]:21", ""},
		{"[2001:db8::21]", "[2001:db8::21]:21", ""},
		{"[2001:db8::21]:2100", "[2001:db8::21]:2100", ""},
		{"ftp.example.com", "ftp.example.com:21", ""},
		{"ftp.example.com.:990", "ftp.example.com.:990", ""},
		{"plc_7", "plc_7:21", ""},
		{"", "", "empty"},
		{":21", "", "neither an IP address nor a host name"},
		{"ftp.example.com:", "", "no port after the colon"},
		{"ftp.example.com:0", "", "not between"},
		{"203.0.113.256", "", "neither an IP address nor a host name"},
		{"0.0.0.0", "", "cannot be a server's address"},
		{"224.0.0.1", "", "cannot be a server's address"},
		{"-x.example", "", "neither"},
		{"a b", "", "a list"},
		{"ftp://example.com", "", "a URL: want only its host and port, like example.com"},
		{"ftp://anna:x@example.com:2100/pub/", "", "like example.com:2100"},
		{"ftp://", "", "like ftp.example.com:21"},
		{"a:1,b:2", "", "a list: want one HOST:PORT, and a forward for each server"},
		{"ftp.example.com:21:22", "", "more than one colon: want HOST:PORT"},
		{"“example.com”", "", "these quotes are a word processor's"},
		{"fe80::1%eth0", "", "zone"},
	}
	for _, tt := range tests {
		s, err := forward.ParseServer(tt.in)
		check(t, tt.in, s.String(), tt.want, err, tt.wrong)
	}
}

func TestParsePortRange(t *testing.T) {
	tests := []struct{ in, want, wrong string }{
		{"50000-50100", "50000-50100", ""},
		{"50000", "50000", ""},
		{"all", "all", ""},
		{"1-65535", "all", ""},
		{"50100-50000", "", "the first is above the last"},
		{"0-10", "", "not between"},
		{"50000-", "", "no port"},
		{"-1", "", "no port"},
		{"1-2-3", "", "not a port number"},
		{"50000:50100", "", "a range is written FIRST-LAST, like 50000-50100"},
		{"50000..50100", "", "a range is written FIRST-LAST"},
		{"50000–50100", "", "a range is written FIRST-LAST"},
		{"50000-50100,50200", "", "a list: want one range FIRST-LAST"},
	}
	for _, tt := range tests {
		r, err := forward.ParsePortRange(tt.in)
		check(t, tt.in, r.String(), tt.want, err, tt.wrong)
	}
}

func TestParseClient(t *testing.T) {
	tests := []struct{ in, want, wrong string }{
		{"192.168.5.0/24", "192.168.5.0/24", ""},
		{"192.168.5.1", "192.168.5.1/32", ""},
		{"2001:db8::/32", "2001:db8::/32", ""},
		{"::ffff:192.0.2.0/120", "192.0.2.0/24", ""},
		{"192.168.5.1/24", "", "want 192.168.5.0/24"},
		{"lan", "", "want an address or a prefix"},
	}
	for _, tt := range tests {
		p, err := forward.ParseClient(tt.in)
		check(t, tt.in, p.String(), tt.want, err, tt.wrong)
	}
}

func check(t *testing.T, in, got, want string, err error, wrong string) {
	t.Helper()
	switch {
	case wrong == "" && err != nil:
		t.Errorf("%q: got error %v; want %q", in, err, want)
	case wrong == "" && got != want:
		t.Errorf("%q: got %q; want %q", in, got, want)
	case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
		t.Errorf("%q: got error %v; want %q", in, err, wrong)
	}
}

func TestCheckInterface(t *testing.T) {
	for name, sound := range map[string]bool{
		"": false, "lan0": true, "eth0.100": true, "br-lan": true, "a23456789012345": true,
		"a234567890123456": false, "lan 0": false, "a/b": false, "lan\x00": false, `l"`: false,
		"eth0:1": false, ".": false, "lan*": false,
	} {
		if err := forward.CheckInterface(name); (err == nil) != sound {
			t.Errorf("%q: got error %v; want sound %t", name, err, sound)
		}
	}
}

func TestOverlaps(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{":21", "192.0.2.1:21", true},
		{"192.0.2.1:21", "192.0.2.1:21", true},
		{"192.0.2.1:21", "192.0.2.2:21", false},
		{":21", ":22", false},
		{":21", "[2001:db8::1]:21", true},
		{":21 lan0", ":21 lan1", false},
		{":21 lan0", ":21", true},
		{"192.0.2.1:21 lan0", ":21 lan0", true},
		{"192.0.2.1:21 lan0", "192.0.2.1:21 lan1", false},
	}
	for _, tt := range tests {
		a, b := listen(t, tt.a), listen(t, tt.b)
		if a.Overlaps(b) != tt.want || b.Overlaps(a) != tt.want {
			t.Errorf("%s and %s: got %t, %t; want %t", tt.a, tt.b, a.Overlaps(b), b.Overlaps(a), tt.want)
		}
	}
}

// listen reads "LISTEN" or "LISTEN INTERFACE".
func listen(t *testing.T, s string) forward.Listen {
	t.Helper()
	text, iface, _ := strings.Cut(s, " ")
	l, err := forward.ParseListen(text)
	if err != nil {
		t.Fatal(err)
	}
	l.Interface = iface
	return l
}
