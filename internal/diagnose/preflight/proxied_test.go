package preflight_test

import (
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/preflight"
)

// proxied is a forward with tracking proxy, with changes.
func proxied(listen, server string, changes ...func(*forward.Resolved)) forward.Resolved {
	f := testForward(listen, server, func(f *forward.Resolved) { f.Tracking = forward.TrackingProxy })
	for _, change := range changes {
		change(&f)
	}
	return f
}

func TestExamineProxy(t *testing.T) {
	facts := host()
	facts.Listeners = []preflight.Listener{listener("0.0.0.0:2121", "vsftpd (pid 1)")}
	facts.Refusing = []preflight.Refusing{{Family: "ip", Table: "filter", Chain: "FORWARD"}}
	// Its own socket finds out whether the address is in use, and a relay needs no forwarding.
	wantFindings(t, preflight.Check(facts, []forward.Resolved{
		proxied(":2121", "203.0.113.21", func(f *forward.Resolved) { f.Data = forward.DataRelay }),
		proxied("127.0.0.1:2122", "127.0.0.1:2100", func(f *forward.Resolved) { f.Data = forward.DataRelay }),
	}))
	found := preflight.Check(host(), []forward.Resolved{
		proxied(":2121", "ftp.example.com", func(f *forward.Resolved) { f.Servers = addrs("203.0.113.9", "203.0.113.1") }),
		proxied("192.168.5.2:2122", "127.0.0.1"),
	})
	if len(found) != 2 || !strings.Contains(found[0].Text, "(203.0.113.1)") || !strings.Contains(found[1].Text, "is this gateway itself") {
		t.Errorf("got %v; want both servers found to be the gateway", found)
	}
}

// What a passage takes of the gateway's own is said where it takes something; nothing else is.
func TestExaminePassage(t *testing.T) {
	passing := func(listen, server string, changes ...func(*forward.Resolved)) forward.Resolved {
		f := proxied(listen, server, changes...)
		f.ServerPorts = forward.PortRange{First: 50000, Last: 50100}
		return f
	}
	facts := host()
	facts.Listeners = []preflight.Listener{
		listener("192.168.5.2:50001", "vsftpd (pid 1)"),
		listener("192.168.5.2:50200", "sshd (pid 2)"),
		listener("203.0.113.1:50002", ""),
		listener("127.0.0.1:50003", "resolver (pid 3)"),
		listener("[2001:db8:5::2]:50004", "web (pid 4)"),
	}
	const begin = `warning: forward "main": while a client has an encrypted session, TCP ports 50000-50100 of the address that it dialled lead it to the server, and the gateway's own `
	const end = " cannot be reached by it: if that is not meant, narrow server_ports to the server's passive range, or have those programs listen elsewhere"
	for _, tt := range []struct {
		forward forward.Resolved
		want    []string
	}{
		{passing("192.168.5.2:2121", "203.0.113.21"), []string{begin + "50001 by vsftpd (pid 1)" + end}},
		{passing(":2121", "203.0.113.21"), []string{begin + "50001 by vsftpd (pid 1), 50002 by another program, 50004 by web (pid 4)" + end}},
		{passing("127.0.0.1:2121", "203.0.113.21"), nil},
		{passing("192.168.5.2:2121", "203.0.113.21", func(f *forward.Resolved) { f.TLS.Client = forward.ClientTLSRequired }), nil},
	} {
		wantFindings(t, preflight.Check(facts, []forward.Resolved{tt.forward}), tt.want...)
	}
	wantFindings(t, preflight.Check(host(), []forward.Resolved{passing("192.168.5.2:2121", "203.0.113.21")}))
}
