package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// balanced is a gateway with HAProxy on the same host, which has an address of its own there: clients dial
// that, and HAProxy connects from it to the gateway's.
type balanced struct {
	harness.Forward            // as the clients and the server see it
	gateway         netip.Addr // where ftpgate listens
}

var (
	balancer4 = netip.MustParseAddr("192.168.5.3")
	balancer6 = netip.MustParseAddr("2001:db8:5::3")

	balanced4 = balanced{harness.Forward{Listen: netip.AddrPortFrom(balancer4, 2121),
		Server: harness.Forward4.Server, Source: harness.Forward4.Source}, lab.GatewayLAN4}
	balanced6 = balanced{harness.Forward{Listen: netip.AddrPortFrom(balancer6, 2121),
		Server: harness.Forward6.Server, Source: harness.Forward6.Source}, lab.GatewayLAN6}
)

// start runs HAProxy and ftpgate. send is what HAProxy sends, and check how it checks.
func (b balanced) start(t *testing.T, l *lab.Lab, send, check string, flags ...string) (peers.HAProxy,
	*harness.Program) {
	t.Helper()
	balancer, bits, written := b.Listen.Addr(), 24, "%s"
	if balancer.Is6() {
		bits, written = 64, "[%s]"
	}
	harness.AddAddress(t, l.Gateway(), lab.GatewayLANLink, netip.PrefixFrom(balancer, bits).String())
	program := harness.Start(t, l.Gateway(), append(append([]string{"forward", "--accept-proxy-protocol",
		balancer.String(), "--passive-ports", "50000-50009"}, flags...),
		netip.AddrPortFrom(b.gateway, 2121).String(), b.Server.String())...).AwaitReady()
	haproxy := peers.StartHAProxy(t, l.Gateway(), fmt.Sprintf(`
frontend control
	bind %[1]s:2121
	unique-id-format %%{+X}o%%ci:%%cp
	default_backend control
backend control
	%[4]s
	server a %[2]s:2121 source %[1]s %[3]s
frontend data
	bind %[1]s:50000-50009
	unique-id-format %%{+X}o%%ci:%%cp
	default_backend data
backend data
	server a %[2]s source %[1]s %[5]s
`, fmt.Sprintf(written, balancer), fmt.Sprintf(written, b.gateway), send, check, strings.Fields(send)[0]))
	return haproxy, program
}

// withTLVs are headers of version 2 with additions.
const withTLVs = "send-proxy-v2 proxy-v2-options unique-id,crc32c,authority"

// Real clients reach a real server through HAProxy, passive and active, and the log has their address.
func TestHAProxy(t *testing.T) {
	for name, tt := range map[string]struct {
		balanced
		send    string
		clients []peers.Client
	}{
		"IPv4, v1": {balanced4, "send-proxy", []peers.Client{peers.Curl}},
		"IPv4, v2": {balanced4, withTLVs, []peers.Client{peers.Curl, peers.LenientLFTP}},
		"IPv6, v2": {balanced6, withTLVs, []peers.Client{peers.Curl}},
		"IPv6, v1": {balanced6, "send-proxy", []peers.Client{peers.LenientLFTP}},
	} {
		t.Run(name, func(t *testing.T) {
			l := labtest.New(t)
			server := peers.VSFTPD(t, l.Server(), tt.Server)
			_, program := tt.start(t, l, tt.send, "")
			peers.CheckClients(t, l, server, tt.Forward, tt.clients...)
			client := lab.ClientAddr4
			if tt.Listen.Addr().Is6() {
				client = lab.ClientAddr6
			}
			program.AwaitLog(" client="+portless(client), 1)
			program.AwaitLog(" balancer="+portless(tt.Listen.Addr()), 1)
		})
	}
}

// portless is how an address with any port begins in the log.
func portless(addr netip.Addr) string {
	return strings.TrimSuffix(netip.AddrPortFrom(addr, 0).String(), "0")
}

// HAProxy's checks of the gateway succeed, are no sessions, and reach no server.
func TestHAProxyChecks(t *testing.T) {
	const greeting = "option tcp-check\n\ttcp-check expect rstring ^220"
	for name, tt := range map[string]struct{ send, check, status string }{
		"v1, connects": {"send-proxy check check-send-proxy inter 50ms", "", "L4OK"},
		"v2, greeted":  {"send-proxy-v2 check check-send-proxy inter 50ms", greeting, "L7OK"},
	} {
		t.Run(name, func(t *testing.T) {
			l := labtest.New(t)
			b := balanced4
			haproxy, program := b.start(t, l, tt.send, tt.check, "--log-level", "debug")
			program.AwaitLog("a balancer checks the gateway", 5)
			if status := haproxy.Ask("show stat"); !strings.Contains(status, tt.status) ||
				!strings.Contains(status, ",UP,") {
				t.Errorf("got %s; want UP and %s", status, tt.status)
			}
			if log := program.Log(); strings.Contains(log, "session begins") ||
				strings.Contains(log, "refused") {
				t.Errorf("a check is a session:\n%s", log)
			}
		})
	}
}

// A server that expects headers learns the client, on passive data connections, too, also behind a balancer.
func TestServerIsTold(t *testing.T) {
	for name, tt := range map[string]struct {
		version  string
		data     bool
		balanced bool
	}{
		"v1":                   {"v1", false, false},
		"v2, data":             {"v2", true, false},
		"v1, data, a balancer": {"v1", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := labtest.New(t)
			f, flags := harness.Forward4, []string{"--send-proxy-protocol", tt.version}
			if tt.balanced {
				f = balanced4.Forward
			}
			server, headers := peers.ProxyProtocolServer(t, l.Server(), f.Server, tt.data)
			if tt.data {
				// It refuses a PORT with another address than the client's.
				flags = append(flags, "--send-proxy-protocol-data", "--server-mode", "passive")
			}
			if tt.balanced {
				balanced4.start(t, l, "send-proxy-v2", "", flags...)
			} else {
				harness.StartForward(t, l, f, flags...)
			}
			peers.CheckClients(t, l, server, f, peers.Curl)
			told := harness.ReadFile(t, headers)
			for what, want := range map[string]bool{"session": true, "data": tt.data} {
				line := fmt.Sprintf("%s of %s, which dialled %s port ", what, lab.ClientAddr4,
					f.Listen.Addr())
				if got := strings.Contains(told, line); got != want {
					t.Errorf("got %q %t; want %t:\n%s", line, got, want, told)
				}
			}
			if strings.Contains(told, "refused") {
				t.Errorf("a header was refused:\n%s", told)
			}
		})
	}
}
