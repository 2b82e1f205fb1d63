package outbound

import (
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// A client that dials a server that it may not reach gets the reason, and the server sees nothing.
func TestRefusedServers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		flags []string
		why   string
	}{
		"denied": {[]string{"--deny-server", "203.0.113.0/24"},
			"421 this gateway does not lead to 203.0.113.21: it is denied"},
		"not allowed": {[]string{"--server", "198.51.100.0/24"},
			"421 this gateway does not lead to 203.0.113.21: it is not among the servers that are allowed"},
		"another client": {[]string{"--client", "192.168.5.1,192.168.5.9"}, "220"},
		"allowed":        {[]string{"--server", "203.0.113.21"}, "220"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTestbed(t, families["IPv4"], false, tt.flags...)
			if tt.why == "220" {
				s.Login().Quit()
				return
			}
			c := s.ConnectClient()
			if got := c.Expect("421"); got != tt.why {
				t.Errorf("got %q; want %q", got, tt.why)
			}
			c.ExpectClose()
			s.Program.AwaitLog("kind=server", 1)
		})
	}
}

// The gateway's own addresses and ports are left alone: clients reach its services, and no client gets into
// the gateway by way of the port that others are redirected to.
func TestOwnAddresses(t *testing.T) {
	t.Parallel()
	s := newTestbed(t, families["IPv4"], false)
	for _, at := range []string{"192.168.5.2:21", "203.0.113.1:21"} {
		service := harness.Listen(t, s.Gateway(), at)
		c, err := s.Client().Dial(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		harness.Accept(t, service).Close()
	}
	c, err := s.Client().Dial(t.Context(), "tcp", "192.168.5.2:8021")
	if err != nil {
		t.Fatal(err)
	}
	client := harness.NewControlConn(t, "the client", c)
	const want = "421 this gateway does not lead to 192.168.5.2: it is the gateway itself"
	if got := client.Expect("421"); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	s.WantService()
}

// A client that dials a forward of the same gateway gets that forward's server.
func TestLocalForward(t *testing.T) {
	t.Parallel()
	s := newTestbed(t, families["IPv4"], false)
	harness.Start(t, s.Gateway(), "forward", "192.168.5.2:21", harness.Server4).AwaitReady()
	s.Address = "192.168.5.2:21"
	p := s.Login()
	passive := p.Retrieve(netip.Addr{})
	if got := passive.Address.Addr(); got != lab.GatewayLAN4 {
		t.Errorf("the client is told to dial %s; want %s", got, lab.GatewayLAN4)
	}
	passive.Complete()
	p.Quit()
}

// Other ports than those of the outbound pass as ever.
func TestOtherPorts(t *testing.T) {
	t.Parallel()
	s := newTestbed(t, families["IPv4"], true, "--port", "2121,2122")
	for _, port := range []string{"2121", "2122"} {
		s.Address = "203.0.113.21:" + port
		s.Listener = harness.Listen(t, s.Server(), s.Address)
		s.WantService()
	}
	web := harness.Listen(t, s.Server(), "203.0.113.21:80")
	c, err := s.Client().Dial(t.Context(), "tcp", "203.0.113.21:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := harness.PeerAddr(harness.Accept(t, web)); got != lab.ClientAddr4 {
		t.Errorf("at another port the server sees %s; want %s, untranslated", got, lab.ClientAddr4)
	}
}

// Without the right to change the network an outbound, and a forward with source "client", do not start, and
// say why.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"outbound", "--interface", "lan0"},
		{"forward", "--source", "client", ":2121", "203.0.113.21"},
	} {
		l := labtest.New(t)
		_, stderr, status := harness.RunCommand(t, l.Gateway(), harness.UnprivilegedCommand(t, args...))
		if status != 1 || !strings.Contains(stderr, "it lacks CAP_NET_ADMIN") {
			t.Errorf("%v: got status %d and\n%s\nwant 1, and what is missing", args, status, stderr)
		}
	}
}

// After a kill the next start takes over, and its sessions work.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newTestbed(t, families["IPv4"], true, "--source", "client")
	p := s.Login()
	transfer := p.Retrieve(netip.Addr{})
	s.Program.Kill()
	transfer.Carry(harness.RandomBytes(1 << 20)) // the kernel carries it on
	s.StartProgram("outbound", "--interface", "lan0", "--source", "client")
	s.WantService()
}
