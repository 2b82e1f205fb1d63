package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"ftpgate/internal/try/lab"
)

// sealedMishap is a mishap of a forward with TLS. provoke gets the scene as one whose gateway, or whose server, has
// a certificate.
type sealedMishap struct {
	mishap
	client  func(secureStage)  // what provokes it at the clients' leg
	server  func(secureOrigin) // or at the server's
	shows   func(*authority) keyPair
	options string // in [forward.tls]
}

// explain tells what is wrong with encryption.
func TestExplainTLS(t *testing.T) {
	t.Parallel()
	for _, m := range append(clientTLSMishaps, serverTLSMishaps...) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t)
			if m.server != nil {
				show := goodServer
				if m.shows != nil {
					show = m.shows
				}
				s := newScene(t, once, m.forward+fmt.Sprintf("[forward.tls]\nserver = \"required\"\nca = %q\n", a.ca)+m.options)
				pair := show(a)
				m.server(secureOrigin{s.stage, a, t, &tls.Config{Certificates: []tls.Certificate{pair.load(t)}}})
				s.explains(m.mishap)
				return
			}
			pair := a.gateway()
			s := newScene(t, once, m.forward+fmt.Sprintf("[forward.tls]\nclient = \"required\"\ncert = %q\nkey = %q\n", pair.cert, pair.key)+m.options)
			m.client(secureStage{s.stage, a, t, pair, a.trust(gatewayName)})
			s.explains(m.mishap)
		})
	}
}

// inClear has a client send commands that are refused each.
func inClear(begin func(secureStage) pair, commands ...string) func(secureStage) {
	return func(s secureStage) {
		p := begin(s)
		for _, command := range commands {
			p.client.say("%s", command)
			p.client.hear("5")
		}
	}
}

func greetedClear(s secureStage) pair { return s.greeted() }

// shaken is a session in TLS, with a login, and data in clear so far.
func shaken(s secureStage) pair {
	p := s.encrypted(s.trusted)
	p.ask("USER somebody", "331 and the password")
	p.ask("PASS "+scriptPassword, "230 welcome")
	return p
}

// badHandshake has a client begin with TLS that comes to nothing.
func badHandshake(config func(secureStage) *tls.Config) func(secureStage) {
	return func(s secureStage) {
		p := s.greeted()
		p.client.say("AUTH TLS")
		p.client.hear("234")
		_ = refusedHandshake(s.t, tls.Client(p.client.Conn, config(s)))
	}
}

const explicitRemedy = "explicit FTPS with encrypted data (AUTH TLS, PBSZ 0, PROT P)"

var clientTLSMishaps = []sealedMishap{
	{
		mishap: mishap{name: "a login in clear", code: "tls_required", text: "the client sent USER in clear, and this forward requires TLS", remedy: explicitRemedy,
			line: []string{"command USER somebody", "answer 530 log in over TLS only"}},
		client: inClear(greetedClear, "USER somebody"),
	},
	{
		mishap: mishap{name: "a password in clear", code: "tls_required", text: "the client sent PASS in clear, and this forward requires TLS", remedy: explicitRemedy,
			line: []string{"command PASS (not shown)", "answer 530"}},
		client: inClear(greetedClear, "PASS "+scriptPassword),
	},
	{
		mishap: mishap{name: "data in clear", code: "tls_required", text: "the client asked for data in clear with PASV, and this forward requires TLS", remedy: explicitRemedy,
			line: []string{"tls the control connection with the client is TLS 1.3", "command PASV", "answer 521"}},
		client: inClear(shaken, "PASV"),
	},
	{
		mishap: mishap{name: "PROT C", code: "tls_required", text: "the client asked for data in clear with PROT, and this forward requires TLS", remedy: explicitRemedy,
			line: []string{"command PBSZ 0", "command PROT C", "answer 534"}},
		client: func(s secureStage) {
			p := shaken(s)
			p.client.say("PBSZ 0")
			p.client.hear("200")
			p.client.say("PROT C")
			p.client.hear("534")
		},
	},
	{
		mishap: mishap{name: "PROT without PBSZ", code: "tls_command_refused", text: "PROT was refused: PBSZ comes before PROT", line: []string{"command PROT P", "answer 503"}},
		client: inClear(shaken, "PROT P"),
	},
	{
		mishap: mishap{name: "CCC", code: "tls_command_refused", text: "CCC was refused: the control connection stays encrypted", remedy: "ccc = true below [forward.tls]",
			line: []string{"command CCC", "answer 533"}},
		client: inClear(shaken, "CCC"),
	},
	{
		mishap: mishap{name: "a client that does not know the authority", code: "client_tls", text: "no TLS with the client: *certificate* (remote error: tls: *)", remedy: "authority",
			line: []string{"command AUTH TLS", "answer 234", "session ended"}},
		client: badHandshake(func(s secureStage) *tls.Config { return newAuthority(s.t).trust(gatewayName) }),
	},
	{
		mishap: mishap{name: "a client that dials another name", code: "client_tls", text: "no TLS with the client: *certificate* (remote error: tls: *)", remedy: "name that it dialled",
			line: []string{"command AUTH TLS", "answer 234", "session ended"}},
		client: badHandshake(func(s secureStage) *tls.Config { return s.trust("elsewhere.example") }),
	},
	{
		mishap: mishap{name: "a client with TLS 1.1", code: "client_tls", text: "no TLS with the client: the other side knows only versions of TLS that are too old (*)", remedy: "TLS 1.2 is the oldest",
			line: []string{"command AUTH TLS", "answer 234", "session ended"}},
		client: badHandshake(func(s secureStage) *tls.Config {
			old := s.trusted.Clone()
			old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return old
		}),
	},
	{
		mishap: mishap{name: "a client that goes on in clear", code: "client_tls", text: "no TLS with the client: the other side does not speak TLS (*)", remedy: "tls.implicit",
			line: []string{"command AUTH TLS", "answer 234", "session ended"}},
		client: func(s secureStage) {
			p := s.greeted()
			p.client.say("AUTH TLS")
			p.client.hear("234")
			p.client.say("USER somebody")
			p.server.ended()
		},
	},
	{
		mishap: mishap{name: "data that does not begin with TLS", code: "client_no_data_tls", text: "the client does not speak TLS on the data connection (*)",
			line: []string{"command STOR file"}, data: []string{passiveHole, clientCame}},
		client: func(s secureStage) {
			p := s.private(s.trusted)
			data, at := p.passive(netip.Addr{})
			bare, err := dialFrom(s.t, p.Client(), lab.ClientAddr4, at)
			if err != nil {
				s.t.Fatal(err)
			}
			far := accept(s.t, data)
			p.ask("STOR file", "150 go on")
			_, _ = bare.Write(payload(1000))
			broken(s.t, "the client", bare)
			_, _ = io.Copy(io.Discard, far) // which the gateway breaks: a server sees that first
			p.server.say("426 broken")
			p.client.hear("")
		},
	},
	{
		mishap: mishap{name: "data that does not resume", code: "session_reuse_missing", text: "the client's data connection did not resume the TLS session of its control connection",
			remedy: "session_reuse = false lets such clients in", data: []string{passiveHole, clientCame}},
		client: func(s secureStage) {
			p := s.private(s.trusted)
			data, at := p.passive(netip.Addr{})
			bare, err := dialFrom(s.t, p.Client(), lab.ClientAddr4, at)
			if err != nil {
				s.t.Fatal(err)
			}
			far := accept(s.t, data)
			p.ask("RETR file", "150 here it comes")
			fresh := s.trusted.Clone()
			fresh.ClientSessionCache = nil
			_ = refusedHandshake(s.t, tls.Client(bare, fresh))
			_, _ = io.Copy(io.Discard, far) // which the gateway breaks: a server sees that first
			p.server.say("426 broken")
			p.client.hear("")
		},
	},
	{
		mishap: mishap{name: "data that the client cuts short", code: "truncated", text: "the client's data ended without TLS's close_notify, it may be cut short", remedy: "tls.client_close_notify",
			line: []string{"command STOR file", "reply 226", "answer 426"}, data: []string{clientCame, "transfer STOR failed: # bytes"}},
		client: func(s secureStage) {
			p := s.private(s.trusted)
			data, at := p.passive(netip.Addr{})
			bare, err := dialFrom(s.t, p.Client(), lab.ClientAddr4, at)
			if err != nil {
				s.t.Fatal(err)
			}
			c := tls.Client(bare, s.trusted)
			p.ask("STOR file", "150 go on")
			got := accept(s.t, data)
			if _, err := c.Write(payload(100_000)); err != nil {
				s.t.Fatal(err)
			}
			bare.Close()
			broken(s.t, "the server", got)
			p.server.say("226 as if all were well")
			p.client.hear("426 ")
		},
	},
}
