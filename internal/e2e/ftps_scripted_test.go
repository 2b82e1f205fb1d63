package e2e

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
)

// shake does a TLS handshake on a control connection.
func (w *wire) shake(c *tls.Conn) {
	w.t.Helper()
	if err := c.Handshake(); err != nil {
		w.t.Fatalf("%s: handshake: %v", w.who, err)
	}
	w.Conn, w.lines = c, bufio.NewReader(c)
}

// refusedHandshake expects that the other end does not agree to one.
func refusedHandshake(t *testing.T, c *tls.Conn) error {
	t.Helper()
	err := c.Handshake()
	if err == nil { // in TLS 1.3 a client is done before it is looked at
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("got a session; want the handshake refused")
	}
	return err
}

// secureStage is a stage with an authority whose certificates both ends have.
type secureStage struct {
	*stage
	*authority
	t       *testing.T
	shown   keyPair // by the gateway
	trusted *tls.Config
}

// newTerminated runs a gateway that wants TLS of its clients, before a scripted server in clear.
func newTerminated(t *testing.T, flags ...string) *secureStage {
	t.Helper()
	a := newAuthority(t)
	s := &secureStage{authority: a, t: t, shown: a.gateway()}
	s.stage = newStage(t, append([]string{"--tls-client", "required", "--tls-cert", s.shown.cert, "--tls-key", s.shown.key}, flags...)...)
	s.trusted = a.trust(gatewayName)
	return s
}

// greeted begins a session that is in clear.
func (s *secureStage) greeted() pair {
	s.t.Helper()
	p := s.connect()
	p.server.say("220 ready")
	p.client.hear("220")
	return p
}

// encrypted is greeted with TLS, by a client's own configuration.
func (s *secureStage) encrypted(config *tls.Config) pair {
	s.t.Helper()
	p := s.greeted()
	p.client.say("AUTH TLS")
	p.client.hear("234")
	p.client.shake(tls.Client(p.client.Conn, config))
	return p
}

// private is encrypted with a login, and PROT P.
func (s *secureStage) private(config *tls.Config) pair {
	s.t.Helper()
	p := s.encrypted(config)
	p.loginPrivate()
	return p
}

// loginPrivate logs in and asks for data connections with TLS.
func (p pair) loginPrivate() {
	p.t.Helper()
	p.ask("USER somebody", "331 and the password")
	p.ask("PASS "+scriptPassword, "230 welcome")
	p.client.say("PBSZ 0")
	p.client.hear("200")
	p.client.say("PROT P")
	p.client.hear("200")
}

// sealedRetrieve is retrieve with TLS on the client's leg.
func (p pair) sealedRetrieve(config *tls.Config) begun {
	p.t.Helper()
	b := p.retrieve(netip.Addr{})
	c := tls.Client(b.to, config)
	if err := c.Handshake(); err != nil {
		p.t.Fatalf("handshake for data: %v", err)
	}
	b.to = c
	return b
}

// serves expects that somebody who has done nothing wrong is served.
func (s *secureStage) serves() {
	s.t.Helper()
	config := s.trust(gatewayName)
	p := s.private(config)
	p.sealedRetrieve(config).complete()
	p.quit()
}

// secureOrigin is a scripted server with TLS, behind a gateway that wants it of servers.
type secureOrigin struct {
	*stage
	*authority
	t     *testing.T
	shows *tls.Config // the server's
}

// newOrigin runs such a gateway, before a server that shows pair, or a good one if that is empty.
func newOrigin(t *testing.T, change func(*authority) keyPair, flags ...string) *secureOrigin {
	t.Helper()
	a := newAuthority(t)
	pair := change(a)
	s := &secureOrigin{authority: a, t: t, shows: &tls.Config{Certificates: []tls.Certificate{pair.load(t)}}}
	s.stage = newStage(t, append([]string{"--tls-server", "required", "--tls-ca", a.ca}, flags...)...)
	return s
}

func goodServer(a *authority) keyPair { return a.server() }

// toldAUTH begins a session up to the gateway's AUTH. The client waits meanwhile.
func (s *secureOrigin) toldAUTH() pair {
	s.t.Helper()
	p := s.connect()
	p.server.say("220 ready")
	p.server.hear("AUTH TLS")
	return p
}

// encrypted has the server take AUTH and do its handshake, and the client be greeted.
func (s *secureOrigin) encrypted() pair {
	s.t.Helper()
	p := s.toldAUTH()
	p.server.say("234 go on")
	p.server.shake(tls.Server(p.server.Conn, s.shows))
	for {
		line, err := p.server.lines.ReadString('\n')
		if err != nil {
			p.t.Fatalf("after the handshake the server hears %q, error %v; want PBSZ and PROT", line, err)
		}
		p.server.say("200 ok")
		if strings.HasPrefix(line, "PROT P") {
			break
		}
	}
	p.client.hear("220")
	p.ask("USER somebody", "331 and the password")
	p.ask("PASS "+scriptPassword, "230 welcome")
	return p
}

// sealedRetrieve is retrieve with TLS on the server's leg.
func (s *secureOrigin) sealedRetrieve(p pair) begun {
	s.t.Helper()
	b := p.retrieve(netip.Addr{})
	c := tls.Server(b.from, s.shows)
	if err := c.Handshake(); err != nil {
		s.t.Fatalf("handshake for data: %v", err)
	}
	b.from = c
	return b
}

// serves expects that somebody who has done nothing wrong is served.
func (s *secureOrigin) serves() {
	s.t.Helper()
	p := s.encrypted()
	s.sealedRetrieve(p).complete()
	p.quit()
}

// refusedSession expects that the client is told why, and that the server gets nothing in clear.
func (p pair) refusedSession(logged ...string) {
	p.t.Helper()
	p.client.hear("421 ")
	p.client.ended()
	if rest := p.server.ended(); strings.Contains(rest, "USER") || strings.Contains(rest, "PASS") {
		p.t.Errorf("the server hears %q; want nothing more in clear", rest)
	}
	for _, text := range logged {
		p.gate.await(text, 1)
	}
}

// broken expects that a data connection does not end as one that is whole does.
func broken(t *testing.T, who string, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); err == nil {
		t.Errorf("%s reads an end after %d bytes; want the connection broken", who, n)
	}
}

// becomes waits until something is so.
func becomes(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	for !so() {
		select {
		case <-retry.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// reaches tells whether a byte from an address gets through to where the server listens, and one back.
// The relay accepts before it looks who has come: a connection alone says nothing.
func reaches(t *testing.T, h *lab.Host, from netip.Addr, to netip.AddrPort, server net.Listener) bool {
	t.Helper()
	c, err := dialFrom(t, h, from, to)
	if err != nil {
		return false
	}
	defer c.Close()
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		if conn, err := server.Accept(); err == nil {
			defer conn.Close()
			_, _ = io.CopyN(conn, conn, 1)
		}
	}()
	_, _ = c.Write([]byte("?")) // a reset shows below
	_, err = io.ReadFull(c, make([]byte, 1))
	_ = server.(*net.TCPListener).SetDeadline(time.Now())
	<-echoed
	_ = server.(*net.TCPListener).SetDeadline(time.Time{})
	return err == nil
}
