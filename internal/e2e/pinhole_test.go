package e2e

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// dataPaths are the flags for either data path.
var dataPaths = map[string][]string{"kernel": {"--data", "kernel"}, "relay": {"--data", "relay"}}

// Both ends meet on the data connection whom they know from control, whatever addresses the gateway
// has on either side: servers and clients refuse anybody else.
func TestPeersOfData(t *testing.T) {
	for path, flags := range dataPaths {
		for name, tt := range map[string]struct{ listen, server, outside string }{
			"primary addresses":   {"192.168.5.2", "203.0.113.21", "203.0.113.1"},
			"secondary addresses": {"192.168.5.3", "203.0.113.22", "203.0.113.3"},
		} {
			t.Run(path+"/"+name, func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				addAddress(t, l.Gateway(), lab.GatewayLANLink, "192.168.5.3/24")
				addAddress(t, l.Gateway(), lab.GatewayWANLink, "203.0.113.3/24")
				addAddress(t, l.Server(), lab.ServerLink, "203.0.113.22/24")
				sh(t, l.Gateway(), "ip route replace 203.0.113.0/24 dev wan0 src %s", tt.outside)
				s := &stage{Lab: l, t: t, dial: tt.listen + ":2121", control: listen(t, l.Server(), tt.server+":21")}
				s.begin(append(append([]string{"forward"}, flags...), ":2121", tt.server)...)
				p := s.login()
				p.peers(tt.outside, tt.listen)
				// The kernel would choose another address from now on; the session stays who it is.
				sh(t, l.Gateway(), "ip route replace 203.0.113.0/24 dev wan0 src 203.0.113.1")
				p.peers(tt.outside, tt.listen)
				p.quit()
			})
		}
	}
}

// peers transfers in either mode, and looks whom both ends see.
func (p pair) peers(outside, dialled string) {
	p.t.Helper()
	if got := peerOf(p.server).String(); got != outside {
		p.t.Errorf("on control the server sees %s; want %s", got, outside)
	}
	passive := p.retrieve(netip.Addr{})
	if got := passive.at.Addr().String(); got != dialled {
		p.t.Errorf("the 227 names %s; want %s", got, dialled)
	}
	if got := peerOf(passive.from).String(); got != outside {
		p.t.Errorf("in passive mode the server sees %s; want %s", got, outside)
	}
	passive.complete()
	active := p.retrieveActive()
	if got := active.at.Addr().String(); got != outside {
		p.t.Errorf("the server is told %s in PORT; want %s", got, outside)
	}
	if got := peerOf(active.to).String(); got != dialled {
		p.t.Errorf("in active mode the client sees %s; want %s", got, dialled)
	}
	active.complete()
}

func addAddress(t *testing.T, h *lab.Host, link, prefix string) {
	t.Helper()
	if err := h.AddAddress(link, netip.MustParsePrefix(prefix)); err != nil {
		t.Fatal(err)
	}
}

// One client, one connection: a stranger neither gets through nor uses it up, and who has used it
// cannot come again.
func TestPinholeServesOnce(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, flags...)
			stranger := netip.MustParseAddr("192.168.5.66")
			addAddress(t, s.Client(), lab.ClientLink, stranger.String()+"/24")
			p := s.login()
			data, at := p.passive(netip.Addr{})
			s.wantNothingThrough(stranger, at)
			c, err := dialFrom(t, s.Client(), lab.ClientAddr4, at)
			if err != nil {
				t.Fatalf("the client, after a stranger: %v", err)
			}
			b := begun{p, accept(t, data), c, at}
			s.wantNothingThrough(lab.ClientAddr4, at)
			s.wantNothingThrough(stranger, at)
			p.ask("RETR file", "150 here it comes")
			b.complete()
			s.wantNothingThrough(lab.ClientAddr4, at)
			s.serves()
		})
	}
}

// wantNothingThrough expects that a connection is refused, or ended without a byte.
func (s *stage) wantNothingThrough(from netip.Addr, at netip.AddrPort) {
	s.t.Helper()
	c, err := dialFrom(s.t, s.Client(), from, at)
	if err != nil {
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			s.t.Errorf("%s to %s: got %v; want it refused", from, at, err)
		}
		return
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
		s.t.Errorf("%s to %s: got %d bytes, error %v; want the connection ended", from, at, n, err)
	}
}

// A pinhole lives as long as what it was asked for.
func TestPinholeGone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.login()
	p.passive(netip.Addr{})
	s.wantHoles(1, "after PASV")
	_, second := p.passive(netip.Addr{})
	s.wantHoles(1, "after PASV again")
	p.ask("ABOR", "226 nothing to abort")
	p.ask("NOOP", "200 done")
	s.wantHoles(0, "after ABOR")
	s.wantNothingThrough(lab.ClientAddr4, second)

	p.active()
	s.wantHoles(1, "after PORT")
	p.client.say("PORT %s", commas(netip.AddrPortFrom(lab.ClientAddr4, 40_000)))
	p.server.hear("PORT")
	p.server.say("500 no")
	p.client.hear("500")
	p.ask("NOOP", "200 done")
	s.wantHoles(0, "after PORT that the server refuses")

	p.passive(netip.Addr{})
	p.quit()
	s.gate.await("session ends", 1)
	s.wantHoles(0, "after QUIT")
	p = s.login()
	p.passive(netip.Addr{})
	p.client.Close()
	s.gate.await("session ends", 2)
	s.wantHoles(0, "after the client has gone")
	p = s.login()
	p.passive(netip.Addr{})
	p.server.Close()
	p.client.hear("421")
	p.client.ended()
	s.gate.await("session ends", 3)
	s.wantHoles(0, "after the server has gone")
	s.serves()
}

// A used pinhole lets nobody in, and is gone soon; its port serves again.
func TestPinholeOfTransferThatIsOver(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, append(flags, "--passive-ports", "50000")...)
			p := s.login()
			for range 20 {
				b := p.retrieve(netip.Addr{})
				b.complete()
				s.wantNothingThrough(lab.ClientAddr4, b.at)
				p.retrieveActive().complete()
			}
			if path == "kernel" {
				s.awaitNoHoles()
			}
		})
	}
}

// Some servers (pyftpdlib) connect as soon as they hear PORT, and answer it when that has worked.
func TestServerConnectsBeforeItAnswersPORT(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, flags...)
			p := s.login()
			data := listen(t, s.Client(), netip.AddrPortFrom(lab.ClientAddr4, 0).String())
			p.client.say("PORT %s", commas(data.Addr().(*net.TCPAddr).AddrPort()))
			at := hostPort(t, p.server.hear("PORT"))
			c, err := dialFrom(t, s.Server(), lab.ServerAddr4, at)
			if err != nil {
				t.Fatalf("the server to %s: %v; want it let through", at, err)
			}
			p.server.say("200 active data connection established")
			p.client.hear("200")
			b := begun{p, c, accept(t, data), at}
			p.ask("RETR file", "125 here it comes")
			b.complete()
		})
	}
}

// awaitNoHoles waits for the kernel to be rid of all pinholes.
func (s *stage) awaitNoHoles() {
	s.t.Helper()
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	deadline := time.After(patience)
	for s.holes() > 0 {
		select {
		case <-retry.C:
		case <-deadline:
			s.t.Fatalf("got %d pinholes after %s; want none", s.holes(), patience)
		}
	}
}

// The kernel carries what it has begun to carry, with or without ftpgate; the next start takes over.
func TestDataOutlivesProgram(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	labtest.Need(t, "nft")
	passive, active := s.login().retrieve(netip.Addr{}), s.login().retrieveActive()
	for _, b := range []begun{passive, active} {
		b.carry(payload(1 << 20))
	}
	s.gate.kill()
	for _, b := range []begun{passive, active} {
		b.carry(payload(1 << 20))
	}
	s.begin("forward", gateway4, server4)
	if got := strings.Count(rules(t, s.Gateway()), "table inet ftpgate"); got != 1 {
		t.Errorf("got %d tables after a new start; want 1", got)
	}
	s.serves()
	for _, b := range []begun{passive, active} {
		b.carry(payload(1 << 20))
		b.through()
	}
}

// A client on the gateway itself: its packets pass no prerouting, so that the relay serves it.
func TestClientOnGateway(t *testing.T) {
	l := newLab(t, ":21")
	start(t, l.Gateway(), "forward", ":2121", "203.0.113.21").ready()
	for _, at := range []string{gateway4, gateway6, "127.0.0.1:2121", "[::1]:2121"} {
		list(t, session(t, l.Gateway(), at))
	}
	list(t, session(t, l.Gateway(), gateway4, disableEPSV))
	list(t, session(t, l.Client(), gateway4))
	listActive(t, l.Gateway())
}

// What a 227 names is for the operator to say, where the gateway is itself behind a translation; the
// pinhole is where the packets come to.
func TestAdvertise(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, append(flags, "--advertise", "198.51.100.7,192.168.5.66=198.51.100.8")...)
			p := s.login()
			data, at := p.passive(netip.Addr{})
			if got := at.Addr().String(); got != "198.51.100.7" {
				t.Errorf("the 227 names %s; want 198.51.100.7", got)
			}
			c, err := dialFrom(t, s.Client(), lab.ClientAddr4, netip.AddrPortFrom(lab.GatewayLAN4, at.Port()))
			if err != nil {
				t.Fatal(err)
			}
			p.ask("RETR file", "150 here it comes")
			begun{p, accept(t, data), c, at}.complete()
		})
	}
}
