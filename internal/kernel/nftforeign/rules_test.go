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
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// read returns what Read finds in a host.
func read(t *testing.T, h *lab.Host) (rules []nftforeign.Rule, inputs []nftforeign.InputChain) {
	t.Helper()
	if err := h.Do(func() (err error) { rules, inputs, err = nftforeign.Read(); return err }); err != nil {
		t.Fatal(err)
	}
	return rules, inputs
}

// sortPorts sorts the elements of a set, which the kernel lists in no order.
func sortPorts(ports []forward.PortRange) {
	slices.SortFunc(ports, func(a, b forward.PortRange) int { return int(a.First) - int(b.First) })
}

func TestMain(m *testing.M) { labtest.Main(m) }

func port(p uint16) []forward.PortRange { return []forward.PortRange{{First: p, Last: p}} }

// rule returns a list with one rule.
func rule(r nftforeign.Rule) []nftforeign.Rule { return []nftforeign.Rule{r} }

// ruleTests are rules of other programs, and what Read finds in them.
var ruleTests = []struct {
	name, rules string
	want        []nftforeign.Rule
}{
	{"a helper too early",
		`table inet fw { ct helper h { type "ftp" protocol tcp; }; chain c {
			type filter hook prerouting priority -300; tcp dport 2121 ct helper set "h"; }; }`,
		rule(nftforeign.Rule{Family: "inet", Table: "fw", Chain: "c", Hook: "prerouting", Priority: -300,
			Action: nftforeign.ActionHelper, Helper: "ftp", Ports: port(2121)})},
	{"a helper behind a jump on the ports",
		`table ip fw { ct helper h { type "ftp" protocol tcp; }; chain sub { ct helper set "h"; };
			chain c { type filter hook output priority 0; tcp dport { 21, 2121-2123 } jump sub; }; }`,
		rule(nftforeign.Rule{Family: "ip", Table: "fw", Chain: "sub", Hook: "output",
			Action: nftforeign.ActionHelper, Helper: "ftp",
			Ports: []forward.PortRange{{First: 21, Last: 21}, {First: 2121, Last: 2123}}})},
	{"docker publishes a port",
		`table ip nat { chain DOCKER { iifname != "docker0" tcp dport 2121 dnat to 172.17.0.2:21; };
			chain DOCKER-USER { }; chain PREROUTING { type nat hook prerouting priority -100;
			fib daddr type local jump DOCKER; }; }`,
		rule(nftforeign.Rule{Family: "ip", Table: "nat", Chain: "DOCKER", Owner: "docker",
			Hook: "prerouting", Priority: -100, Action: nftforeign.ActionDNAT, Ports: port(2121),
			Narrow: true})},
	{"a redirect of one address",
		`table ip6 nat { chain p { type nat hook prerouting priority -100;
			ip6 daddr 2001:db8::1 tcp dport 21 redirect to :2121; }; }`,
		rule(nftforeign.Rule{Family: "ip6", Table: "nat", Chain: "p", Hook: "prerouting", Priority: -100,
			Action: nftforeign.ActionDNAT, To: netip.MustParseAddr("2001:db8::1"), Ports: port(21)})},
	{"no tracking at all",
		`table inet raw { chain p { type filter hook prerouting priority -300; notrack; }; }`,
		rule(nftforeign.Rule{Family: "inet", Table: "raw", Chain: "p", Hook: "prerouting", Priority: -300,
			Action: nftforeign.ActionNoTrack})},
	{"no tracking of a range",
		`table inet raw { chain p { type filter hook prerouting priority -300;
			tcp dport 50000-50100 notrack; }; }`,
		rule(nftforeign.Rule{Family: "inet", Table: "raw", Chain: "p", Hook: "prerouting", Priority: -300,
			Action: nftforeign.ActionNoTrack, Ports: []forward.PortRange{{First: 50000, Last: 50100}}})},
	{"through a map of verdicts",
		`table inet fw { chain sub { notrack; }; chain p { type filter hook prerouting priority -300;
			tcp dport vmap { 21 : jump sub }; }; }`,
		rule(nftforeign.Rule{Family: "inet", Table: "fw", Chain: "sub", Hook: "prerouting",
			Priority: -300, Action: nftforeign.ActionNoTrack, Narrow: true})},
	{"of UDP",
		`table inet raw { chain p { type filter hook prerouting priority -300; udp dport 2121 notrack;
			}; }`, nil},
	{"of connections that are up",
		`table inet raw { chain p { type filter hook prerouting priority 0;
			ct state established tcp dport 2121 notrack; }; }`, nil},
	{"where no packet comes", `table inet raw { chain p { notrack; }; }`, nil},
	{"the source alone",
		`table ip nat { chain p { type nat hook postrouting priority 100; masquerade; }; }`, nil},
}

// Read finds the rules that get in a forward's way, with the conditions under which packets reach them.
func TestRules(t *testing.T) {
	labtest.Need(t, "nft")
	for _, tt := range ruleTests {
		t.Run(tt.name, func(t *testing.T) {
			h := labtest.Host(t)
			nfttest.Run(t, h, tt.rules)
			// ftpgate's own rules are not reported.
			nfttest.Apply(t, nfttest.Open(t, h), ruleset.Build("ftpgate", rulesettest.Many(2)))
			rules, inputs := read(t, h)
			for i := range rules {
				sortPorts(rules[i].Ports)
			}
			if !reflect.DeepEqual(rules, tt.want) || len(inputs) > 0 {
				t.Errorf("got %+v and %+v\nwant %+v", rules, inputs, tt.want)
			}
		})
	}
}

// The rules that administrators type by hand, with iptables.
func TestRulesOfIptables(t *testing.T) {
	labtest.Need(t, "iptables-nft")
	h := labtest.Host(t)
	for _, args := range [][]string{
		{"-t", "raw", "-A", "PREROUTING", "-p", "tcp", "--dport", "2121", "-j", "CT", "--helper", "ftp"},
		{"-t", "raw", "-A", "PREROUTING", "-p", "tcp", "--dport", "2122", "-j", "CT", "--notrack"},
		{"-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "2121", "-j", "DNAT", "--to-destination",
			"203.0.113.21:21"},
	} {
		if out, err := h.Output(t.Context(), "iptables-nft", args...); err != nil {
			labtest.Refused(t, err.Error()+string(out))
		}
	}
	got, _ := read(t, h)
	raw := nftforeign.Rule{Family: "ip", Table: "raw", Chain: "PREROUTING", Hook: "prerouting",
		Priority: -300}
	helper, untracked, dest := raw, raw, raw
	helper.Action, helper.Helper, helper.Template = nftforeign.ActionHelper, "ftp", true
	helper.Ports = port(2121)
	untracked.Action, untracked.Ports = nftforeign.ActionNoTrack, port(2122)
	dest.Table, dest.Priority, dest.Action, dest.Ports = "nat", -100, nftforeign.ActionDNAT, port(2121)
	for _, want := range []nftforeign.Rule{helper, untracked, dest} {
		if !slices.ContainsFunc(got, func(r nftforeign.Rule) bool { return reflect.DeepEqual(r, want) }) {
			t.Errorf("got %+v; want %+v among them", got, want)
		}
	}
	if len(got) != 3 {
		t.Errorf("got %d rules; want 3: %+v", len(got), got)
	}
}

func TestInputs(t *testing.T) {
	labtest.Need(t, "nft")
	chain := func(family, table, name, owner string) nftforeign.Chain {
		return nftforeign.Chain{Family: family, Table: table, Name: name, Owner: owner}
	}
	tests := []struct {
		name, rules string
		want        []nftforeign.InputChain
	}{
		{"policy drop",
			`table inet fw { chain i { type filter hook input priority 0; policy drop;
				ct state established,related accept; ip saddr 10.0.0.1 accept; }; }`,
			[]nftforeign.InputChain{{Chain: chain("inet", "fw", "i", "")}}},
		{"firewalld with a port open",
			`table inet firewalld { chain zone { ct state { new, untracked } tcp dport 2121 accept; };
				chain filter_INPUT { type filter hook input priority 10; iifname "lan0" goto zone;
				goto zone; reject; }; }`,
			[]nftforeign.InputChain{{Chain: chain("inet", "firewalld", "filter_INPUT", "firewalld"),
				Ports: port(2121)}}},
		{"ports and interfaces",
			`table ip f { chain i { type filter hook input priority 0; policy drop; iifname "lo" accept;
				iifname "wan*" accept; tcp dport { 21, 50000-50100 } counter accept;
				iifname "wan0" tcp dport 22 accept; udp dport 53 accept; }; }`,
			[]nftforeign.InputChain{{Chain: chain("ip", "f", "i", ""),
				Ports:      []forward.PortRange{{First: 21, Last: 21}, {First: 50000, Last: 50100}},
				Interfaces: []string{"lo"}}}},
		{"accepting what was translated is of no use",
			`table ip f { chain i { type filter hook input priority 0; ct status dnat accept; drop; }; }`,
			[]nftforeign.InputChain{{Chain: chain("ip", "f", "i", "")}}},
		{"accepts", `table ip f { chain i { type filter hook input priority 0; tcp dport 22 drop; }; }`, nil},
		{"forward is not input",
			`table ip f { chain i { type filter hook forward priority 0; policy drop; }; }`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := labtest.Host(t)
			nfttest.Run(t, h, tt.rules)
			rules, inputs := read(t, h)
			for i := range inputs {
				sortPorts(inputs[i].Ports)
			}
			if !reflect.DeepEqual(inputs, tt.want) || len(rules) > 0 {
				t.Errorf("got %+v and %+v\nwant %+v", inputs, rules, tt.want)
			}
		})
	}
}

// Without CAP_NET_ADMIN the error is the kernel's.
func TestUnprivileged(t *testing.T) {
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
		if _, _, err := nftforeign.Read(); !errors.Is(err, unix.EPERM) {
			t.Errorf("read: got error %v; want EPERM", err)
		}
		if _, err := nftforeign.RefusingForwardChains(); !errors.Is(err, unix.EPERM) {
			t.Errorf("refusing chains: got error %v; want EPERM", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
