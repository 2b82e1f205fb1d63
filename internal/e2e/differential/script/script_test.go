package script

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	const text = `# about
limit row relay C got "504
limit other S control ends

C send PORT {hostport}
S expect PORT
C data2 write 10
S data end
S pause 31s

C signal there
S wait there
S dial port 20
S listen other
C dial
`
	p, err := Parse("name", text)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.String(); got != text {
		t.Errorf("got %q; want %q", got, text)
	}
	if got, want := p.Size(), 10; got != want {
		t.Errorf("got %d steps; want %d", got, want)
	}
	if got, want := len(p.Steps(Client)), 4; got != want {
		t.Errorf("got %d steps of the client; want %d", got, want)
	}
	if got, want := p.Pauses(), 31*time.Second; got != want {
		t.Errorf("got pauses of %s; want %s", got, want)
	}
	limit := Limit{Row: "row", Paths: "relay", Side: Client, Text: `got "504`}
	if got := p.Limits[0]; got != limit {
		t.Errorf("got %+v; want %+v", got, limit)
	}
}

// Limits are written as they are read.
func TestParseLimits(t *testing.T) {
	for text, want := range map[string]Limit{
		"limit row C hangs":       {Row: "row", Side: Client, Text: "hangs"},
		"limit row may S no line": {Row: "row", May: true, Side: Server, Text: "no line"},
		"limit row may kernel S may not": {Row: "row", May: true, Paths: "kernel", Side: Server,
			Text: "may not"},
		"limit may relay S kernel and more": {Row: "may", Paths: "relay", Side: Server,
			Text: "kernel and more"},
	} {
		p, err := Parse("name", text+"\n\nC send NOOP\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Limits[0]; got != want || got.String() != text {
			t.Errorf("%s: got %+v, %q; want %+v", text, got, got, want)
		}
	}
}

func TestParseFragments(t *testing.T) {
	p, err := Parse("name", "do say NOOP => 200 ok\ndo quit\n")
	if err != nil {
		t.Fatal(err)
	}
	const want = "C send NOOP\nS expect NOOP\nS send 200 ok\nC expect 200 ok\nC send QUIT\n"
	if got := p.String(); !strings.HasPrefix(got, want) {
		t.Errorf("got %q; want %q in front", got, want)
	}
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]string{
		"X send a":                 `name:1: "X send a": want C or S in front`,
		"\nC sing a":               `name:2: "C sing a": no such verb`,
		"C data sing":              `no such verb`,
		"C dataX end":              `want the number of a data connection`,
		"C data0 end":              `want the number of a data connection`,
		"C data write x":           `invalid syntax`,
		"C data write -1":          `data write does not take "-1"`,
		"C end now":                `end does not take "now"`,
		"C dial port 21":           `dial does not take "port 21"`,
		"C listen there":           `listen does not take "there"`,
		"C signal":                 `signal does not take ""`,
		"C wait for":               `neither side signals "for"`,
		"C pause long":             `invalid duration`,
		`C send \q`:                `what is \q`,
		`C send a\`:                `a backslash at the end`,
		"do what":                  `no fragment "what"`,
		"do say NOOP":              `want COMMAND => REPLY`,
		"limit row":                `want ROW [may] [kernel|relay] C|S TEXT`,
		"limit row direct C got a": `want ROW [may] [kernel|relay] C|S TEXT`,
	} {
		if _, err := Parse("name", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v; want %q in it", text, err, want)
		}
	}
}

func TestExpand(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("192.168.5.1:51210"), netip.MustParseAddrPort("[2001:db8::1]:51210")
	for _, tt := range []struct {
		text string
		own  netip.AddrPort
		want string // writes, with | between them
	}{
		{"NOOP", v4, "NOOP"},
		{`a\r\n\t\\\x00\xff`, v4, "a\r\n\t\\\x00\xff"},
		{`22\|0 a\|`, v4, "22|0 a|"},
		{"PORT {hostport}", v4, "PORT 192,168,5,1,200,10"},
		{"{zeros}", v4, "192,168,005,001,200,010"},
		{"{blanks}", v4, "192, 168, 5, 1, 200, 10"},
		{"{p1}.{p2} {port} {address}", v4, "200.10 51210 192.168.5.1"},
		{"{eprt}", v4, "[1[192.168.5.1[51210["},
		{"{eprt}", v6, "[2[2001:db8::1[51210["},
		{"{what} {", v4, "{what} {"},
	} {
		writes, err := Expand(tt.text, tt.own)
		var all []string
		for _, w := range writes {
			all = append(all, strings.ReplaceAll(string(w), "|", "["))
		}
		if got := strings.Join(all, "|"); err != nil || got != tt.want {
			t.Errorf("%q: got %q, error %v; want %q", tt.text, got, err, tt.want)
		}
	}
}

// TestQuote wants bytes back.
func TestQuote(t *testing.T) {
	const raw = "a\r\n\t\\ \x00\xff|"
	got, err := Flat(Quote([]byte(raw)), netip.AddrPort{})
	if err != nil || string(got) != raw {
		t.Errorf("got %q, error %v; want %q", got, err, raw)
	}
}

// TestShrink wants the steps that a failure needs, and a session that is still one.
func TestShrink(t *testing.T) {
	p, err := Parse("name", `do greet

do say NOOP => 200 ok

C data write 1
do say PWD => 257 ok
S data read 1

C signal x

S wait x
C data end
`)
	if err != nil {
		t.Fatal(err)
	}
	small := Shrink(p, func(p Pair) bool {
		text := p.String()
		return strings.Contains(text, "S expect PWD") && strings.Contains(text, "S wait x")
	})
	const want = "S send 220 ready\nC expect 220\n\n" +
		"C send PWD\nS expect PWD\nS send 257 ok\nC expect 257 ok\n\nC signal x\n\nS wait x\n"
	if got := small.String(); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}
