package outbound

import (
	"net/netip"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// FTPS from end to end passes through an outbound, in passive mode, whoever the server sees.
func TestPassthrough(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"gateway", "client"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			l, f, a := labtest.New(t), families["IPv4"], harness.NewAuthority(t)
			harness.Shell(t, l.Client(), "%s", f.routes[0])
			if source == "client" {
				harness.Shell(t, l.Server(), "%s", f.routes[1])
			}
			at := netip.AddrPortFrom(f.server, 21)
			s := peers.VSFTPDWithTLS(t, l.Server(), at, peers.ServerTLS{Certificate: a.IssueServer()})
			harness.Start(t, l.Gateway(), "outbound", "--interface", "lan0", "--source", source,
				"--server-ports", peers.PassiveRange).AwaitReady()
			c := peers.CurlWithTLS(t, peers.ClientTLS{CAFile: a.CAFile}).Passive()
			for _, m := range c.Modes(harness.Forward4) {
				o := peers.RunClient(t, l.Client(), c, s, m, at)
				o.WantFiles(t, s)
				o.WantClientModes(t)
			}
		})
	}
}

// ftpgate speaks TLS with the servers that plain clients dial, and carries their data by the relay.
func TestServerTLS(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"gateway", "client"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			a := harness.NewAuthority(t)
			run := func(t *testing.T, h *lab.Host, at netip.AddrPort) peers.Server {
				return peers.VSFTPDWithTLS(t, h, at, peers.ServerTLS{Certificate: a.IssueServer()})
			}
			checkClients(t, families["IPv4"], run, source, a.ServerTLSFlags()...)
		})
	}
}
