package outbound

import (
	"net/netip"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// TestClients makes real clients list, download and upload with real servers, which they dial by the servers'
// own addresses, in every mode that they know.
func TestClients(t *testing.T) {
	t.Parallel()
	for version, f := range families {
		for name, run := range peers.Servers {
			t.Run(version+"/"+name, func(t *testing.T) {
				t.Parallel()
				checkClients(t, f, run, "gateway", "--data", "kernel")
			})
		}
		t.Run(version+"/relay", func(t *testing.T) {
			t.Parallel()
			checkClients(t, f, peers.Servers["vsftpd"], "gateway", "--data", "relay")
		})
	}
}

// TestClientsSeen does the same with servers that see the clients' own addresses.
func TestClientsSeen(t *testing.T) {
	t.Parallel()
	for version, f := range families {
		for name, run := range peers.Servers {
			if version == "IPv6" && name != "proftpd" { // the kernel's part is the same for all
				continue
			}
			t.Run(version+"/"+name, func(t *testing.T) {
				t.Parallel()
				checkClients(t, f, run, "client", "--data", "kernel")
			})
		}
		t.Run(version+"/relay", func(t *testing.T) {
			t.Parallel()
			checkClients(t, f, peers.Servers["vsftpd"], "client", "--data", "relay")
		})
	}
}

// checkClients runs clients through an outbound against a server.
func checkClients(t *testing.T, f family, run func(*testing.T, *lab.Host, netip.AddrPort) peers.Server,
	source string, flags ...string) {
	t.Helper()
	l := labtest.New(t)
	for host, route := range map[*lab.Host]string{l.Client(): f.routes[0], l.Server(): f.routes[1]} {
		if host == l.Client() || source == "client" {
			harness.Shell(t, host, "%s", route)
		}
	}
	at := harness.Forward{Listen: netip.AddrPortFrom(f.server, 21), Server: netip.AddrPortFrom(f.server, 21),
		Source: f.wan}
	if source == "client" {
		at.Source = f.client
	}
	s := run(t, l.Server(), at.Server)
	harness.Start(t, l.Gateway(), append([]string{"outbound", "--interface", "lan0", "--source", source},
		flags...)...).AwaitReady()
	clients := []peers.Client{peers.LFTP, peers.Curl}
	if source == "gateway" {
		clients = append(clients, peers.NcFTP, peers.Tnftp)
	}
	peers.CheckClients(t, l, s, at, clients...)
}
