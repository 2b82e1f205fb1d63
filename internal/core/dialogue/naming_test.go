package dialogue

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

func TestParseUser(t *testing.T) {
	for arg, want := range map[string]string{
		"demo":                               "demo|:0|",
		"demo@ftp.example.com":               "demo|ftp.example.com:21|",
		"demo@FTP.example.com.":              "demo|ftp.example.com:21|",
		"demo@ftp.example.com:2121":          "demo|ftp.example.com:2121|",
		"demo@ftp.example.com 2121":          "demo|ftp.example.com:2121|",
		"demo@ftp.example.com fw":            "demo|ftp.example.com:21|fw",
		"demo@ftp.example.com  fw ":          "demo|ftp.example.com:21|fw",
		"demo@ftp.example.com 65536":         "demo|ftp.example.com:21|65536",
		"joe@example.com@ftp.example.com":    "joe@example.com|ftp.example.com:21|",
		"demo@203.0.113.21":                  "demo|203.0.113.21:21|",
		"demo@[2001:db8::21]":                "demo|[2001:db8::21]:21|",
		"demo@[2001:db8::21]:990":            "demo|[2001:db8::21]:990|",
		"demo@2001:db8::21":                  "demo|[2001:db8::21]:21|",
		"demo@[::ffff:10.0.0.1]":             "demo|10.0.0.1:21|",
		"demo@nas":                           "demo|nas:21|",
		"John Doe@ftp.example.com":           "John Doe|ftp.example.com:21|",
		"@ftp.example.com":                   errNoUser.Error(),
		"demo@":                              errNoServer.Error(),
		"demo@:21":                           errNoServer.Error(),
		"demo@ftp.example.com:":              errNoServer.Error(),
		"demo@ftp.example.com:21x":           errNoServer.Error(),
		"demo@ftp..example.com":              errNoServer.Error(),
		"demo@ftp.example.com..":             errNoServer.Error(),
		"demo@ftp.example.com/etc":           errNoServer.Error(),
		"demo@2130706433":                    errNoServer.Error(),
		"demo@0x7f000001":                    errNoServer.Error(),
		"demo@0x7f.0.0.1":                    errNoServer.Error(),
		"demo@127.1":                         errNoServer.Error(),
		"demo@127.0.0.0x1":                   errNoServer.Error(),
		"demo@0177.0.0.1":                    errNoServer.Error(),
		"demo@127.0.0.1.":                    errNoServer.Error(),
		"demo@0.0.0.0":                       errNoServer.Error(),
		"demo@224.0.0.1":                     errNoServer.Error(),
		"demo@[fe80::1%eth0]":                errNoServer.Error(),
		"demo@[::1":                          errNoServer.Error(),
		"demo@a b@c_d.example":               "demo@a b|c_d.example:21|",
		"demo@\xff\xfbftp.example.com":       errNoServer.Error(),
		"demo@ftp\xe3\x80\x82example.com":    errNoServer.Error(), // a full stop of Unicode
		"demo@" + strings.Repeat("a.", 127):  errNoServer.Error(),
		"demo@" + strings.Repeat("a", 16000): errNoServer.Error(),
	} {
		got, err := parseUser([]byte(arg))
		server := ":" + strconv.Itoa(int(got.server.Port))
		if got.server.Host != "" {
			server = got.server.String()
		}
		text := got.user + "|" + server + "|" + got.proxyUser
		if err != nil {
			text = err.Error()
		}
		if text != want {
			t.Errorf("%.60q: got %q; want %q", arg, text, want)
		}
	}
}

// FuzzNamed has a client name servers as it likes. What it names can be dialled, and means the same when it
// is written again.
func FuzzNamed(f *testing.F) {
	for _, arg := range []string{"a@b", "a@b:1", "a@b c", "a@b 2", "a@[::1]:3", "a@c@d", "b 21",
		"[::1] 21", "\xff@"} {
		f.Add([]byte(arg))
	}
	f.Fuzz(func(t *testing.T, arg []byte) {
		named, err := parseUser(arg)
		if err == nil && named.server.Host != "" {
			again, err := parseUser([]byte(named.user + "@" + named.server.String()))
			if err != nil || again.server != named.server {
				t.Fatalf("%q: %+v; again %+v, error %v", arg, named, again, err)
			}
			if named.user == "" {
				t.Fatalf("%q names no user", arg)
			}
			soundServer(t, named.server)
		}
		if to, err := parseTarget(arg); err == nil {
			soundServer(t, to)
		}
	})
}

// soundServer expects an address without a zone, or a name that no resolver takes for an address.
func soundServer(t *testing.T, s forward.Server) {
	t.Helper()
	if s.Port == 0 {
		t.Fatalf("%+v has no port", s)
	}
	if addr, is := s.Addr(); is {
		if addr.Zone() != "" || addr.Is4In6() || addr.IsUnspecified() || addr.IsMulticast() {
			t.Fatalf("got address %s", addr)
		}
		return
	}
	last := s.Host[strings.LastIndexByte(s.Host, '.')+1:]
	if len(s.Host) > 253 || last == "" || last[0] >= '0' && last[0] <= '9' ||
		strings.Trim(s.Host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		t.Fatalf("got name %q", s.Host)
	}
}

// FuzzNaming has client and servers hostile at once, while the client names servers. Its input is a script as
// in testdata/dialogues.
func FuzzNaming(f *testing.F) {
	for _, s := range scripts(f) {
		if !s.config.Named {
			continue
		}
		var in []string
		for _, l := range s.lines {
			if kind, _, _ := strings.Cut(l, " "); kind == "C" || kind == "S" || kind == "+" {
				in = append(in, l)
			}
		}
		f.Add(s.config.Account.User, s.tls, []byte(strings.Join(in, "\n")))
	}
	f.Fuzz(func(t *testing.T, account, words string, text []byte) {
		config := Config{LoginFailures: 5, Named: true, Account: Account{User: account, Password: "sesame"}}
		for w := range strings.FieldsSeq(words) {
			if set := tlsWords[w]; set != nil {
				set(&config)
			}
		}
		h := &namingHarness{t: t, d: newParsed(addresses["4"], config)}
		h.take(h.d.Greet())
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			if len(line) < 2 || bytes.IndexByte(line, 0) >= 0 || h.ended {
				continue
			}
			kind, rest := line[0], string(bytes.TrimSuffix(line[2:], []byte("\r")))
			switch {
			case kind == 'C' && h.d.accepts(rest):
				h.take(h.d.client(rest))
			case kind == 'S' && h.connected:
				h.take(h.d.server(rest))
			case kind == '+':
				h.unreachable = !h.unreachable
			}
		}
	})
}

type namingHarness struct {
	t                             *testing.T
	d                             *parsed
	dials                         int
	connected, unreachable, ended bool
}

// take carries out a step, and holds it to what was promised: nothing is sent to a server that is not
// connected, lines are whole, and the number of servers is bounded.
func (h *namingHarness) take(s Step) {
	h.t.Helper()
	switch s.Action {
	case Dial:
		if h.dials++; h.dials > maxDials || len(s.ToServer)+len(s.ToClient) > 0 {
			h.t.Fatalf("dial %d, with %q and %q", h.dials, s.ToServer, s.ToClient)
		}
		soundServer(h.t, *s.Server)
		if h.connected = !h.unreachable; h.connected {
			s = h.step("+", "dialled")
		} else {
			s = h.step("+", "unreachable")
		}
	case Open:
		if !h.d.loggedIn {
			h.t.Fatal("a data connection before the login")
		}
		s = h.step("+", "192.168.5.2:49999")
	}
	switch {
	case h.connected != h.d.HasServer():
		h.t.Fatalf("connected %t; the dialogue has a server: %t", h.connected, h.d.HasServer())
	case !h.connected && (len(s.ToServer) > 0 || h.d.AwaitsReply() || h.d.LoggedIn()):
		h.t.Fatalf("without a server, it is sent %q", s.ToServer)
	case s.Refusal.Kind != verdict.NotRefused && (s.Refusal.Reason == "" || len(s.Refusal.Reason) > 400):
		h.t.Fatalf("refused for reason %q", s.Refusal.Reason)
	}
	for _, lines := range [][]byte{s.ToClient, s.ToServer} {
		if i := bytes.LastIndexByte(lines, 255); i >= 0 { // Telnet
			continue
		}
		whole := len(lines) == 0 || bytes.HasSuffix(lines, []byte("\r\n"))
		if !whole || bytes.ContainsAny(bytes.ReplaceAll(lines, []byte("\r\n"), nil), "\r\n\x00") {
			h.t.Fatalf("sent %q", lines)
		}
	}
	h.ended = s.End || s.Transition == Passthrough
}

func (h *namingHarness) step(kind, rest string) Step { return input(h.t, h.d, kind, rest) }
