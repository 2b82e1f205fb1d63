package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// A forward with client = "required" lets nothing go on in clear.
func TestFTPSRequired(t *testing.T) {
	t.Parallel()
	s := newTerminated(t)
	p := s.greeted()
	for _, command := range []string{"USER somebody", "PASS " + scriptPassword} {
		p.client.say("%s", command)
		p.client.hear("530 ")
	}
	p.client.say("PBSZ 0")
	p.client.hear("503 ")
	p.client.say("AUTH TLS-C")
	p.client.hear("234")
	p.client.shake(tls.Client(p.client.Conn, s.trusted))
	p.ask("USER somebody", "331 and the password") // the first that the server hears
	p.ask("PASS "+scriptPassword, "230 welcome")
	for _, command := range []string{"PASV", "EPSV", "PORT 192,168,5,1,200,200"} {
		p.client.say("%s", command)
		p.client.hear("52")
	}
	p.client.say("PROT P")
	p.client.hear("503 ") // PBSZ comes first (RFC 4217 section 9)
	p.client.say("PBSZ 0")
	p.client.hear("200 ")
	p.client.say("PROT C")
	p.client.hear("534 ")
	p.client.say("PROT S")
	p.client.hear("536 ")
	p.client.say("PROT P")
	p.client.hear("200 ")
	p.client.say("CCC")
	p.client.hear("533 ")
	p.sealedRetrieve(s.trusted).complete()
	p.quit()
	s.serves()
}

// With "optional" each client has it as it likes: nothing, the control connection alone, or both.
func TestFTPSOptional(t *testing.T) {
	for _, path := range []string{"auto", "relay"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newTerminated(t, "--data", path, "--tls-client", "optional")
			s.stage.serves()
			p := s.encrypted(s.trusted)
			p.loginPrivate()
			p.sealedRetrieve(s.trusted).complete()
			p.client.say("PROT C")
			p.client.hear("200 ")
			p.retrieve(netip.Addr{}).complete()
			p.retrieveActive().complete()
			p.client.say("PROT P")
			p.client.hear("200 ")
			p.sealedRetrieve(s.trusted).complete()
			p.quit()
		})
	}
}

// CCC ends the encryption of the control connection, where that is allowed.
func TestFTPSCCC(t *testing.T) {
	t.Parallel()
	s := newTerminated(t, "--tls-ccc")
	p := s.private(s.trusted)
	bare := p.client.Conn.(*tls.Conn).NetConn()
	p.client.say("CCC")
	p.client.hear("200 ")
	if err := p.client.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest := p.client.ended(); rest != "" {
		t.Errorf("after the answer to CCC got %q; want close_notify", rest)
	}
	p.client = newWire(t, "the client", bare)
	p.stillThere()
	b := p.retrieve(netip.Addr{})
	c := tls.Client(b.to, s.trusted)
	if err := c.Handshake(); err != nil {
		t.Fatalf("data stays private: %v", err)
	}
	b.to = c
	b.complete()
	p.quit()
}

// REIN ends TLS, and its answer is the last that is encrypted (RFC 4217 section 11).
func TestFTPSREIN(t *testing.T) {
	t.Parallel()
	s := newTerminated(t)
	p := s.private(s.trusted)
	p.sealedRetrieve(s.trusted).complete()
	bare := p.client.Conn.(*tls.Conn).NetConn()
	p.ask("REIN", "220 anew")
	if err := p.client.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest := p.client.ended(); rest != "" {
		t.Errorf("after the answer to REIN got %q; want close_notify", rest)
	}
	p.client = newWire(t, "the client", bare)
	p.client.say("USER somebody")
	p.client.hear("530 ")
	p.client.say("AUTH TLS")
	p.client.hear("234")
	config := s.trust(gatewayName)
	p.client.shake(tls.Client(p.client.Conn, config))
	p.loginPrivate()
	p.sealedRetrieve(config).complete()
	p.quit()
}

// Files that change are what the next session is shown; those that run go on.
func TestFTPSCertificateRenewed(t *testing.T) {
	t.Parallel()
	s := newTerminated(t)
	before := s.private(s.trusted)
	busy := before.sealedRetrieve(s.trusted)
	busy.carry(payload(300_000))
	renewed := s.gateway(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "renewed.lab.example") })
	for from, to := range map[string]string{renewed.cert: s.shown.cert, renewed.key: s.shown.key} {
		if err := os.Rename(from, to); err != nil { // in one step, as those who do it well
			t.Fatal(err)
		}
	}
	becomes(t, "a new session is shown the renewed certificate", func() bool {
		config := s.trust(gatewayName)
		p := s.encrypted(config)
		defer p.quit()
		names := p.client.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames
		return strings.Contains(strings.Join(names, " "), "renewed.lab.example")
	})
	busy.complete()
	before.sealedRetrieve(s.trusted).complete()
	before.quit()
	s.serves()
	s.gate.interrupt()
}

// Files that do not fit each other change nothing, and the operator is told.
func TestFTPSCertificateSpoilt(t *testing.T) {
	t.Parallel()
	s := newTerminated(t, "--resolve", "1s") // how often files are looked at, too
	s.serves()
	rewrite(t, s.shown.key, "no key\n")
	s.gate.await(s.shown.key, 1)
	s.serves()
}

// A certificate that ends soon is warned of at the start.
func TestFTPSExpiryWarning(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	soon := a.gateway(func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, 9) })
	s := newStage(t, "--tls-client", "required", "--tls-cert", soon.cert, "--tls-key", soon.key)
	var found bool
	for line := range strings.Lines(s.gate.text()) {
		found = found || strings.Contains(line, "level=WARN") && strings.Contains(line, soon.cert)
	}
	if !found {
		t.Errorf("got\n%s\nwant a warning of %s", s.gate.text(), soon.cert)
	}
}

// Killed, sessions end broken; a new start serves.
func TestFTPSKilled(t *testing.T) {
	t.Parallel()
	s := newTerminated(t)
	p := s.private(s.trusted)
	b := p.sealedRetrieve(s.trusted)
	b.carry(payload(300_000))
	s.gate.kill()
	broken(t, "the client", b.to)
	p.server.ended()
	s.begin("forward", "--tls-client", "required", "--tls-cert", s.shown.cert, "--tls-key", s.shown.key, gateway4, server4)
	s.serves()
}
