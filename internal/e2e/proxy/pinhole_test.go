package proxy

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// On the data connection each end sees the peer of its control connection, whatever addresses the
// gateway has: servers and clients refuse any other.
func TestPeersOfData(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		for name, tt := range map[string]struct{ listen, server, outside string }{
			"primary addresses":   {"192.168.5.2", "203.0.113.21", "203.0.113.1"},
			"secondary addresses": {"192.168.5.3", "203.0.113.22", "203.0.113.3"},
		} {
			t.Run(path+"/"+name, func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				harness.AddAddress(t, l.Gateway(), lab.GatewayLANLink, "192.168.5.3/24")
				harness.AddAddress(t, l.Gateway(), lab.GatewayWANLink, "203.0.113.3/24")
				harness.AddAddress(t, l.Server(), lab.ServerLink, "203.0.113.22/24")
				harness.Shell(t, l.Gateway(), "ip route replace 203.0.113.0/24 dev wan0 src %s", tt.outside)
				s := &harness.Testbed{Lab: l, T: t, Address: tt.listen + ":2121",
					Listener: harness.Listen(t, l.Server(), tt.server+":21")}
				s.StartProgram(append(append([]string{"forward"}, flags...), ":2121", tt.server)...)
				p := s.Login()
				wantDataPeers(p, tt.outside, tt.listen)
				// The kernel would now choose another source address. The session keeps its own.
				harness.Shell(t, l.Gateway(), "ip route replace 203.0.113.0/24 dev wan0 src 203.0.113.1")
				wantDataPeers(p, tt.outside, tt.listen)
				p.Quit()
			})
		}
	}
}

// wantDataPeers transfers in both modes, and checks which peer each end sees.
func wantDataPeers(p harness.Session, outside, dialled string) {
	p.T.Helper()
	if got := harness.PeerAddr(p.Server).String(); got != outside {
		p.T.Errorf("on control the server sees %s; want %s", got, outside)
	}
	passive := p.Retrieve(netip.Addr{})
	if got := passive.Address.Addr().String(); got != dialled {
		p.T.Errorf("the 227 names %s; want %s", got, dialled)
	}
	if got := harness.PeerAddr(passive.ServerData).String(); got != outside {
		p.T.Errorf("in passive mode the server sees %s; want %s", got, outside)
	}
	passive.Complete()
	active := p.RetrieveActive()
	if got := active.Address.Addr().String(); got != outside {
		p.T.Errorf("the server got %s in PORT; want %s", got, outside)
	}
	if got := harness.PeerAddr(active.ClientData).String(); got != dialled {
		p.T.Errorf("in active mode the client sees %s; want %s", got, dialled)
	}
	active.Complete()
}

// A pinhole admits one connection of one client, and is closed soon after it has come. An unexpected peer
// neither gets through nor uses it up.
func TestPinholeServesOnce(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, flags...)
			unexpected := netip.MustParseAddr("192.168.5.66")
			harness.AddAddress(t, s.Client(), lab.ClientLink, unexpected.String()+"/24")
			p := s.Login()
			data, at := p.Passive(netip.Addr{})
			s.WantNoData(unexpected, at)
			c, err := harness.DialFrom(t, s.Client(), lab.ClientAddr4, at)
			if err != nil {
				t.Fatalf("the client, after an unexpected peer: %v", err)
			}
			b := harness.Transfer{Session: p, ServerData: harness.Accept(t, data), ClientData: c, Address: at}
			if path == "kernel" {
				s.AwaitNoPinholes()
			}
			s.WantNoData(lab.ClientAddr4, at)
			s.WantNoData(unexpected, at)
			p.Exchange("RETR file", "150 here it comes")
			b.Complete()
			s.WantNoData(lab.ClientAddr4, at)
			s.WantService()
		})
	}
}

// A pinhole ends with the transfer or the session that it was opened for.
func TestPinholeGone(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t)
	p := s.Login()
	p.Passive(netip.Addr{})
	s.WantPinholes(1, "after PASV")
	_, second := p.Passive(netip.Addr{})
	s.WantPinholes(1, "after PASV again")
	p.Exchange("ABOR", "226 nothing to abort")
	p.Exchange("NOOP", "200 done")
	s.WantPinholes(0, "after ABOR")
	s.WantNoData(lab.ClientAddr4, second)

	p.Active()
	s.WantPinholes(1, "after PORT")
	p.Client.Send("PORT %s", harness.FormatHostPort(netip.AddrPortFrom(lab.ClientAddr4, 40_000)))
	p.Server.Expect("PORT")
	p.Server.Send("500 no")
	p.Client.Expect("500")
	p.Exchange("NOOP", "200 done")
	s.WantPinholes(0, "after PORT that the server refuses")

	p.Passive(netip.Addr{})
	p.Quit()
	s.Program.AwaitLog("session ends", 1)
	s.WantPinholes(0, "after QUIT")
	p = s.Login()
	p.Passive(netip.Addr{})
	p.ClientLeaves()
	s.Program.AwaitLog("session ends", 2)
	s.WantPinholes(0, "after the client has gone")
	p = s.Login()
	p.Passive(netip.Addr{})
	p.Server.Close()
	p.Client.Expect("421")
	p.Client.ExpectClose()
	s.Program.AwaitLog("session ends", 3)
	s.WantPinholes(0, "after the server has gone")
	s.WantService()
}

// A used pinhole is soon removed, and then no connection gets through. Its port can be used again.
func TestPinholeOfTransferThatIsOver(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, append(flags, "--passive-ports", "50000")...)
			p := s.Login()
			for range 20 {
				b := p.Retrieve(netip.Addr{})
				b.Complete()
				if path == "kernel" {
					s.AwaitNoPinholes()
				}
				s.WantNoData(lab.ClientAddr4, b.Address)
				p.RetrieveActive().Complete()
			}
			if path == "kernel" {
				s.AwaitNoPinholes()
			}
		})
	}
}

// Some servers (pyftpdlib) connect when they get PORT, and reply once that has worked.
func TestServerConnectsBeforeItAnswersPORT(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, flags...)
			p := s.Login()
			data := harness.Listen(t, s.Client(), netip.AddrPortFrom(lab.ClientAddr4, 0).String())
			p.Client.Send("PORT %s", harness.FormatHostPort(data.Addr().(*net.TCPAddr).AddrPort()))
			at := harness.ParseHostPort(t, p.Server.Expect("PORT"))
			c, err := harness.DialFrom(t, s.Server(), lab.ServerAddr4, at)
			if err != nil {
				t.Fatalf("the server to %s: %v; want it let through", at, err)
			}
			p.Server.Send("200 active data connection established")
			p.Client.Expect("200")
			b := harness.Transfer{Session: p, ServerData: c, ClientData: harness.Accept(t, data), Address: at}
			p.Exchange("RETR file", "125 here it comes")
			b.Complete()
		})
	}
}

// The kernel continues with the transfers that it carries when ftpgate is killed. The next start takes
// over.
func TestDataOutlivesProgram(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t)
	labtest.Need(t, "nft")
	passive, active := s.Login().Retrieve(netip.Addr{}), s.Login().RetrieveActive()
	for _, b := range []harness.Transfer{passive, active} {
		b.Carry(harness.RandomBytes(1 << 20))
	}
	s.Program.Kill()
	for _, b := range []harness.Transfer{passive, active} {
		b.Carry(harness.RandomBytes(1 << 20))
	}
	s.StartProgram("forward", harness.Gateway4, harness.Server4)
	if got := strings.Count(harness.Ruleset(t, s.Gateway()), "table inet ftpgate"); got != 1 {
		t.Errorf("got %d tables after a new start; want 1", got)
	}
	s.WantService()
	for _, b := range []harness.Transfer{passive, active} {
		b.Carry(harness.RandomBytes(1 << 20))
		b.Finish()
	}
}

// A client on the gateway itself is relayed: its packets do not pass prerouting.
func TestClientOnGateway(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	harness.Start(t, l.Gateway(), "forward", ":2121", "203.0.113.21").AwaitReady()
	for _, at := range []string{harness.Gateway4, harness.Gateway6, "127.0.0.1:2121", "[::1]:2121"} {
		peers.List(t, peers.LoginFTP(t, l.Gateway(), at))
	}
	peers.List(t, peers.LoginFTP(t, l.Gateway(), harness.Gateway4, peers.DisableEPSV))
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4))
	peers.ListActive(t, l.Gateway())
}

// The operator chooses the address in a 227 when the gateway is itself behind NAT. The pinhole stays
// where the packets arrive.
func TestAdvertise(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, append(flags, "--advertise",
				"198.51.100.7,192.168.5.66=198.51.100.8")...)
			p := s.Login()
			data, at := p.Passive(netip.Addr{})
			if got := at.Addr().String(); got != "198.51.100.7" {
				t.Errorf("the 227 names %s; want 198.51.100.7", got)
			}
			c, err := harness.DialFrom(t, s.Client(), lab.ClientAddr4,
				netip.AddrPortFrom(lab.GatewayLAN4, at.Port()))
			if err != nil {
				t.Fatal(err)
			}
			p.Exchange("RETR file", "150 here it comes")
			harness.Transfer{Session: p, ServerData: harness.Accept(t, data), ClientData: c,
				Address: at}.Complete()
		})
	}
}
