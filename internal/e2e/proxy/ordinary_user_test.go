package proxy

import (
	"net/netip"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// An ordinary user's gateway relays in every mode, and says how to get the kernel's speed.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	for _, at := range []harness.Forward{harness.Forward4, harness.Forward6} {
		t.Run(at.IPVersion(), func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), at.Server)
			// An address without host, as people type it.
			p := harness.StartCommand(t, l.Gateway(), harness.UnprivilegedCommand(t, "forward", ":2121",
				at.Server.Addr().String())).AwaitReady()
			peers.CheckClients(t, l, s, at, peers.Curl)
			harness.WantContains(t, p.Log(), "data connections are relayed by ftpgate itself",
				"lacks CAP_NET_ADMIN",
				"run it as root, or as a unit with AmbientCapabilities=CAP_NET_ADMIN", "data=relay")
			if got, err := l.Gateway().ReadSysctl("net.ipv4.ip_forward"); err != nil || got != "0" {
				t.Errorf("got ip_forward %q, error %v; want it left at 0", got, err)
			}
			p.Interrupt()
		})
	}
}

// What an ordinary user cannot have is a fault at the start, with a remedy.
func TestOrdinaryUserRefused(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	for name, tt := range map[string]struct{ args, want []string }{
		"a low port": {
			[]string{":21", "203.0.113.21"},
			[]string{"may not listen at port 21", "choose a port from 1024 on", "CAP_NET_BIND_SERVICE",
				"1 fault"},
		},
		"data kernel": {
			[]string{"--data", "kernel", ":2121", "203.0.113.21"},
			[]string{"lacks CAP_NET_ADMIN", "run it as root", "1 fault"},
		},
		"all at once": {
			[]string{"--data", "kernel", "192.168.9.9:21", "203.0.113.21"},
			[]string{"lacks CAP_NET_ADMIN", "192.168.9.9 is not an address of this host", "2 faults"},
		},
	} {
		_, stderr, status := harness.RunCommand(t, l.Gateway(), harness.UnprivilegedCommand(t,
			append([]string{"forward"}, tt.args...)...))
		if status != 1 {
			t.Errorf("%s: got exit status %d; want 1", name, status)
		}
		harness.WantContains(t, stderr, tt.want...)
	}
}

// All faults of a proxy are reported at once, and before that no client is served.
func TestProxyReportsAllFaults(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	taken := harness.Listen(t, l.Gateway(), "192.168.5.2:2122")
	file := harness.WriteFile(t, "ftpgate.toml", `
[[forward]]
listen = "192.168.9.9:2121"
server = "203.0.113.21"
[[forward]]
listen = "192.168.5.2:2122"
server = "203.0.113.21"
[[forward]]
listen = ":2123"
interface = "lan9"
server = "203.0.113.21"
[[forward]]
listen = "192.168.5.2:2124"
server = "203.0.113.1:2121"
[[forward]]
listen = "192.168.5.2:2125"
server = "203.0.113.21"
`)
	_, stderr, status := harness.Run(t, l.Gateway(), "run", "-c", file)
	if status != 1 {
		t.Errorf("got exit status %d; want 1", status)
	}
	harness.WantContains(t, stderr, "192.168.9.9 is not an address of this host",
		"listen "+taken.Addr().String()+" is in use by ",
		`interface \"lan9\" does not exist`, "is this gateway itself", "4 faults, nothing has been changed")
	harness.WantRefused(t, l.Client(), "192.168.5.2:2125")
}

// Clients that a forward is not for get a 421.
func TestProxyOnlyFor(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t, "--client", "192.168.5.1")
	otherClient := netip.MustParseAddr("192.168.5.66")
	harness.AddAddress(t, s.Client(), lab.ClientLink, otherClient.String()+"/24")
	c, err := harness.DialFrom(t, s.Client(), otherClient, harness.Forward4.Listen)
	if err != nil {
		t.Fatal(err)
	}
	harness.NewControlConn(t, "the other client", c).Expect("421 ")
	s.Program.AwaitLog("kind=client", 1)
	s.WantService()
	s.Program.Interrupt()
	s.StartProgram("forward", "--interface", lab.GatewayLANLink, ":2121", harness.Server4)
	s.WantService()
	harness.WantRefused(t, s.Server(), "203.0.113.1:2121")
}
