package dialogue

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
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
	kept    []byte // lines of the server that are held back
	failing bool   // the next action fails
	ended   bool

	inTransfer bool // before the step
}

func (h *harness) client(line []byte) {
	h.t.Helper()
	h.take(h.d.client(string(line)), line)
}

// server has the server send a line. It reaches the client as it is, once and in order, unless a rule takes
// it away or changes it.
func (h *harness) server(line []byte) {
	h.t.Helper()
	var answered request
	in := h.d.replies.Code() != 0 // within a reply
	if r := h.d.queue.answering(); in && r != nil {
		answered = *r
	}
	l := h.d.replies.Next(line, ftp.EndCRLF, false)
	if l.First {
		probe := h.d.queue
		probe.requests = slices.Clone(probe.requests)
		if probe.begin(l.Code); probe.answering() != nil {
			answered = *probe.answering()
		}
	}
	s := h.d.Reply(l)
	unasked := l.Code != 0 && answered.verb == "" && answered.number == 0
	ruled := s.End && s.Refusal.Kind != verdict.NotRefused || Negotiates(answered.verb) ||
		answered.verb == "FEAT" ||
		l.Code == 227 || l.Code == 229
	if want := appendLine(h.kept, l); unasked && l.Code != 421 {
		if !ruled && len(s.ToClient) > 0 {
			h.t.Fatalf("the client is sent %q, which was not asked for", s.ToClient)
		}
	} else if !ruled && !bytes.Equal(s.ToClient, want) {
		if h.kept = want; len(s.ToClient) > 0 || !answered.transfer || l.Last {
			h.t.Fatalf("the client is sent %q; want %q", s.ToClient, want)
		}
	} else {
		h.kept = nil
	}
	h.take(s, nil)
}

// announced expects that a port is announced only where a pinhole is open, and only that port.
func (h *harness) announced(s Step) {
	h.t.Helper()
	if s.Action == Arm && h.d.last.code/100 == 2 && bytes.HasPrefix(s.ToClient, []byte("22")) {
		port, err := ftp.Port227(s.ToClient[4:])
		if s.ToClient[2] == '9' {
			port, err = ftp.Parse229(s.ToClient[4:])
		}
		if err != nil || port != openedPort || h.open != 1 {
			h.t.Fatalf("announced %q with %d pinholes", s.ToClient, h.open)
		}
	}
	if verb, arg, _ := strings.Cut(strings.TrimSpace(string(s.ToServer)), " "); arg != "" &&
		(verb == "PORT" || verb == "EPRT") {
		parse := ftp.ParseHostPort
		if verb == "EPRT" {
			parse = ftp.ParseEPRT
		}
		at, err := parse([]byte(arg))
		if err != nil || at != netip.AddrPortFrom(h.ends.Outside, openedPort) || h.open != 1 {
			h.t.Fatalf("the server is sent %q with %d pinholes", s.ToServer, h.open)
		}
	}
}

// openedPort is where pinholes are.
const openedPort = 49_999

// take applies a step's effects and checks its lines. What goes to the server is the client's line, or a
// command that negotiates.
func (h *harness) take(s Step, line []byte) {
	h.t.Helper()
	failed := h.failing
	switch s.Action {
	case Open:
		h.pinhole(*s.Pinhole)
		h.open = 1
		if failed {
			s, h.open = h.d.Failed("", ""), 0
			break
		}
		if s = h.d.Opened(netip.AddrPortFrom(s.Pinhole.Listen.Addr(), openedPort)); s.Action == Arm &&
			h.failing {
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
		h.bridge(*s.Bridge)
		h.open = 1
		if failed {
			s, h.open = h.d.Failed("", ""), 0
		}
	case Use, Decline:
		if h.open != 1 {
			h.t.Fatalf("used or left for the next transfer: %d pinholes", h.open)
		}
		if failed && s.Action == Decline {
			s, h.open = h.d.Broken(pinhole.Failure{ReplyCode: 426, Reason: "broken"}), 0
		}
	case Finish, Complete, Fail:
		if h.open = 0; failed {
			s = h.d.Broken(pinhole.Failure{ReplyCode: 426, Reason: "broken"})
		}
	case Close:
		h.open = 0
	case OpenPassthrough:
		want := pinhole.Passthrough{From: h.ends.Client, Listen: h.ends.Gateway,
			Ports: h.d.config.Passive, Target: h.ends.Server, SourceIP: h.ends.Outside}
		if *s.Passthrough != want {
			h.t.Fatalf("got passthrough %s; want %s", s.Passthrough, want)
		}
		fallthrough
	case PrepareTLS:
		if h.open = 0; failed {
			s = h.d.Failed("", "")
		}
	}
	h.law(s)
	h.announced(s)
	h.sent(s, line)
	h.ended = s.End || s.Transition == Passthrough
}

// sent checks the lines that a step sends to either side, and the commands under way.
func (h *harness) sent(s Step, line []byte) {
	h.t.Helper()
	toClient := s.ToClient
	for line != nil && len(toClient) > 2 && toClient[0] == 255 { // answers to Telnet options
		toClient = toClient[3:]
	}
	h.lines("client", toClient)
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
	if began := h.d.InTransfer() && !h.inTransfer; s.TransferBegan != began {
		h.t.Fatalf("got TransferBegan %v; want %v", s.TransferBegan, began)
	}
	h.inTransfer = h.d.InTransfer()
	if n := len(h.d.queue.requests); n > maxOutstanding {
		h.t.Fatalf("%d commands are under way", n)
	}
	if s.Refusal.Kind != verdict.NotRefused && s.Refusal.Reason == "" || len(s.Refusal.Reason) > 200 {
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
		p.private && !p.usedTLS, p.encrypted && !p.usedTLS:
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

// lines expects whole lines, and returns them.
func (h *harness) lines(to string, text []byte) []byte {
	h.t.Helper()
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\r\n")) {
		h.t.Fatalf("the %s is sent half a line: %q", to, text)
	}
	if bare := bytes.ReplaceAll(text, []byte("\r\n"), nil); bytes.ContainsAny(bare, "\r\n\x00") {
		h.t.Fatalf("the %s is sent a bare CR, LF or NUL: %q", to, text)
	}
	if to == "server" && bytes.Count(text, []byte("\n")) > 1 {
		h.t.Fatalf("the server is sent several lines: %q", text)
	}
	return text
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
