package ftps

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
)

// With client = "required" nothing works in clear.
func TestRequired(t *testing.T) {
	t.Parallel()
	s := harness.NewClientTLSTestbed(t)
	p := s.ConnectGreeted()
	for _, command := range []string{"USER alice", "PASS " + harness.Password} {
		p.Client.Send("%s", command)
		p.Client.Expect("530 ")
	}
	p.Client.Send("PBSZ 0")
	p.Client.Expect("503 ")
	p.Client.Send("AUTH TLS-C")
	p.Client.Expect("234")
	p.Client.Handshake(tls.Client(p.Client.Conn, s.Trusted))
	p.Exchange("USER alice", "331 and the password") // the first command that the server gets
	p.Exchange("PASS "+harness.Password, "230 welcome")
	for _, command := range []string{"PASV", "EPSV", "PORT 192,168,5,1,200,200"} {
		p.Client.Send("%s", command)
		p.Client.Expect("52")
	}
	p.Client.Send("PROT P")
	p.Client.Expect("503 ") // PBSZ comes first (RFC 4217 section 9)
	p.Client.Send("PBSZ 0")
	p.Client.Expect("200 ")
	p.Client.Send("PROT C")
	p.Client.Expect("534 ")
	p.Client.Send("PROT S")
	p.Client.Expect("536 ")
	p.Client.Send("PROT P")
	p.Client.Expect("200 ")
	p.Client.Send("CCC")
	p.Client.Expect("533 ")
	p.RetrieveTLS(s.Trusted).Complete()
	p.Quit()
	s.WantService()
}

// With "optional" a client encrypts nothing, the control connection, or both connections.
func TestOptional(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"auto", "relay"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewClientTLSTestbed(t, "--data", path, "--tls-client", "optional")
			s.Testbed.WantService()
			p := s.ConnectTLS(s.Trusted)
			p.LoginProtected()
			p.RetrieveTLS(s.Trusted).Complete()
			p.Client.Send("PROT C")
			p.Client.Expect("200 ")
			p.Retrieve(netip.Addr{}).Complete()
			p.RetrieveActive().Complete()
			p.Client.Send("PROT P")
			p.Client.Expect("200 ")
			p.RetrieveTLS(s.Trusted).Complete()
			p.Quit()
		})
	}
}

// CCC ends the encryption of the control connection, if the forward allows it.
func TestCCC(t *testing.T) {
	t.Parallel()
	s := harness.NewClientTLSTestbed(t, "--tls-ccc")
	p := s.LoginTLS(s.Trusted)
	bare := p.Client.Conn.(*tls.Conn).NetConn()
	p.Client.Send("CCC")
	p.Client.Expect("200 ")
	if err := p.Client.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest := p.Client.ExpectClose(); rest != "" {
		t.Errorf("after the answer to CCC got %q; want close_notify", rest)
	}
	p.Client = harness.NewControlConn(t, "the client", bare)
	p.WantAlive()
	b := p.Retrieve(netip.Addr{})
	c := tls.Client(b.ClientData, s.Trusted)
	if err := c.Handshake(); err != nil {
		t.Fatalf("data stays private: %v", err)
	}
	b.ClientData = c
	b.Complete()
	p.Quit()
}

// REIN ends TLS. Its reply is the last one that is encrypted (RFC 4217 section 11).
func TestREIN(t *testing.T) {
	t.Parallel()
	s := harness.NewClientTLSTestbed(t)
	p := s.LoginTLS(s.Trusted)
	p.RetrieveTLS(s.Trusted).Complete()
	bare := p.Client.Conn.(*tls.Conn).NetConn()
	p.Exchange("REIN", "220 anew")
	if err := p.Client.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest := p.Client.ExpectClose(); rest != "" {
		t.Errorf("after the answer to REIN got %q; want close_notify", rest)
	}
	p.Client = harness.NewControlConn(t, "the client", bare)
	p.Client.Send("USER alice")
	p.Client.Expect("530 ")
	p.Client.Send("AUTH TLS")
	p.Client.Expect("234")
	config := s.ClientConfig(harness.GatewayName)
	p.Client.Handshake(tls.Client(p.Client.Conn, config))
	p.LoginProtected()
	p.RetrieveTLS(config).Complete()
	p.Quit()
}

// New sessions get a renewed certificate. Running ones continue.
func TestCertificateRenewed(t *testing.T) {
	t.Parallel()
	s := harness.NewClientTLSTestbed(t)
	before := s.LoginTLS(s.Trusted)
	busy := before.RetrieveTLS(s.Trusted)
	busy.Carry(harness.RandomBytes(300_000))
	renewed := s.IssueGateway(func(c *x509.Certificate) {
		c.DNSNames = append(c.DNSNames,
			"renewed.lab.example")
	})
	for from, to := range map[string]string{renewed.CertFile: s.GatewayPair.CertFile,
		renewed.KeyFile: s.GatewayPair.KeyFile} {
		if err := os.Rename(from, to); err != nil { // atomically
			t.Fatal(err)
		}
	}
	harness.Await(t, "a new session gets the renewed certificate", func() bool {
		config := s.ClientConfig(harness.GatewayName)
		p := s.ConnectTLS(config)
		defer p.Quit()
		names := p.Client.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames
		return strings.Contains(strings.Join(names, " "), "renewed.lab.example")
	})
	busy.Complete()
	before.RetrieveTLS(s.Trusted).Complete()
	before.Quit()
	s.WantService()
	s.Program.Interrupt()
}

// A certificate and a key that do not match change nothing, and the log has it.
func TestCertificateMismatch(t *testing.T) {
	t.Parallel()
	s := harness.NewClientTLSTestbed(t, "--resolve", "1s") // also the interval at which files are checked
	s.WantService()
	harness.OverwriteFile(t, s.GatewayPair.KeyFile, "no key\n")
	s.Program.AwaitLog(s.GatewayPair.KeyFile, 1)
	s.WantService()
}

// A certificate that expires soon is a warning at the start.
func TestExpiryWarning(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	soon := a.IssueGateway(func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, 9) })
	s := harness.NewTestbed(t, "--tls-client", "required", "--tls-cert", soon.CertFile, "--tls-key",
		soon.KeyFile)
	var found bool
	for line := range strings.Lines(s.Program.Log()) {
		found = found || strings.Contains(line, "level=WARN") && strings.Contains(line, soon.CertFile)
	}
	if !found {
		t.Errorf("got\n%s\nwant a warning of %s", s.Program.Log(), soon.CertFile)
	}
}

// A kill breaks sessions, and a new start serves.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := harness.NewClientTLSTestbed(t)
	p := s.LoginTLS(s.Trusted)
	b := p.RetrieveTLS(s.Trusted)
	b.Carry(harness.RandomBytes(300_000))
	s.Program.Kill()
	harness.WantBroken(t, "the client", b.ClientData)
	p.Server.ExpectClose()
	s.StartProgram("forward", "--tls-client", "required", "--tls-cert", s.GatewayPair.CertFile, "--tls-key",
		s.GatewayPair.KeyFile, harness.Gateway4, harness.Server4)
	s.WantService()
}
