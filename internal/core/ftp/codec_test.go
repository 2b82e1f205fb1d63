package ftp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

var hostPortTests = []struct{ in, want string }{
	{"192,168,5,1,195,80", "192.168.5.1:50000"},
	{"0,0,0,0,0,1", "0.0.0.0:1"},
	{"255,255,255,255,255,255", "255.255.255.255:65535"},
	{"10,0,0,1,4,0", "10.0.0.1:1024"},
}

// looseHostPorts are other spellings, which servers take.
var looseHostPorts = []struct{ in, want string }{
	{"010,000,000,001,195,080", "10.0.0.1:50000"},
	{"1,2,3,4,5,0006", "1.2.3.4:1286"},
	{"10, 0, 0, 1, 195, 80", "10.0.0.1:50000"},
	{" 10,0,0,1,195,  80", "10.0.0.1:50000"},
}

// badHostPorts are arguments that other parsers accept or fail on.
var badHostPorts = []struct{ in, want string }{
	{"", "want six numbers with commas between them"},
	{"1,2,3,4,5", "want six numbers with commas between them"},
	{"1,2,3,4,5,", "want six numbers with commas between them"},
	{"1,2,3,4,,6", "want six numbers with commas between them"},
	{",1,2,3,4,5,6", "want six numbers with commas between them"},
	{"1,2,3,4,5,6,", "more than six numbers"},
	{"1,2,3,4,5,6,7", "more than six numbers"},
	{"1,2,3,4,5,6 ", "more than six numbers"}, // after it the kernel's helper is stuck
	{"1 ,2,3,4,5,6", "want six numbers with commas between them"},
	{"1,\t2,3,4,5,6", "want six numbers with commas between them"},
	{"+1,2,3,4,5,6", "want six numbers with commas between them"}, // strconv.Atoi accepts it
	{"-1,2,3,4,5,6", "want six numbers with commas between them"},
	{"1,2,3,4,5,-6", "want six numbers with commas between them"},
	{"0x1,2,3,4,5,6", "want six numbers with commas between them"},
	{"1_0,2,3,4,5,6", "want six numbers with commas between them"},
	{"1.2.3.4,5,6", "want six numbers with commas between them"},
	{"1,2,3,4,5,6\r", "more than six numbers"},
	{"١,2,3,4,5,6", "want six numbers with commas between them"}, // a digit, but not an ASCII one
	{"(1,2,3,4,5,6)", "want six numbers with commas between them"},
	{"256,2,3,4,5,6", "a number is above 255"},
	{"1,2,3,4,0,999", "a number is above 255"},        // read as port 999 by lax parsers
	{"4294967297,2,3,4,5,6", "a number is above 255"}, // wraps to 1 in 32 bits
	{"99999999999999999999,2,3,4,5,6", "a number is above 255"},
	{"00000000001,2,3,4,5,6", "want six numbers with commas between them"}, // eleven digits
	{"1,2,3,4,0,0", "port 0"},
	{"1,2,3,4,00,00", "port 0"},
}

func TestParseHostPort(t *testing.T) {
	for _, tt := range hostPortTests {
		got, err := ParseHostPort([]byte(tt.in))
		if err != nil || got.String() != tt.want {
			t.Errorf("%q: got %v, %v; want %s", tt.in, got, err, tt.want)
		}
		if text := string(AppendHostPort([]byte("PORT "), got)); text != "PORT "+tt.in {
			t.Errorf("%v: got %q; want %q", got, text, "PORT "+tt.in)
		}
	}
	for _, tt := range looseHostPorts {
		if got, err := ParseHostPort([]byte(tt.in)); err != nil || got.String() != tt.want {
			t.Errorf("%q: got %v, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, tt := range badHostPorts {
		got, err := ParseHostPort([]byte(tt.in))
		checkError(t, tt.in, got, err, tt.want)
	}
}

// checkError checks for a zero value and an error that ends with want and quotes the input.
func checkError[T comparable](t *testing.T, in string, got T, err error, want string) {
	t.Helper()
	var zero T
	if err == nil || got != zero || !strings.HasSuffix(err.Error(), ": "+want) ||
		len(in) < 60 && !strings.Contains(err.Error(), quote(in)) {
		t.Errorf("%q: got %v, %v; want an error that quotes it: %s", in, got, err, want)
	}
}

// All known spellings of a 227, and texts that only resemble one.
var texts227 = []struct{ in, want string }{
	{"Entering Passive Mode (192,168,5,2,195,80)", "192.168.5.2:50000"},
	{"Entering Passive Mode (192,168,5,2,195,80).", "192.168.5.2:50000"},
	{"Entering Passive Mode 192,168,5,2,195,80", "192.168.5.2:50000"},
	{"Entering Passive Mode. 192,168,5,2,195,80.", "192.168.5.2:50000"},
	{"=192,168,5,2,195,80", "192.168.5.2:50000"},
	{"192,168,5,2,195,80", "192.168.5.2:50000"},
	{"Entering Passive Mode [192,168,5,2,195,80]", "192.168.5.2:50000"},
	{"ok, node7 (10,0,0,1,4,1)", "10.0.0.1:1025"}, // the first digit is not part of the address
	{"ftp2.example.com (10,0,0,1,4,1)", "10.0.0.1:1025"},
	{"(0,0,0,0,4,1)", "0.0.0.0:1025"},              // printers
	{"(010,000,000,001,004,001)", "10.0.0.1:1025"}, // padded with zeros
	{"(1,2,3,4,5,6) (7,8,9,10,11,12)", "1.2.3.4:1286"},
	{"(1,2,3,4,0,0) (7,8,9,10,11,12)", "7.8.9.10:2828"},
	{"Entr\xe9e (10,0,0,1,4,1)", "10.0.0.1:1025"},
}

var bad227 = []struct{ in, want string }{
	{"", "no address and port in it"},
	{"no thanks", "no address and port in it"},
	{"Entering Passive Mode (1,2,3,4,5)", "no address and port in it"},
	{"Entering Passive Mode (1,2,3,4,5,6,7)",
		"no address and port in it"}, // six of seven are not the address
	{"Entering Passive Mode (1,2,3,4,5,256)", "no address and port in it"},
	{"Entering Passive Mode (1,2,3,4,5,6666)", "no address and port in it"},
	{"Entering Passive Mode (256,2,3,4,5,6,7)", "no address and port in it"},
	{"Entering Passive Mode (-1,2,3,4,5,6)", "no address and port in it"},
	{"Entering Passive Mode (1, 2, 3, 4, 5, 6)", "no address and port in it"},
	{"Entering Extended Passive Mode (|||50000|)", "no address and port in it"},
	{"Entering Passive Mode (10,0,0,1,0,0)", "port 0"},
}

func TestParse227(t *testing.T) {
	for _, tt := range texts227 {
		if got, err := Parse227([]byte(tt.in)); err != nil || got.String() != tt.want {
			t.Errorf("%q: got %v, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, tt := range bad227 {
		got, err := Parse227([]byte(tt.in))
		checkError(t, tt.in, got, err, tt.want)
	}
	for in, want := range map[string]uint16{
		"(10,0,0,1,4,1)":            1025,
		"(300,0,0,1,4,1)":           1025,
		"(4294967297,999,0,1,4,1).": 1025,
		"(1,2,3,4,5,256)":           0,
		"(300,0,0,1,0,0)":           0,
		"(256,2,3,4,5,6,7)":         0,
	} {
		if got, err := Port227([]byte(in)); got != want || (err == nil) != (want != 0) {
			t.Errorf("Port227 of %q: got %d, %v; want %d", in, got, err, want)
		}
	}
	text := string(Append227(nil, netip.MustParseAddrPort("192.168.5.2:50000")))
	if got, want := text, texts227[0].in; got != want {
		t.Errorf("Append227: got %q; want %q", got, want)
	}
}

// Only the numbers of a server's line are other ones, where no client can read others in it.
var rewritten227 = []struct{ in, want string }{ // want is empty: not this line
	{"Entering Passive Mode (10,0,0,1,4,1)", "Entering Passive Mode (192,168,5,2,195,80)"},
	{"Entering Passive Mode (010,000,000,001,004,001).", "Entering Passive Mode (192,168,5,2,195,80)."},
	{"Passive. 10,0,0,1,4,1.", "Passive. 192,168,5,2,195,80."},
	{"=10,0,0,1,4,1", "=192,168,5,2,195,80"},
	{"[300,0,0,1,4,1] here", "[192,168,5,2,195,80] here"},
	{"10,0,0,1,4,1", "192,168,5,2,195,80"},
	{"=1,2,3,4,5,6 (10,0,0,1,4,5)", ""},
	{"(10,0,0,1,4,1) (1,2,3,4,5,6)", ""},
	{"(10,0,0,1,4,1) or port 21", ""},
	{"node7 (10,0,0,1,4,1)", ""},
	{"(for you) (10,0,0,1,4,1)", ""}, // some read only the first parentheses
	{"(=10,0,0,1,4,1)", ""},
	{"(10,0,0,1,4,1", ""},
	{"\u0661,\u0662 (10,0,0,1,4,1)", ""}, // digits of Arabic
	{"Entr\xe9e (10,0,0,1,4,1)", ""},
	{"a\rb (10,0,0,1,4,1)", ""},
	{"|||21| (10,0,0,1,4,1)", ""},
	{"(1,2,3,4,5)", ""},
	{"here", ""},
}

func TestRewrite227(t *testing.T) {
	at := netip.MustParseAddrPort("192.168.5.2:50000")
	for _, tt := range rewritten227 {
		got, ok := Rewrite227([]byte("227 "), []byte(tt.in), at)
		if string(got) != "227 "+tt.want || ok != (tt.want != "") {
			t.Errorf("%q: got %q, %t; want %q", tt.in, got, ok, "227 "+tt.want)
		}
	}
}

var rewritten229 = []struct{ in, want string }{
	{"Entering Passive Mode (|||6446|)", "Entering Passive Mode (|||50000|)"},
	{"ok (|||06446|).", "ok (|||50000|)."},
	{"(|||1000000|)", "(|||50000|)"},
	{"(|||0|)", "(|||50000|)"},
	{"(!!!6446!)", ""},
	{"(ext) (|||6446|)", ""},
	{"(|||6446|) (|||22|)", ""},
	{"(|||x|)", ""},
	{"(||||)", ""},
	{"mode 2 (|||6446|)", ""},
	{"|||22| (|||6446|)", ""},
	{"(|||6446|) 10,0,0,1,4,1", ""},
	{"(|||6446|)\xff\xf4", ""},
	{"here", ""},
}

func TestRewrite229(t *testing.T) {
	for _, tt := range rewritten229 {
		got, ok := Rewrite229([]byte("229 "), []byte(tt.in), 50_000)
		if string(got) != "229 "+tt.want || ok != (tt.want != "") {
			t.Errorf("%q: got %q, %t; want %q", tt.in, got, ok, "229 "+tt.want)
		}
	}
	got, ok := Rewrite229(nil, []byte("(|||1000000|)"), NoPort)
	if port, err := Parse229(got); !ok || err == nil {
		t.Errorf("got %q with port %d; want none", got, port)
	}
}

var goodEPRT = []struct{ in, want string }{
	{"|1|192.168.5.1|50000|", "192.168.5.1:50000"},
	{"|2|2001:db8::1|50000|", "[2001:db8::1]:50000"},
	{"|2|2001:DB8:0:0:0:0:0:1|1|", "[2001:db8::1]:1"},
	{"!1!10.0.0.1!65535!", "10.0.0.1:65535"},
	{"~2~::1~21~", "[::1]:21"},
	{".2.::1.21.", "[::1]:21"}, // a delimiter that occurs in IPv4 only
	{"x1x1.2.3.4x21x", "1.2.3.4:21"},
	{"9191.2.3.49219", "1.2.3.4:21"}, // a digit that occurs in no field
	{"|1|10.0.0.1|21", "10.0.0.1:21"},
	{"|1|10.0.0.1|00021|", "10.0.0.1:21"},
}

var badEPRT = []struct{ in, want string }{
	{"", "want a delimiter from ! to ~ first"},
	{" 1 10.0.0.1 21 ", "want a delimiter from ! to ~ first"},
	{"\x7f1\x7f10.0.0.1\x7f21\x7f", "want a delimiter from ! to ~ first"},
	{"\xff1\xff10.0.0.1\xff21\xff", "want a delimiter from ! to ~ first"},
	{"|1|", "want three fields with a delimiter around each"}, // some devices send no more
	{"|1|10.0.0.1", "want three fields with a delimiter around each"},
	{"|1|10.0.0.1|21||", "want three fields with a delimiter around each"},
	{"|1|10.0.0.1|21|x", "want three fields with a delimiter around each"},
	{"|1|10.0.0.1|21| ", "want three fields with a delimiter around each"},
	{" |1|10.0.0.1|21|", "want a delimiter from ! to ~ first"},
	{"||1|10.0.0.1|21|", "want three fields with a delimiter around each"},
	{"|1!10.0.0.1!21|", "want three fields with a delimiter around each"},
	{".1.10.0.0.1.21.", "want three fields with a delimiter around each"},
	{"||10.0.0.1|21|", "the family is not a number"},
	{"|IPv4|10.0.0.1|21|", "the family is not a number"},
	{"|+1|10.0.0.1|21|", "the family is not a number"},
	{"| 1|10.0.0.1|21|", "the family is not a number"},
	{"|0|10.0.0.1|21|", `unknown address family "0": want 1 (IPv4) or 2 (IPv6)`},
	{"|3|10.0.0.1|21|", `unknown address family "3": want 1 (IPv4) or 2 (IPv6)`},
	{"|01|10.0.0.1|21|", `unknown address family "01": want 1 (IPv4) or 2 (IPv6)`},
	{"|1|::1|21|", "the address is not of its family"},
	{"|2|10.0.0.1|21|", "the address is not of its family"},
	{"|1||21|", "the address is none"}, // some clients mean their own address
	{"|1|10.0.0.01|21|", "the address is none"},
	{"|1|10.0.0.256|21|", "the address is none"},
	{"|1|10.1|21|", "the address is none"},       // 10.0.0.1 to inet_aton
	{"|1|0x0a000001|21|", "the address is none"}, // and this too
	{"|1|ftp.example.com|21|", "the address is none"},
	{"|2|[::1]|21|", "the address is none"},
	{"|2|fe80::1%eth0|21|", "the address has a zone"},
	{"|2|::ffff:10.0.0.1|21|", "the address is IPv4 mapped to IPv6"},
	{"|1|::ffff:10.0.0.1|21|", "the address is IPv4 mapped to IPv6"},
	{"|1|10.0.0.1||", "the port is not a number from 1 to 65535"},
	{"|1|10.0.0.1|0|", "the port is not a number from 1 to 65535"},
	{"|1|10.0.0.1|65536|", "the port is not a number from 1 to 65535"},
	{"|1|10.0.0.1|65557|", "the port is not a number from 1 to 65535"}, // 21 in 16 bits
	{"|1|10.0.0.1|000|", "the port is not a number from 1 to 65535"},
	{"|1|10.0.0.1|+21|", "the port is not a number from 1 to 65535"},
	{"|1|10.0.0.1|2 1|", "the port is not a number from 1 to 65535"},
	{"|1|10.0.0.1|99999999999999999999|", "the port is not a number from 1 to 65535"},
	{"191110.0.0.11211",
		"want three fields with a delimiter around each"}, // the delimiter 1 occurs in the fields
}

func TestParseEPRT(t *testing.T) {
	for _, tt := range goodEPRT {
		if got, err := ParseEPRT([]byte(tt.in)); err != nil || got.String() != tt.want {
			t.Errorf("%q: got %v, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, tt := range badEPRT {
		got, err := ParseEPRT([]byte(tt.in))
		checkError(t, tt.in, got, err, tt.want)
		_, isFamily := errors.AsType[*FamilyError](err)
		if want := strings.HasPrefix(tt.want, "unknown address family"); isFamily != want {
			t.Errorf("%q: a *FamilyError: got %v; want %v", tt.in, isFamily, want)
		}
	}
	for in, want := range map[string]string{
		"192.168.5.1:50000":      "|1|192.168.5.1|50000|",
		"[2001:db8::1]:50000":    "|2|2001:db8::1|50000|",
		"[::ffff:10.0.0.1]:1025": "|1|10.0.0.1|1025|",
	} {
		if got := string(AppendEPRT(nil, netip.MustParseAddrPort(in))); got != want {
			t.Errorf("AppendEPRT %s: got %q; want %q", in, got, want)
		}
	}
}

func TestEPRTFamily(t *testing.T) {
	for in, want := range map[string]string{"|1|10.0.0.1|21|": "1", "|2|10.0.0.256|x": "2", "!37!!!": "37",
		"|1|10.0.0.1|": "1", "|2|::1": "", "|x|10.0.0.1|21|": "", "": ""} {
		if got, ok := EPRTFamily([]byte(in)); ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, ok, want)
		}
	}
}

var good229 = []struct {
	in   string
	want uint16
}{
	{"Entering Extended Passive Mode (|||6446|)", 6446},
	{"Entering Extended Passive Mode (|||6446|).", 6446},
	{"(!!!1!)", 1},
	{"(~~~65535~)", 65535},
	{"((((6446()", 6446},
	{"(really) (|||6446|)", 6446},
	{"(||6446|) (|||6447|)", 6447},
	{"(|||6446|) (|||6447|)", 6446},
	{"(99964469)", 6446}, // a digit that does not occur in the port
	{"(|||06446|)", 6446},
}

var bad229 = []struct{ in, want string }{
	{"", "no (|||port|) in it"},
	{"Entering Extended Passive Mode", "no (|||port|) in it"},
	{"Entering Extended Passive Mode |||6446|", "no (|||port|) in it"},
	{"(|||6446)", "no (|||port|) in it"},
	{"(|||6446|", "no (|||port|) in it"},
	{"(||6446|)", "no (|||port|) in it"},
	{"(||||6446|)", "no (|||port|) in it"},
	{"(|!|6446|)", "no (|||port|) in it"},
	{"(|1|10.0.0.1|6446|)", "no (|||port|) in it"}, // RFC 2428: the fields must be empty
	{"(   6446 )", "no (|||port|) in it"},
	{"(\x7f\x7f\x7f6446\x7f)", "no (|||port|) in it"},
	{"(|||0|)", "the port is not a number from 1 to 65535"},
	{"(|||65536|)", "the port is not a number from 1 to 65535"},
	{"(|||-1|)", "the port is not a number from 1 to 65535"},
	{"(|||00000|)", "the port is not a number from 1 to 65535"},
	{"(||| 6446|)", "the port is not a number from 1 to 65535"},
	{"(|||6446.|)", "the port is not a number from 1 to 65535"},
	{"(|||x|) (|||6446|)", "the port is not a number from 1 to 65535"}, // the first group is taken
}

func TestParse229(t *testing.T) {
	for _, tt := range good229 {
		if got, err := Parse229([]byte(tt.in)); err != nil || got != tt.want {
			t.Errorf("%q: got %v, %v; want %d", tt.in, got, err, tt.want)
		}
	}
	for _, tt := range bad229 {
		got, err := Parse229([]byte(tt.in))
		checkError(t, tt.in, got, err, tt.want)
	}
	if got, want := string(Append229(nil, 6446)), good229[0].in; got != want {
		t.Errorf("Append229: got %q; want %q", got, want)
	}
}

func TestParseEPSV(t *testing.T) {
	arguments := map[string]EPSV{"": EPSVAny, "1": EPSVIPv4, "2": EPSVIPv6, "ALL": EPSVAll, "all": EPSVAll}
	for in, want := range arguments {
		got, err := ParseEPSV([]byte(in))
		if err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", in, got, err, want)
		}
	}
	for _, tt := range []struct{ in, want string }{
		{"3", `unknown address family "3": want 1 (IPv4) or 2 (IPv6)`},
		{"0", `unknown address family "0": want 1 (IPv4) or 2 (IPv6)`},
		{"01", `unknown address family "01": want 1 (IPv4) or 2 (IPv6)`},
		{" 1", "want nothing, 1, 2 or ALL"},
		{"1 ", "want nothing, 1, 2 or ALL"},
		{"-1", "want nothing, 1, 2 or ALL"},
		{"ALLES", "want nothing, 1, 2 or ALL"},
	} {
		got, err := ParseEPSV([]byte(tt.in))
		checkError(t, tt.in, got, err, tt.want)
	}
}

// An address that cannot be written is the caller's bug.
func TestAppendPanics(t *testing.T) {
	for name, call := range map[string]func(){
		"AppendHostPort of IPv6": func() { AppendHostPort(nil, netip.MustParseAddrPort("[::1]:21")) },
		"Append227 of nothing":   func() { Append227(nil, netip.AddrPort{}) },
		"AppendEPRT of nothing":  func() { AppendEPRT(nil, netip.AddrPort{}) },
		"AppendEPRT with a zone": func() { AppendEPRT(nil, netip.MustParseAddrPort("[fe80::1%lo]:21")) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: got no panic", name)
				}
			}()
			call()
		}()
	}
}
