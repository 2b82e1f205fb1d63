package harness

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
)

// ClientTLSTestbed is a testbed whose gateway requires TLS from clients. The server is in clear.
type ClientTLSTestbed struct {
	*Testbed
	*Authority
	T           *testing.T
	GatewayPair KeyPair // what the gateway presents
	Trusted     *tls.Config
}

// NewClientTLSTestbed runs such a gateway, with more flags.
func NewClientTLSTestbed(t *testing.T, flags ...string) *ClientTLSTestbed {
	t.Helper()
	a := NewAuthority(t)
	s := &ClientTLSTestbed{Authority: a, T: t, GatewayPair: a.IssueGateway()}
	s.Testbed = NewTestbed(t, append([]string{"--tls-client", "required", "--tls-cert",
		s.GatewayPair.CertFile, "--tls-key", s.GatewayPair.KeyFile}, flags...)...)
	s.Trusted = a.ClientConfig(GatewayName)
	return s
}

// ConnectTLS starts a session and switches to TLS with the client's configuration.
func (s *ClientTLSTestbed) ConnectTLS(config *tls.Config) Session {
	s.T.Helper()
	p := s.ConnectGreeted()
	p.Client.Send("AUTH TLS")
	p.Client.Expect("234")
	p.Client.Handshake(tls.Client(p.Client.Conn, config))
	return p
}

// LoginTLS is ConnectTLS with a login and PROT P.
func (s *ClientTLSTestbed) LoginTLS(config *tls.Config) Session {
	s.T.Helper()
	p := s.ConnectTLS(config)
	p.LoginProtected()
	return p
}

// LoginProtected logs in and asks for data connections with TLS.
func (p Session) LoginProtected() {
	p.T.Helper()
	p.LoginProtectedAs("alice")
}

// LoginProtectedAs is LoginProtected as a user.
func (p Session) LoginProtectedAs(user string) {
	p.T.Helper()
	p.loginAs(user)
	p.Client.Send("PBSZ 0")
	p.Client.Expect("200")
	p.Client.Send("PROT P")
	p.Client.Expect("200")
}

// RetrieveTLS is Retrieve with TLS on the client's leg.
func (p Session) RetrieveTLS(config *tls.Config) Transfer {
	p.T.Helper()
	b := p.Retrieve(netip.Addr{})
	b.ClientData = shakeHands(p.T, tls.Client(b.ClientData, config))
	return b
}

// shakeHands begins TLS on a data connection.
func shakeHands(t *testing.T, c *tls.Conn) *tls.Conn {
	t.Helper()
	if err := c.Handshake(); err != nil {
		t.Fatalf("handshake for data: %v", err)
	}
	return c
}

// WantService expects that a well-behaved client is served.
func (s *ClientTLSTestbed) WantService() {
	s.T.Helper()
	config := s.ClientConfig(GatewayName)
	p := s.LoginTLS(config)
	p.RetrieveTLS(config).Complete()
	p.Quit()
}

// ServerTLSTestbed is a testbed whose gateway requires TLS from the server. The client is in clear.
type ServerTLSTestbed struct {
	*Testbed
	*Authority
	T            *testing.T
	ServerConfig *tls.Config // the server's
}

// NewServerTLSTestbed runs such a gateway. issue makes the certificate that the server presents.
func NewServerTLSTestbed(t *testing.T, issue func(*Authority) KeyPair, flags ...string) *ServerTLSTestbed {
	t.Helper()
	a := NewAuthority(t)
	pair := issue(a)
	s := &ServerTLSTestbed{Authority: a, T: t,
		ServerConfig: &tls.Config{Certificates: []tls.Certificate{pair.Load(t)}}}
	s.Testbed = NewTestbed(t, append(a.ServerTLSFlags(), flags...)...)
	return s
}

// ValidServer issues a server's certificate that the gateway accepts.
func ValidServer(a *Authority) KeyPair { return a.IssueServer() }

// ConnectUntilAUTH starts a session up to the gateway's AUTH. The client waits.
func (s *ServerTLSTestbed) ConnectUntilAUTH() Session {
	s.T.Helper()
	p := s.Connect()
	p.Server.Send("220 ready")
	p.Server.Expect("AUTH TLS")
	return p
}

// LoginTLS starts a session with TLS on the server's leg, and logs in.
func (s *ServerTLSTestbed) LoginTLS() Session {
	s.T.Helper()
	p := s.ConnectUntilAUTH()
	p.Server.Send("234 go on")
	p.Server.Handshake(tls.Server(p.Server.Conn, s.ServerConfig))
	for {
		line, err := p.Server.Reader.ReadString('\n')
		if err != nil {
			p.T.Fatalf("after the handshake the server got %q, error %v; want PBSZ and PROT", line, err)
		}
		p.Server.Send("200 ok")
		if strings.HasPrefix(line, "PROT P") {
			break
		}
	}
	p.Client.Expect("220")
	p.login()
	return p
}

// RetrieveTLS is Retrieve with TLS on the server's leg.
func (s *ServerTLSTestbed) RetrieveTLS(p Session) Transfer {
	s.T.Helper()
	b := p.Retrieve(netip.Addr{})
	b.ServerData = shakeHands(s.T, tls.Server(b.ServerData, s.ServerConfig))
	return b
}

// WantService expects that a well-behaved client is served.
func (s *ServerTLSTestbed) WantService() {
	s.T.Helper()
	p := s.LoginTLS()
	s.RetrieveTLS(p).Complete()
	p.Quit()
}

// WantHandshakeRefused expects that the other end refuses the handshake.
func WantHandshakeRefused(t *testing.T, c *tls.Conn) error {
	t.Helper()
	err := c.Handshake()
	if err == nil { // with TLS 1.3 a client finishes before the server has verified it
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("got a session; want the handshake refused")
	}
	return err
}
