package proxy

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/proxyprotocol"
)

// behindBalancer has loopback be a balancer.
func behindBalancer(_ *Proxy, f *forward.Resolved) {
	f.Balancers = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

// come is the header of a client that dialled a balancer's address.
var come = proxyprotocol.Header{Client: netip.MustParseAddrPort("198.51.100.9:40001"),
	Dialled: netip.MustParseAddrPort("192.0.2.1:21")}

const comeV1 = "PROXY TCP4 198.51.100.9 192.0.2.1 40001 21\r\n"

// connectThrough begins a session through a balancer.
func (b *stage) connectThrough(header string) *stage {
	b.t.Helper()
	b.client = b.dial()
	b.client.say("%s", header)
	b.accept()
	b.server.say("220 hello\r\n")
	b.client.hear("220 hello")
	return b
}

// only returns the only session that has ended.
func (b *stage) onlyEnded() (s sessions.Session) {
	b.t.Helper()
	b.await("the end of the session", func() bool {
		n := 0
		for s = range b.proxy.SessionLog.Ended() {
			n++
		}
		return n == 1
	})
	return s
}

// The client that a header names is the session's: in its record, in what its data connections may be, and in
// the address that it is told.
func TestBalancer(t *testing.T) {
	for name, header := range map[string]string{
		"v1": comeV1,
		"v2": string(proxyprotocol.Append(nil, forward.ProxyProtocolV2, come)),
	} {
		t.Run(name, func(t *testing.T) {
			b := newStage(t, behindBalancer).connectThrough(header + "USER x\r\n") // a command behind it
			b.server.hear("USER x")
			b.server.say("230 welcome\r\n")
			b.client.hear("230 welcome")
			b.client.say("PASV\r\n")
			b.server.hear("PASV")
			b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
			b.client.hear("227 Entering Passive Mode (192,0,2,1,195,80)")
			if p := b.path.last().pinhole; p.From != come.Client.Addr() || !p.Balanced ||
				!p.Listen.Addr().IsLoopback() {
				t.Errorf("got pinhole %+v; want one for %s through the balancer", p, come.Client.Addr())
			}
			b.client.say("PORT 127,0,0,1,195,80\r\n")
			b.client.hear("504 use your own address (198.51.100.9) for data connections")
			b.client.say("PORT 198,51,100,9,195,80\r\n")
			b.server.hear("PORT 127,0,0,1,195,80")
			b.server.say("200 ok\r\n")
			b.client.hear("200 ok")
			if p := b.path.last().pinhole; p.Target.Addr() != come.Client.Addr() || p.Balanced {
				t.Errorf("got pinhole %+v; want one to %s", p, come.Client.Addr())
			}
			for s := range b.proxy.SessionLog.Running() {
				if s.Client != come.Client || s.Dialled != come.Dialled || !s.Gateway.Addr().IsLoopback() ||
					s.Balancer.String() != b.client.LocalAddr().String() {
					t.Errorf("got session %+v; want that of %s", s, come.Client)
				}
			}
			b.wantRefused("address=1")
			if log := b.logs.String(); !strings.Contains(log, " client="+come.Client.String()+" ") ||
				!strings.Contains(log, " balancer="+b.client.LocalAddr().String()) {
				t.Errorf("the log does not name client and balancer:\n%s", log)
			}
		})
	}
}

// With data = "kernel" no header can be read on data connections: they come from the client itself.
func TestBalancerKernel(t *testing.T) {
	b := newStage(t, behindBalancer, func(_ *Proxy, f *forward.Resolved) { f.Data = forward.DataKernel })
	b.connectThrough(comeV1).login()
	b.client.say("EPSV\r\n")
	b.server.hear("EPSV")
	b.server.say("229 Extended (|||50000|)\r\n")
	b.client.hear("229 Extended (|||50000|)")
	if p := b.path.last().pinhole; p.From != come.Client.Addr() || p.Balanced {
		t.Errorf("got pinhole %+v; want one for %s alone", p, come.Client.Addr())
	}
}

// Limits, bans and clients are about the client, not about its balancer.
func TestBalancerAdmits(t *testing.T) {
	other := strings.ReplaceAll(comeV1, "198.51.100.9", "198.51.100.10")
	for name, tt := range map[string]struct {
		setup setup
		want  string // the client's last line; the other client gets a greeting
		kind  string
	}{
		"limit": {limited(forward.Limits{PerClient: 1}), "421 too many sessions from your address",
			"limit=1"},
		"ban": {func(p *Proxy, _ *forward.Resolved) {
			p.Banned = func(a netip.Addr) bool { return a == come.Client.Addr() }
		}, "421 your address is banned", "banned=1"},
		"clients": {func(_ *Proxy, f *forward.Resolved) {
			f.Clients = []netip.Prefix{netip.MustParsePrefix("198.51.100.10/32")}
		}, "421 this address may not use this gateway", "client=1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newStage(t, behindBalancer, tt.setup)
			if name == "limit" {
				b.connectThrough(comeV1)
			}
			rejected := b.dial()
			rejected.say("%s", comeV1)
			rejected.hear(tt.want)
			rejected.heardAll()
			b.wantRefused(tt.kind)
			b.connectThrough(other)
		})
	}
}

// A banned balancer is sent away before its header is read.
func TestBannedBalancer(t *testing.T) {
	b := newStage(t, behindBalancer, func(p *Proxy, _ *forward.Resolved) {
		p.Banned = func(a netip.Addr) bool { return a.IsLoopback() }
	})
	c := b.dial()
	c.hear("421 your address is banned")
	c.heardAll()
	b.wantRefused("banned=1")
}

// A header that is wrong, missing or late ends the connection with a reason, a count, a line of the log and a
// verdict.
func TestBadHeader(t *testing.T) {
	udp := "\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0c" + strings.Repeat("1", 12)
	for name, tt := range map[string]struct{ sent, want string }{
		"FTP":        {"USER anonymous\r\n", "sent no valid PROXY protocol header"},
		"malformed":  {"PROXY TCP4 198.51.100.9 192.0.2.1 40001\r\n", "sent no valid"},
		"oversized":  {udp[:14] + "\xff\xff" + strings.Repeat("a", 65535), "sent no valid"},
		"half":       {"PROXY TCP4 198.51.100.9", "sent no PROXY protocol header in time"},
		"nothing":    {"", "sent no PROXY protocol header in time"},
		"no TLS":     {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh", "sent no valid"},
		"about UDP":  {udp, "sent no valid"},
		"a group":    {"PROXY TCP4 224.0.0.1 192.0.2.1 40001 21\r\n", "sent no valid"},
		"two behind": {"PROXY TCP4 1.1.1.1 2.2.2.2 1 1 PROXY TCP4 1.1.1.1 2.2.2.2 1 1\r\n", "sent no valid"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newStage(t, behindBalancer, func(p *Proxy, _ *forward.Resolved) {
				if strings.Contains(tt.want, "in time") {
					p.headerTime = 10 * time.Millisecond
				}
			})
			c := b.dial()
			go func() { _, _ = io.WriteString(c, tt.sent) }() // the gateway may not read it all
			line, err := c.lines.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "421 the balancer "+tt.want) {
				t.Errorf("got %q, %v; want 421 and %q", line, err, tt.want)
			}
			c.Close()
			s := b.onlyEnded()
			if s.Verdict.Code != verdict.CodeBadProxyHeader || !s.Failed() || s.Client != s.Balancer {
				t.Errorf("got %+v; want a failure with %s", s, verdict.CodeBadProxyHeader)
			}
			b.wantRefused("proxy_header=1")
		})
	}
}

// A client that sends a header itself is refused: from elsewhere, or behind its balancer's.
func TestUnexpectedHeader(t *testing.T) {
	v2 := string(proxyprotocol.Append(nil, forward.ProxyProtocolV2, come))
	for name, tt := range map[string]struct {
		balancer bool
		header   string
	}{
		"v1": {false, comeV1}, "v2": {false, v2}, "v1, twice": {true, comeV1}, "v2, twice": {true, v2},
	} {
		t.Run(name, func(t *testing.T) {
			b := newStage(t)
			if tt.balancer {
				b.change(func(f *forward.Resolved) { behindBalancer(nil, f) })
				b.connectThrough(comeV1)
			} else {
				b.connect()
			}
			b.client.say("%s", tt.header)
			b.client.hear("421 this is FTP, and the client sends a PROXY protocol header")
			b.client.Close()
			if s := b.onlyEnded(); s.Verdict.Code != verdict.CodeUnexpectedProxyHeader {
				t.Errorf("got %+v; want %s", s.Verdict, verdict.CodeUnexpectedProxyHeader)
			}
			b.wantRefused("proxy_header=1")
		})
	}
}

// A balancer that checks the gateway is greeted, and is no session; nor is one that only connects.
func TestBalancerChecks(t *testing.T) {
	b := newStage(t, behindBalancer)
	for _, header := range []string{
		"PROXY UNKNOWN\r\n",
		string(proxyprotocol.Append(nil, forward.ProxyProtocolV2, proxyprotocol.Header{})),
	} {
		c := b.dial()
		c.say("%s", header)
		c.hear("220 ftpgate is ready")
		c.heardAll()
	}
	own := b.dial() // HAProxy's check in version 1 names HAProxy itself
	from := netip.MustParseAddrPort(own.LocalAddr().String())
	own.say("PROXY TCP4 %s 127.0.0.1 %d 21\r\n", from.Addr(), from.Port())
	own.hear("220 ftpgate is ready")
	own.heardAll()
	b.dial().Close()
	reset := b.dial()
	if err := reset.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	reset.Close()
	b.await("five checks", func() bool {
		return strings.Count(b.logs.String(),
			`msg="a balancer checks the gateway" forward=test balancer=127.`) == 5
	})
	b.wantRefused("")
	for s := range b.proxy.SessionLog.Ended() {
		t.Errorf("got session %+v; want none", s)
	}
	if n := b.proxy.SessionLog.Count(); n != 0 {
		t.Errorf("got %d sessions; want none", n)
	}
}

// A balancer learns that the gateway stops, also one whose header is being read.
func TestBalancerDrain(t *testing.T) {
	b := newStage(t, behindBalancer).connectThrough(comeV1).login()
	b.transfer0()
	waiting := b.dial()
	b.await("its header", func() bool {
		b.proxy.mu.Lock()
		defer b.proxy.mu.Unlock()
		return b.proxy.headers == 1
	})
	b.drain()
	waiting.hear("421 the gateway is shutting down")
	waiting.heardAll()
	b.wantRefused("drain=1")
}

// transfer0 begins a transfer.
func (b *stage) transfer0() {
	b.t.Helper()
	b.client.say("EPSV\r\n")
	b.server.hear("EPSV")
	b.server.say("229 Extended (|||50000|)\r\n")
	b.client.hear("229 Extended (|||50000|)")
	b.ask("RETR x", "150 here")
}

// The server gets the header first, with the client and the address that it dialled; with a balancer in front
// those of its header.
func TestSendProxyProtocol(t *testing.T) {
	for _, version := range []forward.ProxyProtocol{forward.ProxyProtocolV1, forward.ProxyProtocolV2} {
		for name, balanced := range map[string]bool{"direct": false, "balanced": true} {
			t.Run(version.String()+" "+name, func(t *testing.T) {
				b := newStage(t, func(_ *Proxy, f *forward.Resolved) { f.SendProxyProtocol = version })
				if balanced {
					b.change(func(f *forward.Resolved) { behindBalancer(nil, f) })
				}
				b.client = b.dial()
				want := proxyprotocol.Header{
					Client:  netip.MustParseAddrPort(b.client.LocalAddr().String()),
					Dialled: netip.MustParseAddrPort(b.client.RemoteAddr().String()),
				}
				if balanced {
					b.client.say("%s", comeV1)
					want = come
				}
				b.accept()
				got, _, err := proxyprotocol.Read(b.server.lines)
				if got != want || err != nil {
					t.Errorf("got %+v, %v; want %+v", got, err, want)
				}
				b.server.say("220 hello\r\n")
				b.client.hear("220 hello")
				b.login()
			})
		}
	}
}

// A client behind a balancer may name its server, which learns of the client, too.
func TestNamedThroughBalancer(t *testing.T) {
	b := newStage(t, named, behindBalancer, func(_ *Proxy, f *forward.Resolved) {
		f.SendProxyProtocol = forward.ProxyProtocolV2
	})
	b.client = b.dial()
	b.client.say("%s", comeV1)
	b.client.hear(ownGreeting)
	b.client.say("USER demo@%s\r\n", b.at("ftp.example.com"))
	b.accept()
	if got, _, err := proxyprotocol.Read(b.server.lines); got != come || err != nil {
		t.Errorf("got %+v, %v; want %+v", got, err, come)
	}
	b.server.say("220 hello\r\n")
	b.server.hear("USER demo")
	b.server.say("230 welcome\r\n")
	b.client.hear("230-hello")
	b.client.hear("230 welcome")
	b.client.say("PASV\r\n")
	b.server.hear("PASV")
	b.server.say("227 Entering Passive Mode (127,0,0,1,195,80)\r\n")
	b.client.hear("227 Entering Passive Mode (192,0,2,1,195,80)")
	if p := b.path.last().pinhole; p.From != come.Client.Addr() || !p.Balanced {
		t.Errorf("got pinhole %+v; want one for %s through the balancer", p, come.Client.Addr())
	}
}

// With source "client" the server sees the address of the client that a balancer named, and gets the header.
func TestSourceThroughBalancer(t *testing.T) {
	var shown netip.Addr
	b := newStage(t, behindBalancer, func(p *Proxy, f *forward.Resolved) {
		f.Source, f.SendProxyProtocol = forward.SourceClient, forward.ProxyProtocolV2
		p.Show = func(_, _ netip.AddrPort, source netip.Addr) (func(), error) {
			shown = source
			return func() {}, nil
		}
	})
	b.client = b.dial()
	b.client.say("%s", comeV1)
	b.accept()
	if got, _, err := proxyprotocol.Read(b.server.lines); got != come || err != nil {
		t.Errorf("got %+v, %v; want %+v", got, err, come)
	}
	b.server.say("220 hello\r\n")
	b.client.hear("220 hello")
	if shown != come.Client.Addr() {
		t.Errorf("the server sees %s; want %s", shown, come.Client.Addr())
	}
}
