package diagnose

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// tlsFailureCase is a failureCase of a forward with TLS on one leg.
type tlsFailureCase struct {
	failureCase
	atClient    func(harness.ClientTLSTestbed) // causes the failure on the client's leg
	atServer    func(harness.ServerTLSTestbed) // or on the server's
	certificate func(*harness.Authority) harness.KeyPair
	options     string // in [forward.tls]
}

// explain names faults of encryption.
func TestExplainTLS(t *testing.T) {
	t.Parallel()
	for _, m := range append(clientTLSFailures, serverTLSFailures...) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			a := harness.NewAuthority(t)
			if m.atServer != nil {
				show := harness.ValidServer
				if m.certificate != nil {
					show = m.certificate
				}
				s := newEnv(t, anyPath, m.forward+fmt.Sprintf("[forward.tls]\nserver = \"required\"\nca = "+
					"%q\n", a.CAFile)+m.options)
				pair := show(a)
				m.atServer(harness.ServerTLSTestbed{Testbed: s.Testbed, Authority: a, T: t,
					ServerConfig: &tls.Config{Certificates: []tls.Certificate{pair.Load(t)}}})
				s.wantExplained(m.failureCase)
				return
			}
			pair := a.IssueGateway()
			s := newEnv(t, anyPath, m.forward+fmt.Sprintf("[forward.tls]\nclient = \"required\"\ncert = "+
				"%q\nkey = %q\n", pair.CertFile, pair.KeyFile)+m.options)
			m.atClient(harness.ClientTLSTestbed{Testbed: s.Testbed, Authority: a, T: t, GatewayPair: pair,
				Trusted: a.ClientConfig(harness.GatewayName)})
			s.wantExplained(m.failureCase)
		})
	}
}

// refusedCommands sends commands from a client. Each is refused.
func refusedCommands(begin func(harness.ClientTLSTestbed) harness.Session,
	commands ...string) func(harness.ClientTLSTestbed) {
	return func(s harness.ClientTLSTestbed) {
		p := begin(s)
		for _, command := range commands {
			p.Client.Send("%s", command)
			p.Client.Expect("5")
		}
	}
}

func connectInClear(s harness.ClientTLSTestbed) harness.Session { return s.ConnectGreeted() }

// loginWithoutPROT logs in over TLS. Data stays in clear.
func loginWithoutPROT(s harness.ClientTLSTestbed) harness.Session {
	p := s.ConnectTLS(s.Trusted)
	p.Exchange("USER alice", "331 and the password")
	p.Exchange("PASS "+harness.Password, "230 welcome")
	return p
}

// badHandshake starts TLS from a client. The handshake fails.
func badHandshake(config func(harness.ClientTLSTestbed) *tls.Config) func(harness.ClientTLSTestbed) {
	return func(s harness.ClientTLSTestbed) {
		p := s.ConnectGreeted()
		p.Client.Send("AUTH TLS")
		p.Client.Expect("234")
		_ = harness.WantHandshakeRefused(s.T, tls.Client(p.Client.Conn, config(s)))
	}
}

const explicitRemedy = "explicit FTPS with encrypted data (AUTH TLS, PBSZ 0, PROT P)"

var clientTLSFailures = []tlsFailureCase{
	{
		failureCase: failureCase{name: "a login in clear", code: "tls_required",
			text: "the client sent USER in clear, and this forward requires TLS", remedy: explicitRemedy,
			timeline: []string{"command USER alice", "answer 530 log in over TLS only"}},
		atClient: refusedCommands(connectInClear, "USER alice"),
	},
	{
		failureCase: failureCase{name: "a password in clear", code: "tls_required",
			text: "the client sent PASS in clear, and this forward requires TLS", remedy: explicitRemedy,
			timeline: []string{"command PASS (not shown)", "answer 530"}},
		atClient: refusedCommands(connectInClear, "PASS "+harness.Password),
	},
	{
		failureCase: failureCase{name: "data in clear", code: "tls_required",
			text:   "the client asked for data in clear with PASV, and this forward requires TLS",
			remedy: explicitRemedy,
			timeline: []string{"tls the control connection with the client is TLS 1.3", "command PASV",
				"answer 521"}},
		atClient: refusedCommands(loginWithoutPROT, "PASV"),
	},
	{
		failureCase: failureCase{name: "PROT C", code: "tls_required",
			text:     "the client asked for data in clear with PROT, and this forward requires TLS",
			remedy:   explicitRemedy,
			timeline: []string{"command PBSZ 0", "command PROT C", "answer 534"}},
		atClient: func(s harness.ClientTLSTestbed) {
			p := loginWithoutPROT(s)
			p.Client.Send("PBSZ 0")
			p.Client.Expect("200")
			p.Client.Send("PROT C")
			p.Client.Expect("534")
		},
	},
	{
		failureCase: failureCase{name: "PROT without PBSZ", code: "tls_command_refused",
			text: "PROT was refused: PBSZ comes before PROT", timeline: []string{"command PROT P",
				"answer 503"}},
		atClient: refusedCommands(loginWithoutPROT, "PROT P"),
	},
	{
		failureCase: failureCase{name: "CCC", code: "tls_command_refused",
			text:     "CCC was refused: the control connection stays encrypted",
			remedy:   "ccc = true below [forward.tls]",
			timeline: []string{"command CCC", "answer 533"}},
		atClient: refusedCommands(loginWithoutPROT, "CCC"),
	},
	{
		failureCase: failureCase{name: "a client that does not know the authority", code: "client_tls",
			text: "no TLS with the client: *certificate* (remote error: tls: *)", remedy: "authority",
			timeline: []string{"command AUTH TLS", "answer 234", "session ended"}},
		atClient: badHandshake(func(s harness.ClientTLSTestbed) *tls.Config {
			return harness.NewAuthority(s.T).ClientConfig(harness.GatewayName)
		}),
	},
	{
		failureCase: failureCase{name: "a client that dials another name", code: "client_tls",
			text:     "no TLS with the client: *certificate* (remote error: tls: *)",
			remedy:   "name that it dialled",
			timeline: []string{"command AUTH TLS", "answer 234", "session ended"}},
		atClient: badHandshake(func(s harness.ClientTLSTestbed) *tls.Config {
			return s.ClientConfig("elsewhere.example")
		}),
	},
	{
		failureCase: failureCase{name: "a client with TLS 1.1", code: "client_tls",
			text: "no TLS with the client: " +
				"the other side knows only versions of TLS that are too old (*)",
			remedy:   "TLS 1.2 is the oldest",
			timeline: []string{"command AUTH TLS", "answer 234", "session ended"}},
		atClient: badHandshake(func(s harness.ClientTLSTestbed) *tls.Config {
			old := s.Trusted.Clone()
			old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return old
		}),
	},
	{
		failureCase: failureCase{name: "a client that goes on in clear", code: "client_tls",
			text: "no TLS with the client: the other side does not speak TLS (*)", remedy: "tls.implicit",
			timeline: []string{"command AUTH TLS", "answer 234", "session ended"}},
		atClient: func(s harness.ClientTLSTestbed) {
			p := s.ConnectGreeted()
			p.Client.Send("AUTH TLS")
			p.Client.Expect("234")
			p.Client.Send("USER alice")
			p.Server.ExpectClose()
		},
	},
	{
		failureCase: failureCase{name: "data that does not begin with TLS", code: "client_no_data_tls",
			text:     "the client does not speak TLS on the data connection (*)",
			timeline: []string{"command STOR file"}, anywhere: []string{passivePinhole, clientConnected}},
		atClient: func(s harness.ClientTLSTestbed) {
			p := s.LoginTLS(s.Trusted)
			data, at := p.Passive(netip.Addr{})
			bare, err := harness.DialFrom(s.T, p.Lab.Client(), lab.ClientAddr4, at)
			if err != nil {
				s.T.Fatal(err)
			}
			far := harness.Accept(s.T, data)
			p.Exchange("STOR file", "150 go on")
			_, _ = bare.Write(harness.RandomBytes(1000))
			harness.WantBroken(s.T, "the client", bare)
			_, _ = io.Copy(io.Discard, far) // the gateway breaks it: a server sees that first
			p.Server.Send("426 broken")
			p.Client.Expect("")
		},
	},
	{
		failureCase: failureCase{name: "data that does not resume", code: "session_reuse_missing",
			text:     "the client's data connection did not resume the TLS session of its control connection",
			remedy:   "session_reuse = false lets such clients in",
			anywhere: []string{passivePinhole, clientConnected}},
		atClient: func(s harness.ClientTLSTestbed) {
			p := s.LoginTLS(s.Trusted)
			data, at := p.Passive(netip.Addr{})
			bare, err := harness.DialFrom(s.T, p.Lab.Client(), lab.ClientAddr4, at)
			if err != nil {
				s.T.Fatal(err)
			}
			far := harness.Accept(s.T, data)
			p.Exchange("RETR file", "150 here it comes")
			fresh := s.Trusted.Clone()
			fresh.ClientSessionCache = nil
			_ = harness.WantHandshakeRefused(s.T, tls.Client(bare, fresh))
			_, _ = io.Copy(io.Discard, far) // the gateway breaks it: a server sees that first
			p.Server.Send("426 broken")
			p.Client.Expect("")
		},
	},
	{
		failureCase: failureCase{name: "data that the client cuts short", code: "truncated",
			text:     "the client's data ended without TLS's close_notify, it may be cut short",
			remedy:   "tls.client_close_notify",
			timeline: []string{"command STOR file", "reply 226", "answer 426"},
			anywhere: []string{clientConnected, "transfer STOR failed: # bytes"}},
		atClient: func(s harness.ClientTLSTestbed) {
			p := s.LoginTLS(s.Trusted)
			data, at := p.Passive(netip.Addr{})
			bare, err := harness.DialFrom(s.T, p.Lab.Client(), lab.ClientAddr4, at)
			if err != nil {
				s.T.Fatal(err)
			}
			c := tls.Client(bare, s.Trusted)
			p.Exchange("STOR file", "150 go on")
			got := harness.Accept(s.T, data)
			if _, err := c.Write(harness.RandomBytes(100_000)); err != nil {
				s.T.Fatal(err)
			}
			bare.Close()
			harness.WantBroken(s.T, "the server", got)
			p.Server.Send("226 as if all were well")
			p.Client.Expect("426 ")
		},
	},
}
