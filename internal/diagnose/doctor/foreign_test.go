package doctor

import (
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/nftforeign"
)

func ports(first, last uint16) []forward.PortRange {
	return []forward.PortRange{{First: first, Last: last}}
}

var here = ports(2121, 2121)

// rule adds another program's rule.
func rule(r nftforeign.Rule) func(*Facts, *forward.Resolved) {
	r.Family, r.Table, r.Chain = "ip", "t", "c"
	if r.Hook == "" {
		r.Hook = "prerouting"
	}
	if r.Action == nftforeign.ActionHelper {
		r.Helper = "ftp"
	}
	return func(f *Facts, _ *forward.Resolved) { f.Rules = append(f.Rules, r) }
}

// input adds another program's chain.
func input(in nftforeign.InputChain) func(*Facts, *forward.Resolved) {
	return func(f *Facts, _ *forward.Resolved) { f.Inputs = append(f.Inputs, in) }
}

// refusing is a chain that refuses by default.
func refusing(family, table, chain, owner string) nftforeign.InputChain {
	return nftforeign.InputChain{Chain: nftforeign.Chain{Family: family, Table: table, Name: chain,
		Owner: owner}}
}

// letting is a chain that lets ports in.
func letting(in nftforeign.InputChain, ports []forward.PortRange) nftforeign.InputChain {
	in.Ports = ports
	return in
}

// fromInterface is a chain that lets everything from an interface in.
func fromInterface(in nftforeign.InputChain, name string) nftforeign.InputChain {
	in.Interfaces = []string{name}
	return in
}

func TestForeignHelper(t *testing.T) {
	run(t, []provoked{
		{"a helper too early", kernel, rule(nftforeign.Rule{Action: nftforeign.ActionHelper,
			Priority: -300, Ports: here}), CodeHelperSoon, finding.Warning,
			`chain c of table ip t attaches the helper "ftp" at priority -300, before conntrack (-200)`,
			"remove the rule"},
		{"iptables' helper", 0, rule(nftforeign.Rule{Action: nftforeign.ActionHelper, Template: true,
			Priority: -300, Ports: here}), CodeHelper, finding.Warning, "drops what it cannot read", ""},
		{"a helper twice", kernel, rule(nftforeign.Rule{Action: nftforeign.ActionHelper, Priority: -150,
			Ports: here}), CodeHelper, finding.Info, "as ftpgate does itself", ""},
		{"a helper after translation", none, rule(nftforeign.Rule{Action: nftforeign.ActionHelper,
			Priority: 0, Ports: ports(21, 21)}), CodeSequence, finding.Warning, "after translation (-100)",
			"tracking = \"kernel\""},
		{"a helper after translation, of a proxy", 0,
			rule(nftforeign.Rule{Action: nftforeign.ActionHelper, Priority: 0, Ports: here}), CodeHelper,
			finding.Warning, "drops what it cannot read", ""},
		{"a helper to the server", 0, rule(nftforeign.Rule{Action: nftforeign.ActionHelper,
			Hook: "output", Priority: 0, Ports: ports(21, 21)}), CodeHelper, finding.Warning,
			"connections to the server", ""},
		{"a helper elsewhere", 0, rule(nftforeign.Rule{Action: nftforeign.ActionHelper, Priority: -150,
			Ports: ports(2122, 2122)}), CodeRoute, finding.OK, "", ""},
		{"a helper of some address", 0, rule(nftforeign.Rule{Action: nftforeign.ActionHelper,
			Priority: -150, To: wan4, Ports: here}), CodeRoute, finding.OK, "", ""},
		{"a helper by itself", 0, sysctl(facts.SysctlHelper, "1"), CodeHelperAuto, finding.Warning,
			"every connection to port 21", "nf_conntrack_helper=0"},
		{"a synproxy", kernel, rule(nftforeign.Rule{Action: nftforeign.ActionSynProxy, Ports: here}),
			CodeSequence, finding.Warning, "has a synproxy at port 2121", "proxy"},
	})
}

func TestForeignRules(t *testing.T) {
	run(t, []provoked{
		{"untracked", none, rule(nftforeign.Rule{Action: nftforeign.ActionNoTrack, Priority: -300,
			Ports: here}), CodeUntracked, finding.Fault,
			"keeps the kernel from tracking the forward's connections", "from that rule"},
		{"untracked, of some", none, rule(nftforeign.Rule{Action: nftforeign.ActionNoTrack,
			Priority: -300, Ports: here, Narrow: true}), CodeUntracked, finding.Warning, "", ""},
		{"untracked data", 0, rule(nftforeign.Rule{Action: nftforeign.ActionNoTrack, Priority: -300,
			Ports: ports(50000, 50010)}), CodeUntracked, finding.Fault, "data connections", ""},
		{"untracked control of a proxy", 0, rule(nftforeign.Rule{Action: nftforeign.ActionNoTrack,
			Priority: -300, Ports: here}), CodeRoute, finding.OK, "", ""},
		{"untracked, of something", none, rule(nftforeign.Rule{Action: nftforeign.ActionNoTrack,
			Priority: -300, Narrow: true}), CodeRoute, finding.OK, "", ""},
		{"everything untracked", kernel, rule(nftforeign.Rule{Action: nftforeign.ActionNoTrack,
			Priority: -300}), CodeUntracked, finding.Fault, "", ""},
		{"translated", 0, rule(nftforeign.Rule{Action: nftforeign.ActionDNAT, Owner: "docker",
			Priority: -100, Ports: here}), CodeElsewhere, finding.Fault,
			"Docker's chain c of table ip t sends connections to port 2121 elsewhere",
			"publish another port"},
		{"translated, of some", kernel, rule(nftforeign.Rule{Action: nftforeign.ActionDNAT,
			Priority: -100, Ports: here, Narrow: true}), CodeElsewhere, finding.Warning, "port 2121", ""},
		{"translated, of one address", kernel,
			both(rule(nftforeign.Rule{Action: nftforeign.ActionDNAT, Priority: -100, To: wan4,
				Ports: here}), func(_ *Facts, r *forward.Resolved) { r.Listen.Addr = netip.Addr{} }),
			CodeElsewhere, finding.Warning, "port 2121", ""},
		{"data translated", 0, rule(nftforeign.Rule{Action: nftforeign.ActionDNAT, Priority: -100,
			Ports: ports(50000, 50000)}), CodeElsewhere, finding.Warning, "within 49152-65535", ""},
	})
}

func TestInputChains(t *testing.T) {
	run(t, []provoked{
		{"input refused", 0, input(letting(refusing("inet", "firewalld", "filter_INPUT", "firewalld"),
			ports(22, 22))), CodeInput, finding.Warning,
			"firewalld's chain filter_INPUT of table inet firewalld refuses by default, and no " +
				"rule of it accepts port 2121", "--add-port=2121/tcp"},
		{"input refused by ufw", 0, input(refusing("ip", "filter", "INPUT", "ufw")), CodeInput,
			finding.Warning, "ufw's", "ufw allow 2121/tcp"},
		{"input refused by iptables", 0, input(refusing("ip", "filter", "INPUT", "")), CodeInput,
			finding.Warning, "", "iptables -I INPUT -p tcp --dport 2121 -j ACCEPT"},
		{"relayed data refused", 0, both(relayed, input(letting(refusing("inet", "f", "i", ""), here))),
			CodeInput, finding.Warning, "the passive ports 49152-65535",
			"nft insert rule inet f i tcp dport 49152-65535 accept"},
		{"data refused that clients encrypt", 0, both(func(_ *Facts, r *forward.Resolved) {
			r.TLS.Client, r.TLS.Cert = forward.ClientTLSOptional, "cert.pem"
		}, input(letting(refusing("inet", "f", "i", ""), here))), CodeInput, finding.Warning,
			"the passive ports 49152-65535", "nft insert rule inet f i tcp dport 49152-65535 accept"},
		{"input open", 0, input(letting(refusing("inet", "f", "i", ""), here)), CodeRoute, finding.OK, "",
			""},
		{"the clients' interface open", 0, input(fromInterface(refusing("inet", "f", "i", ""), "lan0")),
			CodeRoute, finding.OK, "", ""},
		{"input of the other family", 0, input(refusing("ip6", "f", "i", "")), CodeRoute, finding.OK, "", ""},
		{"input, and no proxy", kernel, input(refusing("inet", "f", "i", "")), CodeRoute, finding.OK, "", ""},
	})
}

// A table that Docker has rules in has chains that are not its own.
func TestInputBesideDocker(t *testing.T) {
	f := sound()
	f.Inputs = []nftforeign.InputChain{refusing("ip", "filter", "INPUT", "docker")}
	got := bad(Examine(f, []forward.Resolved{testForward(forward.TrackingProxy)}))
	if len(got) != 1 || got[0].Code != CodeInput ||
		!strings.HasPrefix(got[0].Text, "chain INPUT of table ip filter refuses") {
		t.Errorf("got %+v; want the chain, and not as Docker's", got)
	}
}
