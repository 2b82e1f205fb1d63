package diagnose

import (
	"crypto/tls"
	"io"
	"net/netip"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/testca"
)

// rejectAUTH refuses the gateway's AUTH.
func rejectAUTH(reply string) func(harness.ServerTLSTestbed) {
	return func(s harness.ServerTLSTestbed) {
		p := s.ConnectUntilAUTH()
		p.Server.Send("%s", reply)
		p.Client.Expect("421")
	}
}

// gatewayRefusesHandshake expects that the gateway refuses the server's handshake.
func gatewayRefusesHandshake(s harness.ServerTLSTestbed) {
	p := s.ConnectUntilAUTH()
	p.Server.Send("234 go on")
	_ = harness.WantHandshakeRefused(s.T, tls.Server(p.Server.Conn, s.ServerConfig))
	p.Client.Expect("421")
}

// answerPROT finishes the handshake and replies to PROT.
func answerPROT(reply string) func(harness.ServerTLSTestbed) {
	return func(s harness.ServerTLSTestbed) {
		p := s.ConnectUntilAUTH()
		p.Server.Send("234 go on")
		p.Server.Handshake(tls.Server(p.Server.Conn, s.ServerConfig))
		p.Server.Expect("PBSZ 0")
		p.Server.Send("200 ok")
		p.Server.Expect("PROT")
		p.Server.Send("%s", reply)
		p.Client.Expect("421")
	}
}

// untrustedCertificate is signed by an authority that the gateway does not trust.
func untrustedCertificate(a *harness.Authority) harness.KeyPair {
	return harness.NewAuthority(a.T).IssueServer()
}

const noServerTLS = "no TLS with the server: "

var serverTLSFailures = []tlsFailureCase{
	{
		failureCase: failureCase{name: "the server has no TLS", code: "server_no_tls",
			text:   "the server does not encrypt its sessions",
			remedy: "the server answers AUTH TLS with 502: switch on its explicit FTPS"},
		atServer: rejectAUTH("502 no"),
	},
	{
		failureCase: failureCase{name: "the server does not encrypt data", code: "server_no_tls",
			text:   "the server does not encrypt its data connections",
			remedy: `server_data = "clear"`},
		atServer: answerPROT("536 not that"),
	},
	{
		failureCase: failureCase{name: "the server encrypts nothing but data", code: "server_tls",
			text:   noServerTLS + "the server wants its data connections encrypted",
			remedy: `leave server_data = "clear" out`},
		atServer: answerPROT("534 not that"), options: "server_data = \"clear\"\n",
	},
	{
		failureCase: failureCase{name: "a certificate of another name", code: "server_tls",
			text:   noServerTLS + "the server's certificate is for another name (*)",
			remedy: "tls.server_name"},
		atServer: gatewayRefusesHandshake, certificate: func(a *harness.Authority) harness.KeyPair {
			return a.Issue("mallory.example", testca.ForAddrs(netip.MustParseAddr("198.51.100.9")))
		},
	},
	{
		failureCase: failureCase{name: "a certificate that has expired", code: "server_tls",
			text:   noServerTLS + "the server's certificate has expired (*)",
			remedy: "have it renewed on the server"},
		atServer: gatewayRefusesHandshake, certificate: func(a *harness.Authority) harness.KeyPair {
			return a.IssueServer(testca.Expired)
		},
	},
	{
		failureCase: failureCase{name: "a certificate of an unknown authority", code: "server_tls",
			text: noServerTLS +
				"the server's certificate is not trusted: signed by an unknown authority (*)",
			remedy: "tls.ca"},
		atServer:    gatewayRefusesHandshake,
		certificate: untrustedCertificate,
	},
	{
		failureCase: failureCase{name: "a server with TLS 1.1", code: "server_tls",
			text:   noServerTLS + "the other side knows only versions of TLS that are too old (*)",
			remedy: "TLS 1.2 is the oldest"},
		atServer: func(s harness.ServerTLSTestbed) {
			s.ServerConfig.MinVersion, s.ServerConfig.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			gatewayRefusesHandshake(s)
		},
	},
	{
		failureCase: failureCase{name: "a server that speaks no TLS on data", code: "server_data_tls",
			text:   "the server does not speak TLS on the data connection (*)",
			remedy: "check the server's log", anywhere: []string{passivePinhole, clientConnected}},
		atServer: func(s harness.ServerTLSTestbed) {
			p := s.LoginTLS()
			b := p.Retrieve(netip.Addr{})
			_, _ = b.ServerData.Write(harness.RandomBytes(1000))
			harness.WantBroken(s.T, "the client", b.ClientData)
			p.Server.Send("426 broken")
			p.Client.Expect("")
		},
	},
	{
		failureCase: failureCase{name: "a server that wants its session resumed", code: "server_data_tls",
			text: "the server refused a data connection that did not resume the TLS session of its " +
				"control connection",
			remedy: "have the server offer TLS 1.3", timeline: []string{"command RETR file", "reply 522"}},
		atServer: func(s harness.ServerTLSTestbed) {
			s.ServerConfig.MaxVersion, s.ServerConfig.SessionTicketsDisabled = tls.VersionTLS12, true
			p := s.LoginTLS()
			data, at := p.Passive(netip.Addr{})
			c, err := harness.DialFrom(s.T, p.Lab.Client(), lab.ClientAddr4, at)
			if err != nil {
				s.T.Fatal(err)
			}
			from := harness.Accept(s.T, data)
			p.Client.Send("RETR file")
			p.Server.Expect("RETR file")
			p.Server.Send("150 here it comes")
			p.Client.Expect("150")
			encrypted := tls.Server(from, s.ServerConfig)
			if err := encrypted.Handshake(); err != nil {
				s.T.Fatal(err)
			}
			_, _ = encrypted.Write([]byte("?"))
			// Now the gateway has finished its handshake, too.
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				s.T.Fatal(err)
			}
			encrypted.Close()
			p.Server.Send("522 SSL connection failed: session reuse required")
			p.Client.Expect("522")
			_, _ = io.Copy(io.Discard, c)
		},
	},
	{
		failureCase: failureCase{name: "data that the server cuts short", code: "truncated",
			text:     "the server's data ended without TLS's close_notify, it may be cut short",
			remedy:   "tls.server_close_notify",
			timeline: []string{"command RETR file", "reply 226", "answer 426"},
			anywhere: []string{clientConnected, "transfer RETR failed: # bytes"}},
		atServer: func(s harness.ServerTLSTestbed) {
			p := s.LoginTLS()
			b := s.RetrieveTLS(p)
			b.Carry(harness.RandomBytes(100_000))
			b.ServerData.(*tls.Conn).NetConn().Close()
			harness.WantBroken(s.T, "the client", b.ClientData)
			p.Server.Send("226 as if all were well")
			p.Client.Expect("426 ")
		},
	},
}

// explain names TLS at a forward without TLS, and what it knows of a session that it cannot read.
func TestExplainUnreadable(t *testing.T) {
	t.Parallel()
	runFailureCases(t, unreadableFailures)
}

var unreadableFailures = []failureCase{
	{
		name: "AUTH at a forward in clear", path: anyPath, provoke: func(s *env) {
			p := s.connectGreeted()
			p.Client.Send("AUTH TLS")
			p.Client.Expect("534")
		},
		code: "tls_refused", text: "the client asked for encryption, which this forward cannot carry: this " +
			"gateway cannot carry an encrypted session to this server",
		remedy: "server_ports", timeline: []string{"command AUTH TLS", "answer 534"},
	},
	{
		name: "TLS from the first byte at a forward in clear", path: anyPath, provoke: func(s *env) {
			p := s.connectGreeted()
			_ = harness.WantHandshakeRefused(s.Testbed.T, tls.Client(p.Client.Conn,
				&tls.Config{ServerName: harness.GatewayName}))
		},
		code: "tls_refused", text: "the client asked for encryption, which this forward cannot carry: this " +
			"gateway cannot carry an encrypted session to this server",
		remedy: "server_ports", timeline: []string{"reply 220", "session ended"},
	},
	{
		name: "encrypted from end to end", forward: "server_ports = \"50000-50009\"\n",
		provoke: func(s *env) {
			p := s.connectGreeted()
			p.Exchange("AUTH TLS", "234 go on")
			a := harness.NewAuthority(s.Testbed.T)
			pair := a.IssueServer()
			done := make(chan error, 1)
			go func() {
				done <- tls.Server(p.Server.Conn,
					&tls.Config{Certificates: []tls.Certificate{pair.Load(s.Testbed.T)}}).Handshake()
			}()
			p.Client.Handshake(tls.Client(p.Client.Conn, a.ClientConfig(harness.ServerName)))
			if err := <-done; err != nil {
				s.Testbed.T.Fatal(err)
			}
		},
		code: "fine", text: "the session is passed through encrypted: the gateway does not see its " +
			"transfers, nor whether they fail",
		remedy: "ftpgate doctor tries transfers",
		timeline: []string{"command AUTH TLS", "reply 234",
			"tls encrypted from end to end from here on; data connections through *50000-50009"},
	},
}
