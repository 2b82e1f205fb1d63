package doctor

import (
	"fmt"
	"slices"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/nftforeign"
)

// A helper can be attached between these priorities (include/uapi/linux/netfilter_ipv4.h): after conntrack,
// which creates the connection, and before translation, which must know of the helper to reserve room for
// adjusting sequence numbers.
const (
	conntrackPriority   = -200
	translationPriority = -100
)

// ftpPort is the port at which the kernel's helper attaches itself, if allowed (RFC 959 section 3.2).
const ftpPort = 21

// foreignRules checks other programs' rules for the forward's connections.
func (x *examination) foreignRules() {
	for _, r := range x.facts.Rules {
		switch r.Action {
		case nftforeign.ActionHelper:
			x.helper(r)
		case nftforeign.ActionNoTrack:
			x.untracked(r)
		case nftforeign.ActionDNAT:
			x.translatedElsewhere(r)
		case nftforeign.ActionSynProxy:
			if x.forward.Tracking == forward.TrackingKernel && x.matches(r, x.forward.Listen.Port) {
				x.add(CodeSequence, finding.Warning,
					fmt.Sprintf("%s has a synproxy at port %d: it shifts sequence numbers, and so does the "+
						"kernel's ftp helper",
						chainOf(r), x.forward.Listen.Port),
					"remove the forward's port from that rule, or use tracking = \"proxy\"")
			}
		}
	}
	x.automaticHelper()
}

// helper checks a helper that another program attaches.
func (x *examination) helper(r nftforeign.Rule) {
	early := !r.Template && r.Priority <= conntrackPriority
	late := !r.Template && r.Priority > translationPriority
	routed := r.Hook == "prerouting" // before the kernel decides where packets go
	proxied := x.forward.Tracking == forward.TrackingProxy
	atListen, atServerPort := x.matches(r, x.forward.Listen.Port), x.matchesPort(r, x.forward.Server.Port)
	listen := routed && !late && atListen
	translated := routed && late && !proxied && atServerPort
	atServer := r.Hook == "output" && proxied && atServerPort
	arrived := proxied && atListen && (r.Hook == "input" || routed && late)
	remove := fmt.Sprintf("remove the rule (nft -a list chain %s %s %s)", r.Family, r.Table, r.Chain)
	switch {
	case !listen && !translated && !atServer && !arrived:
	case early:
		x.add(CodeHelperSoon, finding.Warning,
			fmt.Sprintf("%s attaches the helper %q at priority %d, before conntrack (%d): the kernel "+
				"silently ignores that",
				chainOf(r), r.Helper, r.Priority, conntrackPriority),
			remove+": tracking = \"kernel\" attaches the helper at the right place")
	case x.forward.Tracking == forward.TrackingKernel:
		x.add(CodeHelper, finding.Info,
			fmt.Sprintf("%s attaches the helper %q to the forward's connections, as ftpgate does itself",
				chainOf(r), r.Helper), remove)
	case translated:
		x.add(CodeSequence, finding.Warning,
			fmt.Sprintf("%s attaches the helper %q at priority %d, after translation (%d): "+
				"most kernels do not adjust sequence numbers then, and a session hangs after the first "+
				"rewritten address",
				chainOf(r), r.Helper, r.Priority, translationPriority),
			remove+", and use tracking = \"kernel\"")
	case atServer:
		x.add(CodeHelper, finding.Warning,
			fmt.Sprintf("%s attaches the helper %q to ftpgate's own connections to the server: it drops "+
				"replies that arrive in pieces", chainOf(r), r.Helper), remove)
	default:
		x.add(CodeHelper, finding.Warning,
			fmt.Sprintf("%s attaches the helper %q to the forward's connections: "+
				"it drops what it cannot read, and opens ports that ftpgate does not know", chainOf(r),
				r.Helper),
			remove)
	}
}

// automaticHelper checks kernels before 6.0, where the helper may attach itself.
func (x *examination) automaticHelper() {
	on, known := x.sysctl(facts.SysctlHelper)
	if !known || on == 0 || x.forward.Listen.Port != ftpPort && x.forward.Server.Port != ftpPort ||
		x.forward.Tracking == forward.TrackingKernel {
		return
	}
	x.add(CodeHelperAuto, finding.Warning,
		fmt.Sprintf("%s is on: the kernel's helper reads every connection to port %d beside ftpgate, and "+
			"drops what it cannot read",
			facts.SysctlHelper, ftpPort), "sysctl -w "+facts.SysctlHelper+"=0")
}

// untracked checks a rule that keeps conntrack from tracking connections, which then cannot be translated.
func (x *examination) untracked(r nftforeign.Rule) {
	control := x.forward.Tracking != forward.TrackingProxy && x.matches(r, x.forward.Listen.Port)
	data := x.kernelCarries() && x.matchesRange(r, x.dataPorts())
	if r.Hook != "prerouting" || r.Priority >= 0 || !control && !data {
		return
	}
	what := "the forward's data connections"
	if control {
		what = "the forward's connections"
	}
	x.add(CodeUntracked, ifNarrow(r, finding.Fault),
		fmt.Sprintf("%s keeps the kernel from tracking %s, and what is not tracked is not translated",
			chainOf(r), what),
		"remove the forward's ports from that rule")
}

// translatedElsewhere checks a rule that redirects the forward's connections.
func (x *examination) translatedElsewhere(r nftforeign.Rule) {
	if r.Hook != "prerouting" {
		return
	}
	const remedy = "remove that rule (of a container: publish another port), or choose another port"
	if x.matches(r, x.forward.Listen.Port) {
		level := ifNarrow(r, finding.Fault)
		if r.To.IsValid() && !x.forward.Listen.Addr.IsValid() { // for that address only
			level = finding.Warning
		}
		x.add(CodeElsewhere, level,
			fmt.Sprintf("%s sends connections to port %d elsewhere before ftpgate gets them", chainOf(r),
				x.forward.Listen.Port), remedy)
		return
	}
	if ports := x.dataPorts(); x.matchesRange(r, ports) {
		x.add(CodeElsewhere, finding.Warning,
			fmt.Sprintf("%s sends connections to ports within %s elsewhere, where the forward's data "+
				"connections arrive", chainOf(r), ports), remedy)
	}
}

// dataPorts are the gateway's ports where the forward's data connections arrive; empty: the kernel may choose
// any.
func (x *examination) dataPorts() forward.PortRange {
	if x.forward.Tracking == forward.TrackingProxy {
		return x.forward.DataPorts()
	}
	return x.forward.ServerPorts
}

// matches reports whether a rule is for connections to a port of the listen address.
func (x *examination) matches(r nftforeign.Rule, port uint16) bool {
	listen := x.forward.Listen.Addr
	if r.To.IsValid() && listen.IsValid() && r.To != listen {
		return false
	}
	if listen.IsValid() && (r.Family == "ip" && listen.Is6() || r.Family == "ip6" && listen.Is4()) {
		return false
	}
	return x.matchesPort(r, port)
}

// matchesPort ignores the address. A rule without ports but with unknown conditions may be for other
// connections.
func (x *examination) matchesPort(r nftforeign.Rule, port uint16) bool {
	if len(r.Ports) == 0 {
		return !r.Narrow
	}
	return slices.ContainsFunc(r.Ports, func(p forward.PortRange) bool { return p.Contains(port) })
}

func (x *examination) matchesRange(r nftforeign.Rule, ports forward.PortRange) bool {
	if listen := x.forward.Listen.Addr; r.To.IsValid() && listen.IsValid() && r.To != listen {
		return false
	}
	return slices.ContainsFunc(r.Ports, ports.Overlaps)
}

// ifNarrow lowers a severity to a warning for a rule that may not match every connection.
func ifNarrow(r nftforeign.Rule, l finding.Severity) finding.Severity {
	if r.Narrow {
		return finding.Warning
	}
	return l
}

// chainOf names the rule's chain, for the beginning of a sentence.
func chainOf(r nftforeign.Rule) string {
	return nftforeign.Chain{Family: r.Family, Table: r.Table, Name: r.Chain, Owner: r.Owner}.String()
}
