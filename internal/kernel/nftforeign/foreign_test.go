package nftforeign_test

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/try/lab/labtest"
)

func port(p uint16) []forward.PortRange { return []forward.PortRange{{First: p, Last: p}} }

func TestForeignRules(t *testing.T) {
	labtest.Need(t, "nft")
	rule := func(r nftforeign.ForeignRule) []nftforeign.ForeignRule { return []nftforeign.ForeignRule{r} }
	tests := []struct {
		name, rules string
		want        []nftforeign.ForeignRule
	}{
		{"a helper too early", `table inet fw { ct helper h { type "ftp" protocol tcp; }; chain c { type filter hook prerouting priority -300; tcp dport 2121 ct helper set "h"; }; }`,
			rule(nftforeign.ForeignRule{Family: "inet", Table: "fw", Chain: "c", Hook: "prerouting", Priority: -300, Act: nftforeign.ForeignHelper, Helper: "ftp", Ports: port(2121)})},
		{"a helper behind a jump on the ports", `table ip fw { ct helper h { type "ftp" protocol tcp; }; chain sub { ct helper set "h"; }; chain c { type filter hook output priority 0; tcp dport { 21, 2121-2123 } jump sub; }; }`,
			rule(nftforeign.ForeignRule{Family: "ip", Table: "fw", Chain: "sub", Hook: "output", Act: nftforeign.ForeignHelper, Helper: "ftp", Ports: []forward.PortRange{{First: 21, Last: 21}, {First: 2121, Last: 2123}}})},
		{"docker publishes a port", `table ip nat { chain DOCKER { iifname != "docker0" tcp dport 2121 dnat to 172.17.0.2:21; }; chain DOCKER-USER { }; chain PREROUTING { type nat hook prerouting priority -100; fib daddr type local jump DOCKER; }; }`,
			rule(nftforeign.ForeignRule{Family: "ip", Table: "nat", Chain: "DOCKER", Owner: "docker", Hook: "prerouting", Priority: -100, Act: nftforeign.ForeignDNAT, Ports: port(2121), Narrow: true})},
		{"a redirect of one address", `table ip6 nat { chain p { type nat hook prerouting priority -100; ip6 daddr 2001:db8::1 tcp dport 21 redirect to :2121; }; }`,
			rule(nftforeign.ForeignRule{Family: "ip6", Table: "nat", Chain: "p", Hook: "prerouting", Priority: -100, Act: nftforeign.ForeignDNAT, To: netip.MustParseAddr("2001:db8::1"), Ports: port(21)})},
		{"no tracking at all", `table inet raw { chain p { type filter hook prerouting priority -300; notrack; }; }`,
			rule(nftforeign.ForeignRule{Family: "inet", Table: "raw", Chain: "p", Hook: "prerouting", Priority: -300, Act: nftforeign.ForeignNoTrack})},
		{"no tracking of a range", `table inet raw { chain p { type filter hook prerouting priority -300; tcp dport 50000-50100 notrack; }; }`,
			rule(nftforeign.ForeignRule{Family: "inet", Table: "raw", Chain: "p", Hook: "prerouting", Priority: -300, Act: nftforeign.ForeignNoTrack, Ports: []forward.PortRange{{First: 50000, Last: 50100}}})},
		{"through a map of verdicts", `table inet fw { chain sub { notrack; }; chain p { type filter hook prerouting priority -300; tcp dport vmap { 21 : jump sub }; }; }`,
			rule(nftforeign.ForeignRule{Family: "inet", Table: "fw", Chain: "sub", Hook: "prerouting", Priority: -300, Act: nftforeign.ForeignNoTrack, Narrow: true})},
		{"of UDP", `table inet raw { chain p { type filter hook prerouting priority -300; udp dport 2121 notrack; }; }`, nil},
		{"of connections that are up", `table inet raw { chain p { type filter hook prerouting priority 0; ct state established tcp dport 2121 notrack; }; }`, nil},
		{"where no packet comes", `table inet raw { chain p { notrack; }; }`, nil},
		{"the source alone", `table ip nat { chain p { type nat hook postrouting priority 100; masquerade; }; }`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := labtest.Host(t)
			if out, err := h.Output(t.Context(), "nft", tt.rules); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			c := nft.open(t, h)
			nft.apply(t, c, ruleset.Build("ftpgate", rulesettest.Many(2))) // whose own rules do not count
			got, err := c.Foreign()
			if err != nil {
				t.Fatal(err)
			}
			for i := range got.Rules {
				slices.SortFunc(got.Rules[i].Ports, func(a, b forward.PortRange) int { return int(a.First) - int(b.First) })
			}
			if !reflect.DeepEqual(got.Rules, tt.want) || len(got.Inputs) > 0 {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// What administrators type by hand, in the words of iptables.
func TestForeignRulesOfIptables(t *testing.T) {
	labtest.Need(t, "iptables-nft")
	h := labtest.Host(t)
	for _, args := range [][]string{
		{"-t", "raw", "-A", "PREROUTING", "-p", "tcp", "--dport", "2121", "-j", "CT", "--helper", "ftp"},
		{"-t", "raw", "-A", "PREROUTING", "-p", "tcp", "--dport", "2122", "-j", "CT", "--notrack"},
		{"-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "2121", "-j", "DNAT", "--to-destination", "203.0.113.21:21"},
	} {
		if out, err := h.Output(t.Context(), "iptables-nft", args...); err != nil {
			labtest.Refused(t, err.Error()+string(out))
		}
	}
	got, err := nft.open(t, h).Foreign()
	if err != nil {
		t.Fatal(err)
	}
	raw := nftforeign.ForeignRule{Family: "ip", Table: "raw", Chain: "PREROUTING", Hook: "prerouting", Priority: -300}
	helper, untracked, dest := raw, raw, raw
	helper.Act, helper.Helper, helper.Template, helper.Ports = nftforeign.ForeignHelper, "ftp", true, port(2121)
	untracked.Act, untracked.Ports = nftforeign.ForeignNoTrack, port(2122)
	dest.Table, dest.Priority, dest.Act, dest.Ports = "nat", -100, nftforeign.ForeignDNAT, port(2121)
	for _, want := range []nftforeign.ForeignRule{helper, untracked, dest} {
		if !slices.ContainsFunc(got.Rules, func(r nftforeign.ForeignRule) bool { return reflect.DeepEqual(r, want) }) {
			t.Errorf("got %+v; want %+v among them", got.Rules, want)
		}
	}
	if len(got.Rules) != 3 {
		t.Errorf("got %d rules; want 3: %+v", len(got.Rules), got.Rules)
	}
}

func TestForeignInputs(t *testing.T) {
	labtest.Need(t, "nft")
	chain := func(family, table, chain, owner string) nft.ForwardChain {
		return nft.ForwardChain{Family: family, Table: table, Chain: chain, Owner: owner}
	}
	tests := []struct {
		name, rules string
		want        []nftforeign.InputChain
	}{
		{"policy drop", `table inet fw { chain i { type filter hook input priority 0; policy drop; ct state established,related accept; ip saddr 10.0.0.1 accept; }; }`,
			[]nftforeign.InputChain{{ForwardChain: chain("inet", "fw", "i", "")}}},
		{"firewalld with a port open", `table inet firewalld { chain zone { ct state { new, untracked } tcp dport 2121 accept; }; chain filter_INPUT { type filter hook input priority 10; iifname "lan0" goto zone; goto zone; reject; }; }`,
			[]nftforeign.InputChain{{ForwardChain: chain("inet", "firewalld", "filter_INPUT", "firewalld"), Ports: port(2121)}}},
		{"ports and interfaces", `table ip f { chain i { type filter hook input priority 0; policy drop; iifname "lo" accept; iifname "wan*" accept; tcp dport { 21, 50000-50100 } counter accept; iifname "wan0" tcp dport 22 accept; udp dport 53 accept; }; }`,
			[]nftforeign.InputChain{{ForwardChain: chain("ip", "f", "i", ""), Ports: []forward.PortRange{{First: 21, Last: 21}, {First: 50000, Last: 50100}}, Interfaces: []string{"lo"}}}},
		{"accepting what was translated is of no use", `table ip f { chain i { type filter hook input priority 0; ct status dnat accept; drop; }; }`,
			[]nftforeign.InputChain{{ForwardChain: chain("ip", "f", "i", "")}}},
		{"accepts", `table ip f { chain i { type filter hook input priority 0; tcp dport 22 drop; }; }`, nil},
		{"forward is not input", `table ip f { chain i { type filter hook forward priority 0; policy drop; }; }`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := labtest.Host(t)
			if out, err := h.Output(t.Context(), "nft", tt.rules); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got, err := nft.open(t, h).Foreign()
			if err != nil {
				t.Fatal(err)
			}
			for i := range got.Inputs {
				slices.SortFunc(got.Inputs[i].Ports, func(a, b forward.PortRange) int { return int(a.First) - int(b.First) })
			}
			if !reflect.DeepEqual(got.Inputs, tt.want) || len(got.Rules) > 0 {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// A look without the right to look says so, with the kernel's errno.
func TestForeignUnprivileged(t *testing.T) {
	h := labtest.Host(t)
	if err := h.Do(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var before, none [2]unix.CapUserData
		if err := unix.Capget(&header, &before[0]); err != nil {
			return err
		}
		none = before
		none[0].Effective, none[1].Effective = 0, 0
		if err := unix.Capset(&header, &none[0]); err != nil {
			return err
		}
		defer unix.Capset(&header, &before[0])
		c, err := nft.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Foreign(); !errors.Is(err, unix.EPERM) {
			t.Errorf("got error %v; want EPERM", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
