package ftps

import (
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// routeDirectly joins the lab's client and server by routes through the gateway's host, without ftpgate.
func routeDirectly(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, s := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := l.Gateway().WriteSysctl(s, "1"); err != nil {
			t.Fatal(err)
		}
	}
	for h, via := range map[*lab.Host][2]netip.Addr{
		l.Client(): {lab.GatewayLAN4, lab.GatewayLAN6},
		l.Server(): {lab.GatewayWAN4, lab.GatewayWAN6},
	} {
		for _, a := range via {
			harness.Shell(t, h, "ip route add default via %s", a)
		}
	}
}

// resumptionRefused is what the servers say that demand it, to a client that does not resume.
var resumptionRefused = map[string]string{"vsftpd": "522 SSL connection failed", "proftpd": "425 Unable to build data connection"}

// incompatible says why a client and a server do not get on over TLS without a gateway, or with one that
// reads nothing; "" if they do.
func incompatible(client, server string) string {
	switch {
	case client == "curl" && server == "pyftpdlib":
		return "pyftpdlib 1.5.7 takes a data connection for lost on which anything comes before the transfer's command (DTPHandler.readable), and curl begins TLS at once"
	case client == "ftplib" && resumptionRefused[server] != "":
		return "the server demands that the session is resumed, and ftplib does not know how"
	}
	return ""
}

// TestFTPSWithoutGateway has the peers of the other tests get on with each other: what fails there is
// the gateway's. It holds what ownFault says, too.
func TestFTPSWithoutGateway(t *testing.T) {
	for serverName, run := range peers.TLSServers {
		for clientName, with := range peers.TLSClients {
			for _, version := range []string{"1.2", "1.3"} {
				t.Run(serverName+"/"+clientName+"/"+version, func(t *testing.T) {
					t.Parallel()
					l := labtest.New(t)
					routeDirectly(t, l)
					a := harness.NewAuthority(t)
					s := run(t, l.Server(), harness.Forward4.Server, peers.ServerTLS{Certificate: a.IssueServer()})
					c := with(t, peers.ClientTLS{CAFile: a.CAFile, Version: version, UsePASVAddress: true})
					o := peers.RunClient(t, l.Client(), c, s, peers.PASV, harness.Forward4.Server)
					switch fault := incompatible(clientName, serverName); {
					case fault == "":
						o.WantFiles(t, s)
					case o.Err == nil:
						t.Errorf("got files; want none: %s", fault)
					case clientName == "ftplib" && !strings.Contains(o.Transcript, resumptionRefused[serverName]):
						t.Errorf("got %v; want %q", o.Err, resumptionRefused[serverName])
					}
				})
			}
		}
	}
}
