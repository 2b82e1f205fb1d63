package preflight

import (
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// proxied makes it a forward with tracking proxy.
func proxied(f *forward.Resolved) { f.Tracking = forward.TrackingProxy }

func relayed(f *forward.Resolved) { f.Data = forward.DataRelay }

func TestCheckProxy(t *testing.T) {
	found := soundHost()
	found.Listeners = []system.Listener{listener("0.0.0.0:2121", "vsftpd (pid 1)")}
	found.Refusing = []nftforeign.Chain{{Family: "ip", Table: "filter", Name: "FORWARD"}}
	// Its own socket finds out whether the address is in use, and a relay needs no forwarding.
	wantFindings(t, Check(found, []forward.Resolved{
		testForward(":2121", "203.0.113.21", proxied, relayed),
		testForward("127.0.0.1:2122", "127.0.0.1:2100", proxied, relayed),
	}))
	several := func(f *forward.Resolved) { f.Servers = addrs("203.0.113.9", "203.0.113.1") }
	findings := Check(soundHost(), []forward.Resolved{
		testForward(":2121", "ftp.example.com", proxied, several),
		testForward("192.168.5.2:2122", "127.0.0.1", proxied),
	})
	if len(findings) != 2 || !strings.Contains(findings[0].Text, "(203.0.113.1)") ||
		!strings.Contains(findings[1].Text, "is this gateway itself") {
		t.Errorf("got %v; want both servers found to be the gateway", findings)
	}
}

// A range that encrypted sessions pass through is a finding only where it takes something of the gateway's
// own.
func TestCheckPassthrough(t *testing.T) {
	passing := func(f *forward.Resolved) { f.ServerPorts = forward.PortRange{First: 50000, Last: 50100} }
	terminated := func(f *forward.Resolved) { f.TLS.Client = forward.ClientTLSRequired }
	found := soundHost()
	found.Listeners = []system.Listener{
		listener("192.168.5.2:50001", "vsftpd (pid 1)"),
		listener("192.168.5.2:50200", "sshd (pid 2)"),
		listener("203.0.113.1:50002", ""),
		listener("127.0.0.1:50003", "resolver (pid 3)"),
		listener("[2001:db8:5::2]:50004", "web (pid 4)"),
	}
	const begin = `warning: forward "main": while a client has an encrypted session, ports 50000-50100 ` +
		`are forwarded to the server; the client cannot reach the gateway's own `
	const end = " there: if that is not meant, narrow server_ports to the server's " +
		"passive range, or have those programs listen elsewhere"
	for _, tt := range []struct {
		forward forward.Resolved
		want    []string
	}{
		{testForward("192.168.5.2:2121", "203.0.113.21", proxied, passing),
			[]string{begin + "50001 by vsftpd (pid 1)" + end}},
		{testForward(":2121", "203.0.113.21", proxied, passing), []string{begin +
			"50001 by vsftpd (pid 1), 50002 by another program, 50004 by web (pid 4)" + end}},
		{testForward("127.0.0.1:2121", "203.0.113.21", proxied, passing), nil},
		{testForward("192.168.5.2:2121", "203.0.113.21", proxied, passing, terminated), nil},
	} {
		wantFindings(t, Check(found, []forward.Resolved{tt.forward}), tt.want...)
	}
	wantFindings(t, Check(soundHost(), []forward.Resolved{testForward("192.168.5.2:2121", "203.0.113.21",
		proxied, passing)}))
}
