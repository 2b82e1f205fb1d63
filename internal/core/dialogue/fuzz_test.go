package dialogue

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// FuzzDialogue has both sides hostile at once, and the data path fail as it likes. Its input is a script as
// in testdata/dialogues: C, S and + lines count, all others are left out.
func FuzzDialogue(f *testing.F) {
	for _, s := range scripts(f) {
		var in []string
		for _, l := range s.lines {
			if kind, rest, _ := strings.Cut(l, " "); kind == "C" || kind == "S" || kind == "+" {
				if q, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`); err == nil {
					in = append(in, kind+" "+q)
				}
			}
		}
		f.Add(strings.TrimSpace(s.ends+" "+s.tls), s.config.ServerMode == forward.ServerModePassive,
			[]byte(strings.Join(in, "\n")))
	}
	f.Fuzz(func(t *testing.T, family string, passive bool, text []byte) {
		family, words, _ := strings.Cut(family, " ")
		e, ok := addresses[family]
		if !ok {
			e = addresses["4"]
		}
		config := Config{LoginFailures: 5}
		for w := range strings.FieldsSeq(words) {
			if set := tlsWords[w]; set != nil {
				set(&config)
			}
		}
		if passive {
			config.ServerMode = forward.ServerModePassive
		}
		h := &harness{t: t, ends: e, passive: passive, d: newParsed(e, config)}
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			if len(line) < 2 || bytes.IndexByte(line, 0) >= 0 { // the line reader refuses a NUL
				continue
			}
			kind, rest := line[0], bytes.TrimSuffix(line[2:], []byte("\r"))
			switch {
			case kind == 'C' && h.d.accepts(string(rest)):
				h.client(rest)
			case kind == 'S':
				h.server(rest)
			case kind == '+' && string(rest) == "hello":
				h.take(h.d.ClientHello(), nil)
			case kind == '+':
				h.failing = !h.failing
			}
			if h.ended {
				return
			}
		}
	})
}

// harness does what a session does with steps, and holds them to the laws.
type harness struct {
	t       *testing.T
	ends    Addresses
	passive bool
	d       *parsed
	open    int
	failing bool // the next effect fails
	ended   bool
}

func (h *harness) client(line []byte) {
	h.take(h.d.client(string(line)), line)
}

func (h *harness) server(line []byte) {
	h.take(h.d.server(string(line)), nil)
}

// take does a step's effects and looks at its lines. What goes to the server is the client's line, or a
// command that negotiates.
func (h *harness) take(s Step, line []byte) {
	h.t.Helper()
	failed := h.failing
	switch s.Action {
	case Open:
		h.pinhole(s.Pinhole)
		h.open = 1
		if failed {
			s, h.open = h.d.Failed("", ""), 0
			break
		}
		if s = h.d.Opened(netip.AddrPortFrom(s.Pinhole.Listen.Addr(), 49_999)); s.Action == Arm && h.failing {
			s, h.open = h.d.Failed("", ""), 0
		}
	case Arm:
		if h.open != 1 {
			h.t.Fatalf("armed with %d pinholes", h.open)
		}
		if failed {
			s, h.open = h.d.Failed("", ""), 0
		}
	case Bridge:
		h.bridge(s.Bridge)
		h.open = 1
		if failed {
			s, h.open = h.d.Failed("", ""), 0
		}
	case Finish:
		h.open = 0
		if failed {
			s = h.d.Broken(426, "broken", "")
		}
	case Fail:
		h.open = 0
		if failed {
			s = h.d.Broken(522, "no TLS", "")
		}
	case Close:
		h.open = 0
	case OpenPassthrough:
		want := pinhole.Passthrough{From: h.ends.Client, Listen: h.ends.Gateway,
			Ports: h.d.config.Passive, Target: h.ends.Server, SourceIP: h.ends.Outside}
		if s.Passthrough != want {
			h.t.Fatalf("got passthrough %s; want %s", s.Passthrough, want)
		}
		fallthrough
	case PrepareTLS:
		if h.open = 0; failed {
			s = h.d.Failed("", "")
		}
	}
	h.law(s)
	h.sent(s, line)
	h.ended = s.End || s.Transition == Passthrough
}

// sent looks at what a step sends to either side.
func (h *harness) sent(s Step, line []byte) {
	h.t.Helper()
	h.lines("client", s.ToClient)
	for l := range bytes.SplitSeq(h.lines("server", s.ToServer), []byte("\r\n")) {
		verb, _, _ := strings.Cut(string(l), " ")
		switch verb {
		case "", "PASV", "EPSV", "PORT", "EPRT":
		default:
			if line == nil || !bytes.HasSuffix(line, l) {
				h.t.Fatalf("the server is sent %q, which the client has not sent", l)
			}
		}
	}
	if n := len(h.d.pending); n > 2 {
		h.t.Fatalf("%d commands are under way", n)
	}
	if s.Refusal.Kind != NotRefused && s.Refusal.Reason == "" || len(s.Refusal.Reason) > 200 {
		h.t.Fatalf("refused %s for reason %q", s.Refusal.Kind, s.Refusal.Reason)
	}
}

// law holds a step to what was promised about encryption.
func (h *harness) law(s Step) {
	h.t.Helper()
	config, p := h.d.config, h.d.protection
	switch {
	case s.Transition == Encrypt && (!p.encrypted || config.TLS.Client == forward.ClientTLSOff),
		s.Transition == Decrypt && p.encrypted,
		s.Transition == Passthrough && config.Passive.IsEmpty(),
		p.private && !p.began, p.encrypted && !p.began:
		h.t.Fatalf("got transition %d with %+v", s.Transition, p)
	}
	if config.TLS.Client != forward.ClientTLSRequired || p.encrypted {
		return
	}
	for l := range bytes.SplitSeq(s.ToServer, []byte("\r\n")) {
		if verb, _, _ := strings.Cut(string(l), " "); verb == "USER" || verb == "PASS" || verb == "ACCT" {
			h.t.Fatalf("the server is sent %q, which came in clear", l)
		}
	}
	if s.Action == Open && !s.Pinhole.TLS.Client || s.Action == Bridge && !s.Bridge.TLS.Client {
		h.t.Fatal("a data connection is in clear")
	}
}

// lines expects whole lines, and returns them. To the client, answers to Telnet options may stand before.
func (h *harness) lines(to string, text []byte) []byte {
	h.t.Helper()
	rest := text
	for to == "client" && len(rest) > 2 && rest[0] == 255 && (rest[1] == 254 || rest[1] == 252) {
		rest = rest[3:]
	}
	if len(rest) > 0 && !bytes.HasSuffix(rest, []byte("\r\n")) {
		h.t.Fatalf("the %s is sent half a line: %q", to, text)
	}
	if bare := bytes.ReplaceAll(rest, []byte("\r\n"), nil); bytes.ContainsAny(bare, "\r\n\x00") {
		h.t.Fatalf("the %s is sent a bare CR, LF or NUL: %q", to, text)
	}
	if to == "server" && bytes.Count(rest, []byte("\n")) > 1 {
		h.t.Fatalf("the server is sent several lines: %q", text)
	}
	return rest
}

func (h *harness) pinhole(p pinhole.Pinhole) {
	h.t.Helper()
	e := h.ends
	passive := p.From == e.Client && p.Listen == netip.AddrPortFrom(e.Gateway, 0) &&
		p.Target.Addr() == e.Server && p.SourceIP == e.Outside
	active := p.From == e.Server && p.Listen == netip.AddrPortFrom(e.Outside, 0) &&
		p.Target.Addr() == e.Client && p.SourceIP == e.Gateway
	if !passive && (!active || h.passive) || p.Target.Port() < forward.LowestDataPort || !h.d.loggedIn {
		h.t.Fatalf("got pinhole %s, logged in %t", p, h.d.loggedIn)
	}
}

func (h *harness) bridge(b pinhole.Bridge) {
	h.t.Helper()
	e := h.ends
	if !h.passive || b.Client.SourceIP != e.Gateway || b.Client.Target.Addr() != e.Client ||
		b.Server.SourceIP != e.Outside || b.Server.Target.Addr() != e.Server ||
		min(b.Client.Target.Port(), b.Server.Target.Port()) < forward.LowestDataPort {
		h.t.Fatalf("got bridge %v", b)
	}
}
