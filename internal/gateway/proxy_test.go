package gateway_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/preflight"
	"ftpgate/internal/gateway"
)

// proxied is a forward with tracking proxy, with changes.
func proxied(listen, server string, changes ...func(*forward.Resolved)) forward.Resolved {
	f := preflight.testForward(listen, server, func(f *forward.Resolved) { f.Tracking = forward.TrackingProxy })
	for _, change := range changes {
		change(&f)
	}
	return f
}

// A proxy leads to any family, knows every address of the server, and what it is to advertise.
func TestResolveProxy(t *testing.T) {
	b := newBench()
	b.names.is("ftp.example.com", "2001:db8::9", "203.0.113.9", "203.0.113.1")
	b.names.is("public.example.com", "2001:db8::77", "198.51.100.7")
	f := proxied("192.168.5.2:2121", "ftp.example.com").Forward
	f.Advertise = []forward.Advertise{
		{Host: "public.example.com"},
		{Clients: netip.MustParsePrefix("10.0.0.0/8"), Host: "10.0.0.1"},
		{Clients: netip.MustParsePrefix("172.16.0.0/12"), Host: "nosuch.example.com"},
	}
	got, findings := b.Resolve(t.Context(), []forward.Forward{f})
	preflight.wantFindings(t, findings, `warning: forward "main": advertised name "nosuch.example.com" cannot be resolved: no such host: `+
		`mend the name or the resolver (getent hosts nosuch.example.com), or give an address`)
	if want := preflight.addrs("2001:db8::9", "203.0.113.9", "203.0.113.1"); !slices.Equal(got[0].Servers, want) {
		t.Errorf("got servers %v; want %v", got[0].Servers, want)
	}
	for client, want := range map[string]string{"192.0.2.1": "198.51.100.7", "10.1.2.3": "10.0.0.1", "172.16.0.1": "invalid IP"} {
		if addr := got[0].AdvertisedTo(netip.MustParseAddr(client)); addr.String() != want {
			t.Errorf("client %s is told %s; want %s", client, addr, want)
		}
	}
	if err := b.Publish(got); err != nil {
		t.Fatal(err)
	}
	if !b.Named() {
		t.Error("got not named; want named")
	}
	// The public address changes: it is followed. The order of the server's addresses is no change.
	b.log.wantNew(t)
	b.names.is("ftp.example.com", "203.0.113.1", "203.0.113.9", "2001:db8::9")
	b.refresh(t, false)
	b.names.is("public.example.com", "198.51.100.8")
	b.refresh(t, true)
	if addr := b.Forwards()[0].AdvertisedTo(netip.MustParseAddr("192.0.2.1")); addr.String() != "198.51.100.8" {
		t.Errorf("got %s; want the new address 198.51.100.8", addr)
	}
	if err := b.Reinstall(); err != nil || b.kernel.applies() != 3 || !slices.Equal(b.kernel.removed, []string{"ftpgate"}) {
		t.Errorf("reinstall: got %d applies, removed %q, error %v; want 3, the table and none", b.kernel.applies(), b.kernel.removed, err)
	}
}

// Forwards that all relay have no table: one that was there goes.
func TestPublishRelayOnly(t *testing.T) {
	b := newBench()
	relayed := proxied(":2121", "203.0.113.21", func(f *forward.Resolved) { f.Data = forward.DataRelay })
	if err := b.Publish([]forward.Resolved{relayed}, "ftpgate-old"); err != nil {
		t.Fatal(err)
	}
	if b.kernel.applies() != 0 || !slices.Equal(b.kernel.removed, []string{"ftpgate-old", "ftpgate"}) {
		t.Errorf("got %d applies, removed %q; want none, and both tables", b.kernel.applies(), b.kernel.removed)
	}
	none := gateway.New("ftpgate", nil, b.names, nil)
	if err := none.Publish([]forward.Resolved{relayed}); err != nil {
		t.Errorf("without a kernel: %v", err)
	}
	if err := none.Stop(); err != nil {
		t.Errorf("without a kernel: %v", err)
	}
}

func TestExamineProxy(t *testing.T) {
	facts := preflight.host()
	facts.Listeners = []preflight.Listener{preflight.listener("0.0.0.0:2121", "vsftpd (pid 1)")}
	facts.Refusing = []preflight.Refusing{{Family: "ip", Table: "filter", Chain: "FORWARD"}}
	// Its own socket finds out whether the address is in use, and a relay needs no forwarding.
	preflight.wantFindings(t, preflight.Examine(facts, []forward.Resolved{
		proxied(":2121", "203.0.113.21", func(f *forward.Resolved) { f.Data = forward.DataRelay }),
		proxied("127.0.0.1:2122", "127.0.0.1:2100", func(f *forward.Resolved) { f.Data = forward.DataRelay }),
	}))
	found := preflight.Examine(preflight.host(), []forward.Resolved{
		proxied(":2121", "ftp.example.com", func(f *forward.Resolved) { f.Servers = preflight.addrs("203.0.113.9", "203.0.113.1") }),
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
	facts := preflight.host()
	facts.Listeners = []preflight.Listener{
		preflight.listener("192.168.5.2:50001", "vsftpd (pid 1)"),
		preflight.listener("192.168.5.2:50200", "sshd (pid 2)"),
		preflight.listener("203.0.113.1:50002", ""),
		preflight.listener("127.0.0.1:50003", "resolver (pid 3)"),
		preflight.listener("[2001:db8:5::2]:50004", "web (pid 4)"),
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
		preflight.wantFindings(t, preflight.Examine(facts, []forward.Resolved{tt.forward}), tt.want...)
	}
	preflight.wantFindings(t, preflight.Examine(preflight.host(), []forward.Resolved{passing("192.168.5.2:2121", "203.0.113.21")}))
}

// The maps of passages that sessions have stay, whatever becomes of their forward.
func TestPublishKeepsHeld(t *testing.T) {
	b := newBench()
	b.Held = func() []forward.PortRange { return []forward.PortRange{{First: 50000, Last: 50100}} }
	if err := b.Publish([]forward.Resolved{proxied(":2121", "203.0.113.21", func(f *forward.Resolved) { f.Data = forward.DataRelay })}); err != nil {
		t.Fatal(err)
	}
	if text := b.kernel.applied[0].Text(); !strings.Contains(text, "map passage4_50000_50100 {") {
		t.Errorf("got\n%s\nwant the maps of the range", text)
	}
}
