package gateway_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/gateway"
)

// proxied returns a forward with tracking proxy, after changes.
func proxied(listen, server string, changes ...func(*forward.Resolved)) forward.Resolved {
	f := testForward(listen, server)
	f.Tracking = forward.TrackingProxy
	for _, change := range changes {
		change(&f)
	}
	return f
}

// A proxied forward may lead to any family; it has all addresses of the server, and those to advertise.
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
	wantFindings(
		t,
		findings,
		`warning: forward "main": advertised name "nosuch.example.com" cannot be resolved: no such host: `+
			`fix the name or the resolver (getent hosts nosuch.example.com), or give an address`,
	)
	if want := addrs("2001:db8::9", "203.0.113.9", "203.0.113.1"); !slices.Equal(got[0].Servers, want) {
		t.Errorf("got servers %v; want %v", got[0].Servers, want)
	}
	for client, want := range map[string]string{
		"192.0.2.1":  "198.51.100.7",
		"10.1.2.3":   "10.0.0.1",
		"172.16.0.1": "invalid IP",
	} {
		if addr := got[0].AdvertisedTo(netip.MustParseAddr(client)); addr.String() != want {
			t.Errorf("client %s is told %s; want %s", client, addr, want)
		}
	}
	if err := b.Publish(got); err != nil {
		t.Fatal(err)
	}
	if !b.UsesNames() {
		t.Error("got not named; want named")
	}
	// A new public address is published. Another order of the server's addresses is no change.
	b.log.wantNew(t)
	b.names.is("ftp.example.com", "203.0.113.1", "203.0.113.9", "2001:db8::9")
	b.refresh(t, false)
	b.names.is("public.example.com", "198.51.100.8")
	b.refresh(t, true)
	if addr := b.Forwards()[0].AdvertisedTo(
		netip.MustParseAddr("192.0.2.1"),
	); addr.String() != "198.51.100.8" {
		t.Errorf("got %s; want the new address 198.51.100.8", addr)
	}
	wantCounted(t, b, got, 2)
}

// wantCounted expects that OnApply counted the writes of Publish and Refresh, and none that fails.
func wantCounted(t *testing.T, b *bench, forwards []forward.Resolved, want int) {
	t.Helper()
	b.kernel.fail(errors.New("no"))
	if err := b.Publish(forwards); err == nil || b.counted != want {
		t.Errorf("got error %v, %d writes counted; want an error, and %d", err, b.counted, want)
	}
}

// Repair compares the published table, names emptied maps, and does nothing after Stop.
func TestRepair(t *testing.T) {
	b := newBench()
	if err := b.Publish([]forward.Resolved{proxied(":2121", "203.0.113.21")}); err != nil {
		t.Fatal(err)
	}
	differences, _, err := b.Repair([]string{"pinhole4", "control4"})
	if want := []string{"chain a", "missing elements of map pinhole4"}; err != nil ||
		!slices.Equal(differences, want) || len(b.kernel.repaired) != 1 || b.kernel.repaired[0].Empty() {
		t.Errorf("repair: got differences %q, error %v; want %q", differences, err, want)
	}
	b.kernel.err = errors.New("no permission")
	if _, _, err := b.Repair(nil); !errors.Is(err, b.kernel.err) {
		t.Errorf("repair: got error %v; want %v", err, b.kernel.err)
	}
	b.kernel.err = nil
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	if differences, _, err := b.Repair(nil); err != nil || len(differences) > 0 ||
		len(b.kernel.repaired) != 2 {
		t.Errorf("repair after Stop: got differences %q, error %v; want nothing done", differences, err)
	}
}

// Forwards that only relay need no table: Publish removes the one that is there.
func TestPublishRelayOnly(t *testing.T) {
	b := newBench()
	relayed := proxied(":2121", "203.0.113.21", func(f *forward.Resolved) { f.Data = forward.DataRelay })
	if err := b.Publish([]forward.Resolved{relayed}, "ftpgate-old"); err != nil {
		t.Fatal(err)
	}
	if b.kernel.applies() != 0 || !slices.Equal(b.kernel.removed, []string{"ftpgate-old", "ftpgate"}) {
		t.Errorf(
			"got %d applies, removed %q; want none, and both tables",
			b.kernel.applies(),
			b.kernel.removed,
		)
	}
	none := gateway.New("ftpgate", nil, b.names, nil)
	if err := none.Publish([]forward.Resolved{relayed}); err != nil {
		t.Errorf("without a kernel: %v", err)
	}
	if err := none.Stop(); err != nil {
		t.Errorf("without a kernel: %v", err)
	}
}

// A gateway follows what the process may do: it writes no table without a kernel, and one with it.
func TestSetKernel(t *testing.T) {
	b := newBench()
	forwards := []forward.Resolved{proxied(":2121", "203.0.113.21", func(*forward.Resolved) {})}
	b.SetKernel(nil)
	if err := b.Publish(forwards, "ftpgate-old"); err != nil || b.kernel.applies() > 0 || b.Installed() ||
		b.counted > 0 {
		t.Errorf("without a kernel: got %d applies, error %v; want none", b.kernel.applies(), err)
	}
	b.SetKernel(b.kernel)
	if err := b.Publish(forwards); err != nil || b.kernel.applies() != 1 || !b.Installed() {
		t.Errorf("with a kernel: got %d applies, error %v; want one", b.kernel.applies(), err)
	}
	b.SetKernel(nil)
	if err := b.Publish(forwards); err != nil || b.Installed() {
		t.Errorf("without a kernel again: got installed %t, error %v; want false, none", b.Installed(), err)
	}
	if err := b.Stop(); err != nil || !slices.Equal(b.kernel.removed, []string{"ftpgate"}) {
		t.Errorf("a stop without a kernel: got removed %q, error %v; want the table installed before",
			b.kernel.removed, err)
	}
}

// The maps of sessions that pass through stay, whatever becomes of their forward.
func TestPublishKeepsPassthrough(t *testing.T) {
	b := newBench()
	b.PassthroughRanges = func() []forward.PortRange {
		return []forward.PortRange{{First: 50000, Last: 50100}}
	}
	if err := b.Publish(
		[]forward.Resolved{
			proxied(":2121", "203.0.113.21", func(f *forward.Resolved) { f.Data = forward.DataRelay }),
		},
	); err != nil {
		t.Fatal(err)
	}
	if text := b.kernel.applied[0].Text(); !strings.Contains(text, "map passage4_50000_50100 {") {
		t.Errorf("got\n%s\nwant the maps of the range", text)
	}
}
