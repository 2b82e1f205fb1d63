package preflight

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// testProber is a prober of a host without faults.
func testProber() (*Prober, *fakeTables) {
	tables := &fakeTables{}
	return &Prober{host: fakeHost(), table: "ftpgate", tables: tables,
		Ours: func(netip.AddrPort) bool { return false }}, tables
}

func tracked() forward.Resolved { return testForward("192.168.5.2:2121", "203.0.113.21") }

// either may be carried by the kernel, and by the relay.
func either() forward.Resolved { return testForward("192.168.5.2:2121", "203.0.113.21", proxied) }

func missing(state system.ModuleState) func(context.Context, ...string) []system.Module {
	return func(context.Context, ...string) []system.Module {
		return []system.Module{{Name: "nf_nat_ftp", State: state, Why: "not found"}}
	}
}

// What keeps this process from having tables is a finding only for forwards that need them.
func TestProbe(t *testing.T) {
	const nftables = "the kernel's nftables cannot be used: it is broken: " +
		"use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe nf_tables)"
	const helper = "tracking kernel needs the kernel module nf_nat_ftp, which is %s: not found: " +
		"install the kernel's extra modules (linux-modules-extra-$(uname -r), kernel-modules-extra), " +
		"or use tracking none with server_ports"
	for _, tt := range []struct {
		name   string
		change func(*Prober, *fakeTables)
		why    string // there are no tables; empty: there are
		want   string // beside why, of a forward with kernel tracking
	}{
		{"sound", func(*Prober, *fakeTables) {}, "", ""},
		{"no privilege", func(p *Prober, _ *fakeTables) {
			p.host.mayAdminister = func() (bool, error) { return false, nil }
		}, "this process may not change the network: it lacks CAP_NET_ADMIN: " + finding.RemedyPrivilege, ""},
		{"privilege unknown", func(p *Prober, _ *fakeTables) {
			p.host.mayAdminister = func() (bool, error) { return true, errBroken }
		}, "this process may not change the network: it lacks CAP_NET_ADMIN: " + finding.RemedyPrivilege, ""},
		{"no connection", func(p *Prober, _ *fakeTables) { p.tables, p.errOpen = nil, errBroken }, nftables,
			""},
		{"unreadable", func(_ *Prober, f *fakeTables) { f.err = errBroken }, nftables, ""},
		{"refused", func(_ *Prober, f *fakeTables) { f.refuses = errBroken }, nftables, ""},
		{"not permitted", func(_ *Prober, f *fakeTables) { f.refuses = fmt.Errorf("nft: %w", unix.EPERM) },
			"the kernel does not let this process change nftables, though it has CAP_NET_ADMIN: " +
				"run it in the host's user namespace, or in a network namespace of its own", ""},
		{"no helper", func(p *Prober, f *fakeTables) {
			p.host.loadModules, f.refuses = missing(system.ModuleMissing), errBroken // for that reason
		}, fmt.Sprintf(helper, "missing"), ""},
		{"helper unknown",
			func(p *Prober, _ *fakeTables) { p.host.loadModules = missing(system.ModuleUnknown) },
			"", "warning: " + fmt.Sprintf(helper, "unknown")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, f := testProber()
			tt.change(p, f)
			var want []string
			if tt.why+tt.want != "" {
				want = []string{tt.why + tt.want}
			}
			wantFindings(t, p.Probe(t.Context(), []forward.Resolved{tracked()}), want...)
			if p.Usable != (tt.why == "") {
				t.Errorf("got usable %v; want %v", p.Usable, tt.why == "")
			}
			if p.Usable {
				return
			}
			wantFindings(t, p.Unusable, tt.why)
			p, f = testProber()
			tt.change(p, f)
			wantFindings(t, p.Probe(t.Context(), []forward.Resolved{either()}))
		})
	}
}

// A kernel that is too old is the reason why it refuses a table.
func TestProbeOldKernel(t *testing.T) {
	const old = "the kernel, Linux %s, refuses the table that the forwards need: it is broken: " +
		"use Linux 5.9 or newer"
	const nftables = "the kernel's nftables cannot be used: it is broken: " +
		"use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe nf_tables)"
	for release, want := range map[string]string{
		"4.19.0-27-amd64":  fmt.Sprintf(old, "4.19.0-27-amd64"),
		"5.4.0-42-generic": fmt.Sprintf(old, "5.4.0-42-generic"),
		"5.9.0":            nftables,
		"5.10.0-32-amd64":  nftables,
		"6.1.0-50-amd64":   nftables,
		"":                 nftables,
	} {
		p, f := testProber()
		f.refuses = errBroken
		p.host.kernelRelease = func() string { return release }
		wantFindings(t, p.Probe(t.Context(), []forward.Resolved{tracked()}), want)
	}
}

func TestProbeFacts(t *testing.T) {
	p, f := testProber()
	f.listens = map[string][]forward.Listen{
		"ftpgate":   {{Port: 2121}}, // its own, of before
		"ftpgate-a": {{Port: 2121}},
		"ftpgate-b": {{Port: 2121}},
	}
	p.host.Claimed = func(table string) (bool, int, error) { return table == "ftpgate-a", 77, nil }
	p.host.LegacyFilter = func() bool { return true }
	wantFindings(t, p.Probe(t.Context(), []forward.Resolved{tracked()}),
		`forward "main": listen 192.168.5.2:2121 is published by another running ftpgate (pid 77, `+
			`table inet ftpgate-a) as :2121: stop that one, or choose another address or port`,
		"warning: chain FORWARD of iptables-legacy refuses by default, and may refuse forwarded "+
			"FTP "+
			"connections: iptables-legacy -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT")
	if want := []string{"ftpgate-b"}; !slices.Equal(p.Dead, want) {
		t.Errorf("got dead tables %q; want %q", p.Dead, want)
	}
}

// The kernel tries every set with one element, however many forwards there are.
func TestProbeTable(t *testing.T) {
	p, f := testProber()
	var forwards []forward.Resolved
	for port := range 50 {
		forwards = append(forwards, testForward(fmt.Sprintf("192.168.5.2:%d", 3000+port), "203.0.113.21"))
	}
	wantFindings(t, p.Probe(t.Context(), forwards))
	if len(f.tried) != 1 {
		t.Fatalf("got %d tables tried; want 1", len(f.tried))
	}
	elements := 0
	for _, set := range f.tried[0].Sets {
		elements = max(elements, len(set.Elements))
	}
	if elements != 1 {
		t.Errorf("got up to %d elements in a set; want 1", elements)
	}
}

func TestReadHost(t *testing.T) {
	p, _ := testProber()
	ours := netip.MustParseAddrPort("192.168.5.2:2121")
	p.Ours = func(at netip.AddrPort) bool { return at == ours }
	p.host.Listeners = func() ([]system.Listener, error) {
		return []system.Listener{
			listener("192.168.5.2:2121", ""), listener("192.168.5.2:22", ""),
			listener("192.168.5.2:50000", ""),
			listener("192.168.5.2:50001", ""),
		}, nil
	}
	p.host.WithProcesses = func(all ...system.Listener) []system.Listener {
		for i := range all {
			all[i].Process = "x (pid 1)"
			if all[i].Addr.Port() == 50001 {
				all[i].Process = fmt.Sprintf("ftpgate (pid %d)", os.Getpid())
			}
		}
		return all
	}
	forwards := []forward.Resolved{testForward("192.168.5.2:2121", "203.0.113.21", untracked("50000-50100"))}
	found, findings := p.readHost(forwards)
	wantFindings(t, findings)
	if want := []system.Listener{listener("192.168.5.2:50000", "x (pid 1)")}; !slices.Equal(found.Listeners,
		want) {
		t.Errorf("got %+v; want %+v", found.Listeners, want)
	}
	p.host.Interfaces = func() ([]string, error) { return nil, errBroken }
	_, findings = p.readHost(nil)
	wantFindings(t, findings, "cannot read the interfaces: it is broken: see that /proc is mounted and "+
		"readable")
}

// Examine reads the facts anew, and has the kernel try nothing.
func TestProberExamine(t *testing.T) {
	p, f := testProber()
	f.listens = map[string][]forward.Listen{"ftpgate-a": {{Port: 2121}}}
	p.host.Claimed = func(string) (bool, int, error) { return true, 77, nil }
	wantFindings(t, p.Examine([]forward.Resolved{either()})) // before Probe, and without tables
	p.Usable = true
	if got := p.Examine([]forward.Resolved{either()}); len(got) != 1 ||
		!strings.Contains(got[0].Text, "pid 77") {
		t.Errorf("got %v; want the other ftpgate", got)
	}
	if len(f.tried) > 0 {
		t.Errorf("got %d tables tried; want none", len(f.tried))
	}
}

func TestClaim(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errBroken, "it is broken: this should not happen; please report it"},
		{&system.ClaimedError{Name: "ftpgate", PID: 77},
			"table inet ftpgate belongs to another running ftpgate (pid 77): " +
				"stop that one first (kill 77); to change what it serves, reload it"},
		{&system.ClaimedError{Name: "ftpgate"},
			"table inet ftpgate belongs to an ftpgate in another container: " +
				"stop that one first; to change what it serves, reload it"},
		{&system.ClaimedError{Name: "ftpgate-any-2121", PID: 77},
			"table inet ftpgate-any-2121 belongs to another running ftpgate (pid 77): stop that one first " +
				"(kill 77); to change what it serves, start it again with other flags"},
	} {
		p, _ := testProber()
		if other, ok := errors.AsType[*system.ClaimedError](tt.err); ok {
			p.table = other.Name
		}
		p.host.claim = func(table string) (*system.Claim, error) {
			if table != p.table || tt.err != nil {
				return nil, tt.err
			}
			return &system.Claim{}, nil
		}
		claim, findings := p.Claim()
		if (claim == nil) != (tt.err != nil) {
			t.Errorf("error %v: got the claim %v", tt.err, claim)
		}
		var want []string
		if tt.want != "" {
			want = []string{tt.want}
		}
		wantFindings(t, findings, want...)
	}
}

// The remedy for a filter names each chain, and speaks the language of the program that has made it.
func TestFilterRemedy(t *testing.T) {
	tables := &fakeTables{refusing: []nftforeign.Chain{
		{Family: "ip", Table: "filter", Name: "FORWARD"},
		{Family: "inet", Table: "fw", Name: "forward"},
	}}
	p := &Prober{host: fakeHost(), tables: tables}
	p.host.LegacyFilter = func() bool { return true }
	want := "chain FORWARD of table ip filter refuses by default: " +
		"iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT; " +
		"chain forward of table inet fw refuses by default: " +
		"nft insert rule inet fw forward ct status dnat accept; " +
		"chain FORWARD of iptables-legacy refuses by default: " +
		"iptables-legacy -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT"
	if got := p.FilterRemedy("203.0.113.21"); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if tables.err = errBroken; p.FilterRemedy("203.0.113.21") != "" {
		t.Errorf("got %q of tables that cannot be read; want nothing", p.FilterRemedy("203.0.113.21"))
	}
	if p.tables = nil; p.FilterRemedy("203.0.113.21") != "" {
		t.Error("got a remedy without nftables; want none")
	}
}
