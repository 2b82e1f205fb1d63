package servercheck

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
)

const (
	theUser     = "kim"
	thePassword = "s3cret-of-kim"
	theListing  = "-rw-r--r-- 1 ftp ftp 5 Jan 1 00:00 hello.txt\r\n"
	// generous is for what never takes long unless something is wrong.
	generous = 10 * time.Second
	// brief is for servers that are silent on purpose.
	brief = time.Second
)

// peer is a server in the hands of a test: a sound one, of which each command can be answered otherwise.
type peer struct {
	greeting string
	answer   answers        // in place of a sound one\'s
	banner   func(net.Conn) // in place of everything
	tls      *tls.Config    // nil: AUTH is not known
	data     *tls.Config    // of data connections; nil: as tls
	implicit bool
	named    netip.Addr // in the 227; not valid: its own
	from     netip.Addr // of active connections; not valid: its own
	closed   bool       // passive ports
	rude     bool       // data in TLS ends without close_notify

	listener net.Listener
	mu       sync.Mutex
	heard    []string
	sessions sync.WaitGroup
}

// addrOf is a TCP address.
func addrOf(a net.Addr) netip.AddrPort {
	at := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// answers are a peer's own replies by verb; "" is for none.
type answers map[string]func(*client, string) string

// client is one session with a peer.
type client struct {
	*peer
	conn    net.Conn
	lines   *bufio.Reader
	passive net.Listener
	active  netip.AddrPort
	private bool
}

// start has the peer serve until the test ends, and returns a forward to it.
func (p *peer) start(t *testing.T) forward.Resolved {
	t.Helper()
	return p.startAt(t, "127.0.0.1:0")
}

// startAt is start at an address.
func (p *peer) startAt(t *testing.T, addr string) forward.Resolved {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p.listener = l
	p.sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.sessions.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.sessions.Wait()
	})
	at := addrOf(l.Addr())
	return forward.Resolved{
		Forward: forward.Forward{Name: "test", Server: forward.Server{Host: "localhost", Port: at.Port()}},
		Servers: []netip.Addr{at.Addr()},
	}
}

func (p *peer) serve(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(3 * generous))
	if p.banner != nil {
		p.banner(conn)
		return
	}
	if p.implicit {
		conn = tls.Server(conn, p.tls)
	}
	c := &client{peer: p, conn: conn, lines: bufio.NewReader(conn)}
	defer c.drop()
	greeting := p.greeting
	if greeting == "" {
		greeting = "220 ready"
	}
	c.say(greeting)
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return
		}
		command, err := ftp.ParseCommand([]byte(strings.TrimRight(line, "\r\n")))
		if err != nil {
			c.say("500 what?")
			continue
		}
		p.mu.Lock()
		p.heard = append(p.heard, strings.TrimRight(line, "\r\n"))
		p.mu.Unlock()
		reply := c.obey
		if own := p.answer[command.Verb]; own != nil {
			reply = func(_, arg string) string { return own(c, arg) }
		}
		c.say(reply(command.Verb, string(command.Arg)))
		if command.Verb == "QUIT" {
			return
		}
	}
}

func (c *client) say(reply string) {
	if reply != "" {
		io.WriteString(c.conn, reply+"\r\n")
	}
}

func (c *client) drop() {
	if c.passive != nil {
		c.passive.Close()
	}
	c.passive, c.active = nil, netip.AddrPort{}
}

// obey is what a sound server does.
func (c *client) obey(verb, arg string) string {
	switch verb {
	case "USER":
		return "331 password please"
	case "PASS":
		return "230 welcome"
	case "FEAT":
		if c.tls != nil {
			return "211-Features:\r\n AUTH TLS\r\n EPSV\r\n211 End"
		}
		return "211-Features:\r\n EPSV\r\n211 End"
	case "AUTH":
		return c.auth()
	case "PBSZ", "PROT":
		c.private = verb == "PROT" && arg == "P"
		return "200 fine"
	case "PASV", "EPSV":
		return c.listen(verb)
	case "PORT":
		c.drop()
		c.active, _ = ftp.ParseHostPort([]byte(arg))
		return "200 fine"
	case "EPRT":
		c.drop()
		c.active, _ = ftp.ParseEPRT([]byte(arg))
		return "200 fine"
	case "LIST":
		return c.list()
	case "QUIT":
		return "221 bye"
	}
	return "502 not here"
}

func (c *client) auth() string {
	if c.tls == nil {
		return "502 no AUTH"
	}
	c.say("234 go on")
	c.conn = tls.Server(c.conn, c.tls)
	c.lines.Reset(c.conn)
	return ""
}

func (c *client) listen(verb string) string {
	c.drop()
	own := addrOf(c.conn.LocalAddr()).Addr()
	l, err := net.Listen("tcp", netip.AddrPortFrom(own, 0).String())
	if err != nil {
		return "421 " + err.Error()
	}
	c.passive = l
	at := addrOf(l.Addr())
	if c.closed {
		l.Close()
	}
	if verb == "EPSV" {
		return "229 " + string(ftp.Append229(nil, at.Port()))
	}
	if c.named.IsValid() {
		own = c.named
	}
	return "227 " + string(ftp.Append227(nil, netip.AddrPortFrom(own, at.Port())))
}

// connect brings up the data connection that was negotiated.
func (c *client) connect() (net.Conn, error) {
	if c.passive != nil {
		c.passive.(*net.TCPListener).SetDeadline(time.Now().Add(generous))
		return c.passive.Accept()
	}
	d := net.Dialer{Timeout: generous}
	if c.from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.from, 0))
	}
	return d.Dial("tcp", c.active.String())
}

func (c *client) list() string {
	c.say("150 here it comes")
	conn, err := c.connect()
	if err != nil {
		return "425 no data connection"
	}
	defer conn.Close()
	defer c.drop()
	conn.SetDeadline(time.Now().Add(generous))
	if !c.private {
		if _, err := io.WriteString(conn, theListing); err != nil {
			return "426 broken"
		}
		return "226 done"
	}
	config := c.data
	if config == nil {
		config = c.tls
	}
	secure := tls.Server(conn, config)
	if err := secure.Handshake(); err != nil {
		return "522 SSL connection failed; session reuse required: see require_ssl_reuse option"
	}
	if _, err := io.WriteString(secure, theListing); err != nil {
		return "426 broken"
	}
	if !c.rude {
		secure.Close()
	}
	return "226 done"
}

// commands returns what the peer has heard.
func (p *peer) commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

// always answers with one reply.
func always(reply string) func(*client, string) string {
	return func(*client, string) string { return reply }
}

// options are those of most tests.
func options() Options {
	return Options{User: theUser, Password: thePassword, Active: true,
		Timeouts: Timeouts{Dial: generous, Reply: generous, Data: generous, Whole: 6 * generous}}
}

// impatient are those for servers that are silent.
func impatient() Options {
	o := options()
	o.Timeouts.Reply, o.Timeouts.Data = brief, brief
	return o
}

// run tries a server, and checks what must be true of every check.
func run(t *testing.T, f forward.Resolved, o Options) []finding.Finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*generous)
	defer cancel()
	found := Run(ctx, f, o)
	if len(found) == 0 {
		t.Fatal("got no finding")
	}
	for _, f := range found {
		sane(t, f)
	}
	if t.Failed() {
		t.Log(format(found))
	}
	return found
}

// quoted is what a server has said in a finding.
var quoted = regexp.MustCompile(`"[^"]*"`)

// sane checks what must be true of every finding.
func sane(t *testing.T, f finding.Finding) {
	t.Helper()
	for _, text := range []string{f.Text, f.Remedy} {
		if strings.Contains(text, thePassword) {
			t.Errorf("%s: the password is in %q", f.Code, text)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) ||
			strings.HasSuffix(text, ".") || len(text) > 500 ||
			strings.Contains(quoted.ReplaceAllString(text, ""), "%!") {
			t.Errorf("%s: %q is no sentence for a terminal", f.Code, text)
		}
	}
	if (f.Severity == finding.Warning || f.Severity == finding.Fault) && f.Remedy == "" {
		t.Errorf("%s: no remedy for %q", f.Code, f.Text)
	}
	if f.Text == "" || f.Code == "" || f.Severity > finding.OK {
		t.Errorf("got %+v", f)
	}
}

// format writes findings for a log.
func format(found []finding.Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "\n%-8s %-22s %s\n%32s%s", f.Severity, f.Code, f.Text, "", f.Remedy)
	}
	return b.String()
}

// wanted is a finding that must be there.
type wanted struct {
	code  string
	level finding.Severity
	text  string // is in the text
}

// expect wants findings, and no other that is graver than Info.
func expect(t *testing.T, found []finding.Finding, want ...wanted) {
	t.Helper()
	met := map[int]bool{}
	for _, w := range want {
		i := slices.IndexFunc(found, func(f finding.Finding) bool {
			return f.Code == w.code && f.Severity == w.level && strings.Contains(f.Text, w.text)
		})
		if i < 0 {
			t.Errorf("got no %s %s with %q", w.level, w.code, w.text)
		}
		met[i] = true
	}
	for i, f := range found {
		if !met[i] && (f.Severity == finding.Warning || f.Severity == finding.Fault) {
			t.Errorf("got %s %s: %s", f.Severity, f.Code, f.Text)
		}
	}
	if t.Failed() {
		t.Log(format(found))
	}
}
