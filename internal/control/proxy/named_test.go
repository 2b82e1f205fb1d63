package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

const ownGreeting = "220 This gateway connects to FTP servers: USER user@host"

// named has clients name the server: every name leads to the stage's.
func named(p *Proxy, f *forward.Resolved) {
	f.Outbound = &forward.Outbound{Explicit: true, Ports: []uint16{f.Server.Port},
		Servers: []forward.Destination{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}}}
	f.Server, f.Server4 = forward.Server{}, netip.Addr{}
	p.Lookup = leadsTo("127.0.0.1")
}

func leadsTo(addrs ...string) func(context.Context, string, string) ([]netip.Addr, error) {
	return func(context.Context, string, string) (all []netip.Addr, err error) {
		for _, a := range addrs {
			all = append(all, netip.MustParseAddr(a))
		}
		return all, nil
	}
}

// at is where the stage's server is, by a name.
func (b *stage) at(host string) string {
	_, port, _ := net.SplitHostPort(b.servers.Addr().String())
	return host + ":" + port
}

// name begins a session, and has its client name the server, up to the login.
func (b *stage) name() *stage {
	b.t.Helper()
	b.client = b.dial()
	b.client.hear(ownGreeting)
	b.client.say("USER demo@%s\r\n", b.at("ftp.example.com"))
	b.accept()
	b.server.say("220 hello\r\n")
	b.server.hear("USER demo")
	b.server.say("331 and now\r\n")
	b.client.hear("331-hello")
	b.client.hear("331 and now")
	return b
}

// A session whose client named the server is an ordinary one.
func TestNamed(t *testing.T) {
	b := newStage(t, named).name().ask("PASS secret", "230 welcome")
	data := b.transfer()
	b.server.say("226 done\r\n")
	close(data.done)
	b.client.hear("226 done")
	b.ask("QUIT", "221 bye")
	b.client.heardAll()
	b.wantRefused("")
	b.await("the end", func() bool { return strings.Contains(b.logs.String(), "session ends") })
	if logs := b.logs.String(); strings.Contains(logs, "secret") || strings.Contains(logs, "server=invalid") {
		t.Errorf("got log %s", logs)
	}
}

// Until the login, the client may name another server. The first one is left in order.
func TestNamedAnother(t *testing.T) {
	b := newStage(t, named).name().ask("PASS wrong", "530 no")
	first := b.server
	b.client.say("OPEN %s\r\n", b.at("second.example.com"))
	first.hear("QUIT")
	first.say("221 bye\r\n")
	first.heardAll()
	b.accept()
	b.server.say("220-second\r\n220 server\r\n")
	b.client.hear("220-second")
	b.client.hear("220 server")
	b.ask("USER demo", "331 and now").ask("PASS right", "230 welcome").pasv()
	b.ask("PWD", `257 "/"`)
	b.server.Close()
	b.client.hear("421 the server closed the connection")
	b.client.heardAll()
}

// A first server that says something while it is left is not heard, and one that does not close is left after
// a second.
func TestNamedAnotherAndTheFirstGoesOn(t *testing.T) {
	b := newStage(t, named).name()
	first := b.server
	b.client.say("OPEN %s\r\n", b.at("second.example.com"))
	first.hear("QUIT")
	first.say("221-bye\r\n230 you are logged in\r\n200 ok\r\n")
	b.accept()
	b.server.say("220 second\r\n")
	b.client.hear("220 second")
	first.say("230 still here\r\n")
	b.ask("USER demo", "230 welcome").ask("NOOP", "200 ok")
	b.wantRefused("")
}

// A dial that fails is answered, and another name may lead to a server.
func TestNamedUnreachable(t *testing.T) {
	b := newStage(t, named)
	lookups := atomic.Int32{}
	b.proxy.Lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		lookups.Add(1)
		if host == "no.example.com" {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	b.client = b.dial()
	b.client.hear(ownGreeting)
	b.client.say("USER demo@%s\r\n", b.at("no.example.com"))
	b.client.hear("530 the server's name has no address")
	b.client.say("NOOP\r\n")
	b.client.hear("200 OK")
	b.client.say("USER demo@%s\r\n", b.at("ftp.example.com"))
	b.accept()
	b.server.say("421 no\r\n")
	b.client.hear("421 no")
	b.client.heardAll()
	b.wantRefused("server=1 unreachable=1")
	if lookups.Load() != 2 {
		t.Errorf("got %d lookups; want one for each name", lookups.Load())
	}

	b = newStage(t, named)
	b.servers.Close()
	b.client = b.dial()
	b.client.hear(ownGreeting)
	for range 16 {
		b.client.say("OPEN %s\r\n", b.at("ftp.example.com"))
		b.client.hear("530 cannot reach the server")
	}
	b.client.say("OPEN %s\r\n", b.at("ftp.example.com"))
	b.client.hear("421 too many servers in one session")
	b.client.heardAll()
}

// Whatever a name leads to, nothing inside is dialled, and no other port.
func TestNamedPolicy(t *testing.T) {
	for name, tt := range map[string]struct{ leads, target, want string }{
		"loopback":         {"127.0.0.1", "ftp.example.com", "530 this server is not allowed"},
		"metadata service": {"169.254.169.254", "metadata.example.com", "530 this server is not allowed"},
		"mapped":           {"::ffff:127.0.0.1", "ftp.example.com", "530 this server is not allowed"},
		"by address":       {"", "127.0.0.1", "530 this server is not allowed"},
		"by mapped":        {"", "[::ffff:127.0.0.1]", "530 this server is not allowed"},
		"decimal": {"127.0.0.1", "2130706433",
			"501 this is no server's name: want a host name or an address, and perhaps a port"},
		"another port": {"127.0.0.1", "ftp.example.com:22", "530 this port is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newStage(t, named, func(p *Proxy, f *forward.Resolved) {
				f.Outbound.Servers = nil
				if tt.leads != "" {
					p.Lookup = leadsTo(tt.leads)
				}
				p.dial = func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
					t.Errorf("%s is dialled", to)
					return nil, errors.New("not allowed")
				}
			})
			b.client = b.dial()
			b.client.hear(ownGreeting)
			target := tt.target
			if !strings.HasSuffix(target, ":22") {
				target = b.at(target)
			}
			b.client.say("USER demo@%s\r\n", target)
			b.client.hear(tt.want)
			b.wantRefused("server=1")
		})
	}
}

// A name that leads inside and outside, or first here and then there, is resolved once, and only what was
// checked is dialled.
func TestNamedRebinding(t *testing.T) {
	b := newStage(t, named)
	answers := atomic.Int32{}
	dialled := make(chan netip.AddrPort, 10)
	b.proxy.Lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		if answers.Add(1) > 1 {
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("127.0.0.1"),
			netip.MustParseAddr("::1")}, nil
	}
	b.proxy.dial = func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
		dialled <- to
		return nil, errors.New("refused")
	}
	b.client = b.dial()
	b.client.hear(ownGreeting)
	b.client.say("USER demo@%s\r\n", b.at("ftp.example.com"))
	b.client.hear("530 cannot reach the server")
	b.client.say("USER demo@%s\r\n", b.at("ftp.example.com"))
	b.client.hear("530 this server is not allowed")
	if n := len(dialled); n != 1 {
		t.Fatalf("got %d dials; want one", n)
	}
	if to := <-dialled; to != b.servers.Addr().(*net.TCPAddr).AddrPort() {
		t.Errorf("got a dial of %s; want the address that is allowed", to)
	}
}

// Clients that leave, time out, are killed or drained before they have a server, or while it is dialled.
func TestNamedEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		limits forward.Limits
		end    func(b *stage)
		want   string
	}{
		"the client leaves": {end: func(b *stage) { b.client.Close() }},
		"QUIT":              {end: func(b *stage) { b.client.say("QUIT\r\n") }, want: "221 Goodbye"},
		"too late":          {forward.Limits{Login: short}, func(*stage) {}, "421 no login within 1s"},
		"drained":           {end: func(b *stage) { b.drain() }, want: "421 the gateway is shutting down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newStage(t, named, limited(tt.limits))
			b.client = b.dial()
			b.client.hear(ownGreeting)
			tt.end(b)
			if tt.want != "" {
				b.client.hear(tt.want)
				b.client.heardAll()
			}
			b.await("the end", func() bool { return strings.Contains(b.logs.String(), "session ends") })
		})
	}
}

// A dial ends when its session is killed or its forward drained.
func TestNamedDialEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(b *stage)
		want string
	}{
		"killed": {func(b *stage) {
			b.proxy.mu.Lock()
			defer b.proxy.mu.Unlock()
			for s := range b.proxy.running {
				s.Kill()
			}
		}, "421 an operator ended the session"},
		"drained": {func(b *stage) { b.drain() }, "530 cannot reach the server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := make(chan struct{})
			b := newStage(t, named, func(p *Proxy, _ *forward.Resolved) {
				p.dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
					close(begun)
					<-ctx.Done()
					return nil, ctx.Err()
				}
			})
			b.client = b.dial()
			b.client.hear(ownGreeting)
			b.client.say("OPEN %s\r\n", b.at("ftp.example.com"))
			<-begun
			tt.end(b)
			b.client.hear(tt.want)
			b.await("the end", func() bool { return strings.Contains(b.logs.String(), "session ends") })
		})
	}
}

// Commands that the client sends ahead are handled in order, and none of them reaches the wrong server.
func TestNamedPipelined(t *testing.T) {
	b := newStage(t, named)
	b.client = b.dial()
	b.client.say("CLNT x\r\nUSER demo@%s\r\nPASS secret\r\nPWD\r\n", b.at("ftp.example.com"))
	b.client.hear(ownGreeting)
	b.client.hear("200 OK")
	b.accept()
	b.server.say("220 hello\r\n")
	b.server.hear("CLNT x")
	b.server.say("200 ok\r\n")
	b.server.hear("USER demo")
	b.server.say("331 and now\r\n")
	b.client.hear("331-hello")
	b.client.hear("331 and now")
	b.server.hear("PASS secret")
	b.server.say("230 welcome\r\n")
	b.client.hear("230 welcome")
	b.server.hear("PWD")
	b.server.say("257 \"/\"\r\n")
	b.client.hear(`257 "/"`)
}

// Endless greetings are no way to fill memory, and a server that names the client a port in them gets none.
func TestNamedGreetings(t *testing.T) {
	b := newStage(t, named)
	b.client = b.dial()
	b.client.hear(ownGreeting)
	b.client.say("USER demo@%s\r\n", b.at("ftp.example.com"))
	b.accept()
	line := "220-" + strings.Repeat("x", 1000) + "\r\n"
	for range 100 {
		b.server.say("%s", line)
	}
	b.server.say("220 227 Entering Passive Mode (10,0,0,1,0,22)\r\n")
	b.server.hear("USER demo")
	b.server.say("331 and now\r\n")
	for n := 0; ; n++ {
		got, err := b.client.lines.ReadString('\n')
		if err != nil || n > 20 {
			t.Fatalf("after %d lines got %q, error %v", n, got, err)
		}
		if got == "331 and now\r\n" {
			break
		}
		if !strings.HasPrefix(got, "331-") {
			t.Fatalf("got %q", got)
		}
	}
	if now, _ := b.path.opened(); now != 0 {
		t.Errorf("got %d pinholes", now)
	}
	if b.counts.refused[verdict.RefusedUnaskedReply].Load() != 0 {
		t.Error("the greeting counts as unasked")
	}
}
