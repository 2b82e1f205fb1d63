package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
)

// sayNo has the server answer the gateway's AUTH, and what comes behind it, with a no.
func sayNo(reply string) func(secureOrigin) {
	return func(s secureOrigin) {
		p := s.toldAUTH()
		p.server.say("%s", reply)
		p.client.hear("421")
	}
}

// refusedByGateway has the gateway not take the server's handshake.
func refusedByGateway(s secureOrigin) {
	p := s.toldAUTH()
	p.server.say("234 go on")
	_ = refusedHandshake(s.t, tls.Server(p.server.Conn, s.shows))
	p.client.hear("421")
}

// protected has the handshake done, and PROT answered.
func protected(reply string) func(secureOrigin) {
	return func(s secureOrigin) {
		p := s.toldAUTH()
		p.server.say("234 go on")
		p.server.shake(tls.Server(p.server.Conn, s.shows))
		p.server.hear("PBSZ 0")
		p.server.say("200 ok")
		p.server.hear("PROT")
		p.server.say("%s", reply)
		p.client.hear("421")
	}
}

const noServerTLS = "no TLS with the server: "

var serverTLSMishaps = []sealedMishap{
	{
		mishap: mishap{name: "the server has no TLS", code: "server_no_tls", text: "the server does not encrypt its sessions",
			remedy: "the server answers AUTH TLS with 502: switch on its explicit FTPS"},
		server: sayNo("502 no"),
	},
	{
		mishap: mishap{name: "the server does not encrypt data", code: "server_no_tls", text: "the server does not encrypt its data connections",
			remedy: `server_data = "clear"`},
		server: protected("536 not that"),
	},
	{
		mishap: mishap{name: "the server encrypts nothing but data", code: "server_tls", text: noServerTLS + "the server wants its data connections encrypted",
			remedy: `leave server_data = "clear" out`},
		server: protected("534 not that"), options: "server_data = \"clear\"\n",
	},
	{
		mishap: mishap{name: "a certificate of another name", code: "server_tls", text: noServerTLS + "the server's certificate is for another name (*)", remedy: "tls.server_name"},
		server: refusedByGateway, shows: func(a *authority) keyPair {
			return a.issue("mallory.example", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(198, 51, 100, 9)} })
		},
	},
	{
		mishap: mishap{name: "a certificate that has expired", code: "server_tls", text: noServerTLS + "the server's certificate has expired (*)", remedy: "have it renewed on the server"},
		server: refusedByGateway, shows: func(a *authority) keyPair {
			return a.server(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		},
	},
	{
		mishap: mishap{name: "a certificate of nobody", code: "server_tls", text: noServerTLS + "the server's certificate is not trusted: signed by an unknown authority (*)", remedy: "tls.ca"},
		server: refusedByGateway, shows: func(a *authority) keyPair { return newAuthority(a.t).server() },
	},
	{
		mishap: mishap{name: "a server with TLS 1.1", code: "server_tls", text: noServerTLS + "the other side knows only versions of TLS that are too old (*)", remedy: "TLS 1.2 is the oldest"},
		server: func(s secureOrigin) {
			s.shows.MinVersion, s.shows.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			refusedByGateway(s)
		},
	},
	{
		mishap: mishap{name: "a server that speaks no TLS on data", code: "server_data_tls", text: "the server does not speak TLS on the data connection (*)",
			remedy: "see in the server's log why", data: []string{passiveHole, clientCame}},
		server: func(s secureOrigin) {
			p := s.encrypted()
			b := p.retrieve(netip.Addr{})
			_, _ = b.from.Write(payload(1000))
			broken(s.t, "the client", b.to)
			p.server.say("426 broken")
			p.client.hear("")
		},
	},
	{
		mishap: mishap{name: "a server that wants its session resumed", code: "server_data_tls",
			text:   "the server did not take a data connection that did not resume the TLS session of its control connection",
			remedy: "have the server offer TLS 1.3", line: []string{"command RETR file", "reply 522"}},
		server: func(s secureOrigin) {
			s.shows.MaxVersion, s.shows.SessionTicketsDisabled = tls.VersionTLS12, true
			p := s.encrypted()
			data, at := p.passive(netip.Addr{})
			c, err := dialFrom(s.t, p.Client(), lab.ClientAddr4, at)
			if err != nil {
				s.t.Fatal(err)
			}
			from := accept(s.t, data)
			p.client.say("RETR file")
			p.server.hear("RETR file")
			p.server.say("150 here it comes")
			p.client.hear("150")
			sealed := tls.Server(from, s.shows)
			if err := sealed.Handshake(); err != nil {
				s.t.Fatal(err)
			}
			_, _ = sealed.Write([]byte("?"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // so that the gateway has its handshake, too
				s.t.Fatal(err)
			}
			sealed.Close()
			p.server.say("522 SSL connection failed: session reuse required")
			p.client.hear("522")
			_, _ = io.Copy(io.Discard, c)
		},
	},
	{
		mishap: mishap{name: "data that the server cuts short", code: "truncated", text: "the server's data ended without TLS's close_notify, it may be cut short", remedy: "tls.server_close_notify",
			line: []string{"command RETR file", "reply 226", "answer 426"}, data: []string{clientCame, "transfer RETR failed: # bytes"}},
		server: func(s secureOrigin) {
			p := s.encrypted()
			b := s.sealedRetrieve(p)
			b.carry(payload(100_000))
			b.from.(*tls.Conn).NetConn().Close()
			broken(s.t, "the client", b.to)
			p.server.say("226 as if all were well")
			p.client.hear("426 ")
		},
	},
}

// explain tells what becomes of encryption that a forward is not made for, and what it knows of what it cannot read.
func TestExplainUnreadable(t *testing.T) {
	t.Parallel()
	happen(t, unreadableMishaps)
}

var unreadableMishaps = []mishap{
	{
		name: "AUTH at a forward in clear", only: once, provoke: func(s *scene) {
			p := s.greeted()
			p.client.say("AUTH TLS")
			p.client.hear("534")
		},
		code: "tls_refused", text: "the client asked for encryption, which this forward cannot carry: this gateway cannot carry an encrypted session to this server",
		remedy: "server_ports", line: []string{"command AUTH TLS", "answer 534"},
	},
	{
		name: "TLS from the first byte at a forward in clear", only: once, provoke: func(s *scene) {
			p := s.greeted()
			_ = refusedHandshake(s.stage.t, tls.Client(p.client.Conn, &tls.Config{ServerName: gatewayName}))
		},
		code: "tls_refused", text: "the client asked for encryption, which this forward cannot carry: this gateway cannot carry an encrypted session to this server",
		remedy: "server_ports", line: []string{"reply 220", "session ended"},
	},
	{
		name: "encrypted from end to end", forward: "server_ports = \"50000-50009\"\n", provoke: func(s *scene) {
			p := s.greeted()
			p.ask("AUTH TLS", "234 go on")
			a := newAuthority(s.stage.t)
			pair := a.server()
			done := make(chan error, 1)
			go func() {
				done <- tls.Server(p.server.Conn, &tls.Config{Certificates: []tls.Certificate{pair.load(s.stage.t)}}).Handshake()
			}()
			p.client.shake(tls.Client(p.client.Conn, a.trust(serverName)))
			if err := <-done; err != nil {
				s.stage.t.Fatal(err)
			}
		},
		code: "fine", text: "nothing went wrong: no transfer yet",
		line: []string{"command AUTH TLS", "reply 234", "tls from here on encrypted from end to end; data connections through *50000-50009"},
	},
}
