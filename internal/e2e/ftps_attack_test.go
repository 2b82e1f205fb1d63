package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
)

// Plain text that comes with AUTH is nobody's word: it is thrown away, and never done inside TLS
// (CVE-2011-0411).
func TestFTPSInjectedCommand(t *testing.T) {
	for name, injected := range map[string]string{"with AUTH": "AUTH TLS\r\nUSER mallory\r\nPASS x\r\n", "half a line": "AUTH TLS\r\nUSER mal"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTerminated(t)
			p := s.greeted()
			if _, err := io.WriteString(p.client.Conn, injected); err != nil {
				t.Fatal(err)
			}
			p.client.hear("234")
			if err := tls.Client(p.client.Conn, s.trusted).Handshake(); err == nil {
				t.Log("the gateway goes on with TLS, without what came before")
			}
			p.client.Conn.Close()
			if heard := p.server.ended(); strings.Contains(heard, "mallory") || strings.Contains(heard, "PASS") {
				t.Errorf("the server hears %q; want nothing of what was injected", heard)
			}
			s.serves()
		})
	}
}

// The same from the server's side: what stands behind the 234 is no answer to what is asked inside TLS.
func TestFTPSInjectedReply(t *testing.T) {
	t.Parallel()
	s := newOrigin(t, goodServer)
	p := s.toldAUTH()
	p.server.say("234 go on\r\n331 injected\r\n230 injected")
	c := tls.Server(p.server.Conn, s.shows)
	_ = c.Handshake() // the gateway may go on, or have had enough
	go func() { _, _ = io.Copy(io.Discard, c) }()
	_ = p.client.SetReadDeadline(time.Now().Add(2 * time.Second))
	if said, _ := io.ReadAll(p.client.lines); strings.Contains(string(said), "injected") {
		t.Errorf("the client hears %q; want nothing of what was injected", said)
	}
	c.Close()
	p.client.Close()
	s.serves()
}

// A server that does not take AUTH, or from whose greeting somebody has taken it, gets nothing in clear.
func TestFTPSStrippedAUTH(t *testing.T) {
	for _, answer := range []string{"500 what", "502 no", "504 no", "431 not now", "234"} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			s := newOrigin(t, goodServer)
			p := s.toldAUTH()
			p.client.say("USER somebody\r\nPASS %s", scriptPassword) // it does not wait
			p.server.say("%s", answer)
			if answer == "234" { // and then no handshake, but text
				p.server.say("220 in clear")
			} else if next, err := p.server.lines.ReadString('\n'); err == nil && strings.HasPrefix(next, "AUTH ") {
				p.server.say("%s", answer)
			} else if err == nil {
				t.Errorf("the server hears %q; want no more", next)
			}
			p.refusedSession("level=WARN")
		})
	}
}

// The server's certificate must be good, and TLS not of yesterday.
func TestFTPSBadServer(t *testing.T) {
	for name, tt := range map[string]struct {
		pair   func(*authority) keyPair
		max    uint16
		logged string
	}{
		"another name": {func(a *authority) keyPair {
			return a.issue("mallory.example", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(198, 51, 100, 9)} })
		}, 0, "tls.server_name"},
		"expired": {func(a *authority) keyPair {
			return a.server(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		}, 0, "expired"},
		"not yet good": {func(a *authority) keyPair {
			return a.server(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
		}, 0, "not yet valid"},
		"unknown authority": {func(a *authority) keyPair { return newAuthority(a.t).server() }, 0, "tls.ca"},
		"TLS 1.1":           {goodServer, tls.VersionTLS11, "version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newOrigin(t, tt.pair)
			if tt.max != 0 {
				s.shows.MinVersion, s.shows.MaxVersion = tls.VersionTLS10, tt.max
			}
			p := s.toldAUTH()
			p.client.say("USER somebody\r\nPASS %s", scriptPassword)
			p.server.say("234 go on")
			_ = refusedHandshake(t, tls.Server(p.server.Conn, s.shows))
			p.refusedSession(tt.logged)
			wantLines(t, s.gate.text(), "remedy=")
		})
	}
}

// A client with TLS of yesterday is refused.
func TestFTPSOldClient(t *testing.T) {
	t.Parallel()
	s := newTerminated(t)
	p := s.greeted()
	p.client.say("AUTH TLS")
	p.client.hear("234")
	old := s.trusted.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if err := refusedHandshake(t, tls.Client(p.client.Conn, old)); err != nil && !strings.Contains(err.Error(), "version") {
		t.Errorf("got %v; want the version refused", err)
	}
	p.server.ended()
	s.gate.await("level=WARN", 1)
	s.serves()
}

// A data connection must resume the session of its own control connection: the same address is no proof.
func TestFTPSDataOfAnother(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, steal := range map[string]func(*secureStage, *tls.Config) *tls.Config{
			"no resumption": func(_ *secureStage, c *tls.Config) *tls.Config {
				c.ClientSessionCache = nil
				return c
			},
			"another session's ticket": func(s *secureStage, c *tls.Config) *tls.Config {
				c.ClientSessionCache = tls.NewLRUClientSessionCache(4)
				other := s.private(c) // which has a ticket now
				other.sealedRetrieve(c).complete()
				return c
			},
		} {
			t.Run(fmt.Sprint(tls.VersionName(version), "/", name), func(t *testing.T) {
				t.Parallel()
				s := newTerminated(t)
				s.trusted.MaxVersion = version
				p := s.private(s.trusted)
				thief := steal(s, s.trusted.Clone())
				data, at := p.passive(netip.Addr{})
				c, err := dialFrom(t, p.Client(), lab.ClientAddr4, at)
				if err != nil {
					t.Fatal(err)
				}
				_ = refusedHandshake(t, tls.Client(c, thief))
				_ = data.(*net.TCPListener).SetDeadline(time.Now().Add(time.Second))
				if got, err := data.Accept(); err == nil {
					_ = got.SetReadDeadline(time.Now().Add(patience))
					if n, _ := io.Copy(io.Discard, got); n > 0 {
						t.Errorf("the server got %d bytes of a stranger's", n)
					}
					got.Close()
				}
				p.client.say("NOOP")
				p.server.hear("NOOP")
				p.server.say("200 still there")
				for line := ""; !strings.HasPrefix(line, "200 still"); {
					line = p.client.hear("")
				}
				p.sealedRetrieve(s.trusted).complete()
				s.gate.await("does not resume", 1) // with the next negotiation at the latest
				p.quit()
			})
		}
	}
}

// A stream that ends without close_notify is not whole, whoever it comes from.
func TestFTPSTruncated(t *testing.T) {
	t.Run("by the server", func(t *testing.T) {
		t.Parallel()
		s := newOrigin(t, goodServer)
		p := s.encrypted()
		b := s.sealedRetrieve(p)
		b.carry(payload(100_000))
		b.from.(*tls.Conn).NetConn().Close() // FIN, and no close_notify
		broken(t, "the client", b.to)
		p.server.say("226 as if all were well")
		p.client.hear("426 ")
		s.gate.await("kind=broken_transfer", 1)
		s.sealedRetrieve(p).complete()
		p.quit()
	})
	t.Run("by the client", func(t *testing.T) {
		t.Parallel()
		s := newTerminated(t)
		p := s.private(s.trusted)
		data, at := p.passive(netip.Addr{})
		bare, err := dialFrom(t, p.Client(), lab.ClientAddr4, at)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(bare, s.trusted)
		p.ask("STOR file", "150 go on")
		got := accept(t, data)
		if _, err := c.Write(payload(100_000)); err != nil {
			t.Fatal(err)
		}
		bare.Close()
		broken(t, "the server", got)
		p.server.say("226 as if all were well")
		p.client.hear("426 ")
		p.sealedRetrieve(s.trusted).complete()
		p.quit()
	})
	t.Run("by a server that is known for it", func(t *testing.T) {
		t.Parallel()
		s := newOrigin(t, goodServer, "--tls-server-close-notify", "optional")
		wantLines(t, s.gate.text(), "level=WARN")
		p := s.encrypted()
		b := s.sealedRetrieve(p)
		b.carry(payload(100_000))
		b.from.(*tls.Conn).NetConn().Close()
		if rest, err := io.ReadAll(b.to); err != nil || len(rest) > 0 {
			t.Errorf("got %d bytes more, error %v; want the end", len(rest), err)
		}
		p.server.say("226 complete")
		p.client.hear("226")
		p.quit()
	})
}

// A handshake that never ends is ended.
func TestFTPSDribble(t *testing.T) {
	t.Parallel()
	s := newTerminated(t, "--login-time", "3s") // which a handshake is part of
	p := s.greeted()
	p.client.say("AUTH TLS")
	p.client.hear("234")
	if err := p.client.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	// A record of 512 bytes is announced, and comes a byte at a time.
	if _, err := p.client.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}); err != nil {
		t.Fatal(err)
	}
	drip := time.NewTicker(200 * time.Millisecond)
	defer drip.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, p.client.Conn)
	}()
	for {
		select {
		case <-drip.C:
			_, _ = p.client.Write([]byte{0})
			continue
		case <-ended:
		case <-time.After(2 * patience):
			t.Error("the handshake goes on for ever")
		}
		break
	}
	p.server.ended()
	s.serves()
}
