package ftps

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/testca"
)

// Plain text behind AUTH is discarded, and never executed inside TLS (CVE-2011-0411).
func TestInjectedCommand(t *testing.T) {
	t.Parallel()
	for name, injected := range map[string]string{"with AUTH": "AUTH TLS\r\nUSER mallory\r\nPASS x\r\n",
		"half a line": "AUTH TLS\r\nUSER mal"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.NewClientTLSTestbed(t)
			p := s.ConnectGreeted()
			if _, err := io.WriteString(p.Client.Conn, injected); err != nil {
				t.Fatal(err)
			}
			p.Client.Expect("234")
			if err := tls.Client(p.Client.Conn, s.Trusted).Handshake(); err == nil {
				t.Log("the gateway goes on with TLS, without what came before")
			}
			p.Client.Conn.Close()
			if got := p.Server.ExpectClose(); strings.Contains(got, "mallory") ||
				strings.Contains(got, "PASS") {
				t.Errorf("the server got %q; want nothing of what was injected", got)
			}
			s.WantService()
		})
	}
}

// The same from the server's side: what stands behind the 234 is no reply to a command inside TLS.
func TestInjectedReply(t *testing.T) {
	t.Parallel()
	s := harness.NewServerTLSTestbed(t, harness.ValidServer)
	p := s.ConnectUntilAUTH()
	p.Server.Send("234 go on\r\n331 injected\r\n230 injected")
	c := tls.Server(p.Server.Conn, s.ServerConfig)
	_ = c.Handshake() // the gateway may continue or close the connection
	go func() { _, _ = io.Copy(io.Discard, c) }()
	_ = p.Client.SetReadDeadline(time.Now().Add(2 * time.Second))
	if got, _ := io.ReadAll(p.Client.Reader); strings.Contains(string(got), "injected") {
		t.Errorf("the client got %q; want nothing of what was injected", got)
	}
	c.Close()
	p.Client.Close()
	s.WantService()
}

// A server that refuses AUTH, or whose AUTH an attacker has stripped, gets nothing in clear.
func TestStrippedAUTH(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"500 what", "502 no", "504 no", "431 not now", "234"} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			s := harness.NewServerTLSTestbed(t, harness.ValidServer)
			p := s.ConnectUntilAUTH()
			p.Client.Send("USER alice\r\nPASS %s", harness.Password) // without waiting for replies
			p.Server.Send("%s", answer)
			if answer == "234" { // text instead of a handshake
				p.Server.Send("220 in clear")
			} else if next, err := p.Server.Reader.ReadString('\n'); err == nil &&
				strings.HasPrefix(next, "AUTH ") {
				p.Server.Send("%s", answer)
			} else if err == nil {
				t.Errorf("the server got %q; want no more", next)
			}
			wantSessionRefused(p, "level=WARN")
		})
	}
}

// The gateway refuses a server with a bad certificate or an old version of TLS.
func TestBadServer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pair   func(*harness.Authority) harness.KeyPair
		max    uint16
		logged string
	}{
		"another name": {func(a *harness.Authority) harness.KeyPair {
			return a.Issue("mallory.example", testca.ForAddrs(netip.MustParseAddr("198.51.100.9")))
		}, 0, "--tls-server-name"},
		"expired": {func(a *harness.Authority) harness.KeyPair {
			return a.IssueServer(testca.Expired)
		}, 0, "expired"},
		"not yet good": {func(a *harness.Authority) harness.KeyPair {
			return a.IssueServer(testca.NotYetValid)
		}, 0, "not yet valid"},
		"unknown authority": {func(a *harness.Authority) harness.KeyPair {
			return harness.NewAuthority(a.T).IssueServer()
		}, 0, "--tls-ca"},
		"TLS 1.1": {harness.ValidServer, tls.VersionTLS11, "version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.NewServerTLSTestbed(t, tt.pair)
			if tt.max != 0 {
				s.ServerConfig.MinVersion, s.ServerConfig.MaxVersion = tls.VersionTLS10, tt.max
			}
			p := s.ConnectUntilAUTH()
			p.Client.Send("USER alice\r\nPASS %s", harness.Password)
			p.Server.Send("234 go on")
			_ = harness.WantHandshakeRefused(t, tls.Server(p.Server.Conn, s.ServerConfig))
			wantSessionRefused(p, tt.logged)
			harness.WantContains(t, s.Program.Log(), "remedy=")
		})
	}
}

// The gateway refuses a client with an old version of TLS.
func TestOldClient(t *testing.T) {
	t.Parallel()
	s := harness.NewClientTLSTestbed(t)
	p := s.ConnectGreeted()
	p.Client.Send("AUTH TLS")
	p.Client.Expect("234")
	old := s.Trusted.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if err := harness.WantHandshakeRefused(t, tls.Client(p.Client.Conn, old)); err != nil &&
		!strings.Contains(err.Error(), "version") {
		t.Errorf("got %v; want the version refused", err)
	}
	p.Server.ExpectClose()
	s.Program.AwaitLog("level=WARN", 1)
	s.WantService()
}

// A data connection must resume the TLS session of a control connection that lives and belongs to the same
// user: the client's address proves nothing. A refusal comes after the handshake, with close_notify.
func TestDataOfAnotherSession(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, steal := range map[string]func(*harness.ClientTLSTestbed, *tls.Config) *tls.Config{
			"no resumption": func(_ *harness.ClientTLSTestbed, c *tls.Config) *tls.Config {
				c.ClientSessionCache = nil
				return c
			},
			"another user's ticket": func(s *harness.ClientTLSTestbed, c *tls.Config) *tls.Config {
				c.ClientSessionCache = tls.NewLRUClientSessionCache(4)
				other := s.ConnectTLS(c)
				other.LoginProtectedAs("mallory")
				other.RetrieveTLS(c).Complete()
				return c
			},
			"a closed session's ticket": func(s *harness.ClientTLSTestbed, c *tls.Config) *tls.Config {
				c.ClientSessionCache = tls.NewLRUClientSessionCache(4)
				other := s.LoginTLS(c)
				other.RetrieveTLS(c).Complete()
				other.Quit()
				return c
			},
		} {
			t.Run(fmt.Sprint(tls.VersionName(version), "/", name), func(t *testing.T) {
				t.Parallel()
				s := harness.NewClientTLSTestbed(t)
				s.Trusted.MaxVersion = version
				p := s.LoginTLS(s.Trusted)
				thief := steal(s, s.Trusted.Clone())
				data, at := p.Passive(netip.Addr{})
				c, err := harness.DialFrom(t, p.Lab.Client(), lab.ClientAddr4, at)
				if err != nil {
					t.Fatal(err)
				}
				if err := harness.WantHandshakeRefused(t, tls.Client(c, thief)); err != io.EOF {
					t.Errorf("got %v; want close_notify", err)
				}
				_ = data.(*net.TCPListener).SetDeadline(time.Now().Add(time.Second))
				if got, err := data.Accept(); err == nil {
					_ = got.SetReadDeadline(time.Now().Add(harness.Timeout))
					if n, _ := io.Copy(io.Discard, got); n > 0 {
						t.Errorf("the server got %d bytes of another client's", n)
					}
					got.Close()
				}
				p.Client.Send("NOOP")
				p.Server.Expect("NOOP")
				p.Server.Send("200 still there")
				for line := ""; !strings.HasPrefix(line, "200 still"); {
					line = p.Client.Expect("")
				}
				p.RetrieveTLS(s.Trusted).Complete()
				s.Program.AwaitLog("does not resume", 1) // with the next negotiation at the latest
				p.Quit()
			})
		}
	}
}

// A stream without close_notify is incomplete, whichever end it comes from.
func TestTruncated(t *testing.T) {
	t.Run("by the server", func(t *testing.T) {
		t.Parallel()
		s := harness.NewServerTLSTestbed(t, harness.ValidServer)
		p := s.LoginTLS()
		b := s.RetrieveTLS(p)
		b.Carry(harness.RandomBytes(100_000))
		b.ServerData.(*tls.Conn).NetConn().Close() // FIN without close_notify
		harness.WantBroken(t, "the client", b.ClientData)
		p.Server.Send("226 as if all were well")
		p.Client.Expect("426 ")
		s.Program.AwaitLog("kind=broken_transfer", 1)
		s.RetrieveTLS(p).Complete()
		p.Quit()
	})
	t.Run("by the client", func(t *testing.T) {
		t.Parallel()
		s := harness.NewClientTLSTestbed(t)
		p := s.LoginTLS(s.Trusted)
		data, at := p.Passive(netip.Addr{})
		bare, err := harness.DialFrom(t, p.Lab.Client(), lab.ClientAddr4, at)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(bare, s.Trusted)
		p.Exchange("STOR file", "150 go on")
		got := harness.Accept(t, data)
		if _, err := c.Write(harness.RandomBytes(100_000)); err != nil {
			t.Fatal(err)
		}
		bare.Close()
		harness.WantBroken(t, "the server", got)
		p.Server.Send("226 as if all were well")
		p.Client.Expect("426 ")
		p.RetrieveTLS(s.Trusted).Complete()
		p.Quit()
	})
	t.Run("by a server that is known for it", func(t *testing.T) {
		t.Parallel()
		s := harness.NewServerTLSTestbed(t, harness.ValidServer, "--tls-server-close-notify", "optional")
		harness.WantContains(t, s.Program.Log(), "level=WARN")
		p := s.LoginTLS()
		b := s.RetrieveTLS(p)
		b.Carry(harness.RandomBytes(100_000))
		b.ServerData.(*tls.Conn).NetConn().Close()
		if rest, err := io.ReadAll(b.ClientData); err != nil || len(rest) > 0 {
			t.Errorf("got %d bytes more, error %v; want the end", len(rest), err)
		}
		p.Server.Send("226 complete")
		p.Client.Expect("226")
		p.Quit()
	})
}

// A handshake that takes too long is ended.
func TestSlowHandshake(t *testing.T) {
	t.Parallel()
	s := harness.NewClientTLSTestbed(t, "--login-time", "3s") // the handshake is part of it
	p := s.ConnectGreeted()
	p.Client.Send("AUTH TLS")
	p.Client.Expect("234")
	if err := p.Client.SetDeadline(time.Now().Add(2 * harness.Timeout)); err != nil {
		t.Fatal(err)
	}
	// A record of 512 bytes is announced, and sent a byte at a time.
	if _, err := p.Client.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}); err != nil {
		t.Fatal(err)
	}
	drip := time.NewTicker(200 * time.Millisecond)
	defer drip.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, p.Client.Conn)
	}()
	for {
		select {
		case <-drip.C:
			_, _ = p.Client.Write([]byte{0})
			continue
		case <-ended:
		case <-time.After(2 * harness.Timeout):
			t.Error("the handshake goes on for ever")
		}
		break
	}
	p.Server.ExpectClose()
	s.WantService()
}

// wantSessionRefused expects that the client gets a 421, and the server nothing more in clear.
func wantSessionRefused(p harness.Session, logged ...string) {
	p.T.Helper()
	p.Client.Expect("421 ")
	p.Client.ExpectClose()
	if rest := p.Server.ExpectClose(); strings.Contains(rest, "USER") || strings.Contains(rest, "PASS") {
		p.T.Errorf("the server got %q; want nothing more in clear", rest)
	}
	for _, text := range logged {
		p.Program.AwaitLog(text, 1)
	}
}
