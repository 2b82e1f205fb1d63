package doctor

import (
	"fmt"
	"slices"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nftforeign"
)

// The priorities between which a helper can be attached (include/uapi/linux/netfilter_ipv4.h): after
// conntrack, which makes the connection, and before translation, which must know of the helper to keep room
// for the adjustment of sequence numbers.
const (
	conntrackPriority   = -200
	translationPriority = -100
)

// ftpPort is what the kernel's helper attaches itself to where it may (RFC 959 section 3.2).
const ftpPort = 21

// foreign judges other programs' rules that meet connections of the forward.
func (e *examiner) foreign() {
	for _, r := range e.facts.Rules {
		switch r.Action {
		case nftforeign.ActionHelper:
			e.helper(r)
		case nftforeign.ActionNoTrack:
			e.untracked(r)
		case nftforeign.ActionDNAT:
			e.elsewhere(r)
		case nftforeign.ActionSynProxy:
			if e.of.Tracking == forward.TrackingKernel && e.meets(r, e.of.Listen.Port) {
				e.say(CodeSequence, finding.Warning, fmt.Sprintf("%s has a synproxy at port %d: it shifts sequence numbers, and so does the kernel's ftp helper",
					chainOf(r), e.of.Listen.Port), "take the forward's port out of that rule, or use tracking = \"proxy\"")
			}
		}
	}
	e.automatic()
}

// helper judges a helper that another program attaches.
func (e *examiner) helper(r nftforeign.Rule) {
	early := !r.Template && r.Priority <= conntrackPriority
	late := !r.Template && r.Priority > translationPriority
	listen := r.Hook == "prerouting" && !late && e.meets(r, e.of.Listen.Port)
	translated := r.Hook == "prerouting" && late && e.of.Tracking != forward.TrackingProxy && e.meetsPort(r, e.of.Server.Port)
	atServer := r.Hook == "output" && e.of.Tracking == forward.TrackingProxy && e.meetsPort(r, e.of.Server.Port)
	arrived := r.Hook == "input" && e.of.Tracking == forward.TrackingProxy && e.meets(r, e.of.Listen.Port) ||
		r.Hook == "prerouting" && late && e.of.Tracking == forward.TrackingProxy && e.meets(r, e.of.Listen.Port)
	take := fmt.Sprintf("take the rule out (nft -a list chain %s %s %s)", r.Family, r.Table, r.Chain)
	switch {
	case !listen && !translated && !atServer && !arrived:
	case early:
		e.say(CodeHelperSoon, finding.Warning, fmt.Sprintf("%s attaches the helper %q at priority %d, before conntrack (%d): the kernel ignores that without a word",
			chainOf(r), r.Helper, r.Priority, conntrackPriority), take+": tracking = \"kernel\" attaches the helper where it must be")
	case e.of.Tracking == forward.TrackingKernel:
		e.say(CodeHelper, finding.Info, fmt.Sprintf("%s attaches the helper %q to the forward's connections, as ftpgate does itself", chainOf(r), r.Helper), take)
	case translated:
		e.say(CodeSequence, finding.Warning, fmt.Sprintf("%s attaches the helper %q at priority %d, after translation (%d): "+
			"most kernels do not adjust sequence numbers then, and a session hangs after the first address that is rewritten",
			chainOf(r), r.Helper, r.Priority, translationPriority), take+", and use tracking = \"kernel\"")
	case atServer:
		e.say(CodeHelper, finding.Warning, fmt.Sprintf("%s attaches the helper %q to ftpgate's own connections to the server: it drops replies that come in pieces", chainOf(r), r.Helper), take)
	default:
		e.say(CodeHelper, finding.Warning, fmt.Sprintf("%s attaches the helper %q to the forward's connections: "+
			"it drops what it cannot read, and what it opens is not ftpgate's", chainOf(r), r.Helper), take)
	}
}

// automatic is for kernels before 6.0, where the helper may attach itself.
func (e *examiner) automatic() {
	on, known := e.number(sysctlHelper)
	if !known || on == 0 || e.of.Listen.Port != ftpPort && e.of.Server.Port != ftpPort || e.of.Tracking == forward.TrackingKernel {
		return
	}
	e.say(CodeHelperAuto, finding.Warning, fmt.Sprintf("%s is on: the kernel's helper reads every connection to port %d beside ftpgate, and drops what it cannot read",
		sysctlHelper, ftpPort), "sysctl -w "+sysctlHelper+"=0")
}

// untracked judges a rule that keeps conntrack from connections, which then cannot be translated.
func (e *examiner) untracked(r nftforeign.Rule) {
	control := e.of.Tracking != forward.TrackingProxy && e.meets(r, e.of.Listen.Port)
	data := e.carries() && e.meetsRange(r, e.dataPorts())
	if r.Hook != "prerouting" || r.Priority >= 0 || !control && !data {
		return
	}
	what := "the forward's data connections"
	if control {
		what = "the forward's connections"
	}
	e.say(CodeUntracked, ifNarrow(r, finding.Fault), fmt.Sprintf("%s keeps the kernel from tracking %s, and what is not tracked is not translated", chainOf(r), what),
		"take the forward's ports out of that rule")
}

// elsewhere judges a rule that sends the forward's connections somewhere else.
func (e *examiner) elsewhere(r nftforeign.Rule) {
	if r.Hook != "prerouting" {
		return
	}
	const remedy = "take that rule out (of a container: publish another port), or choose another port"
	if e.meets(r, e.of.Listen.Port) {
		level := ifNarrow(r, finding.Fault)
		if r.To.IsValid() && !e.of.Listen.Addr.IsValid() { // one of the addresses
			level = finding.Warning
		}
		e.say(CodeElsewhere, level, fmt.Sprintf("%s sends connections to port %d elsewhere before ftpgate gets them", chainOf(r), e.of.Listen.Port), remedy)
		return
	}
	if ports := e.dataPorts(); e.meetsRange(r, ports) {
		e.say(CodeElsewhere, finding.Warning, fmt.Sprintf("%s sends connections to ports within %s elsewhere, at which the forward's data connections come in", chainOf(r), ports), remedy)
	}
}

// dataPorts are the gateway's ports at which the forward's data connections come in; empty: any, by the
// kernel's choice.
func (e *examiner) dataPorts() forward.PortRange {
	if e.of.Tracking == forward.TrackingProxy {
		return e.of.PortsForData()
	}
	return e.of.ServerPorts
}

// meets tells whether a rule is for connections to a port of the listen address.
func (e *examiner) meets(r nftforeign.Rule, port uint16) bool {
	listen := e.of.Listen.Addr
	if r.To.IsValid() && listen.IsValid() && r.To != listen {
		return false
	}
	if listen.IsValid() && (r.Family == "ip" && listen.Is6() || r.Family == "ip6" && listen.Is4()) {
		return false
	}
	return e.meetsPort(r, port)
}

// meetsPort leaves the address out. A rule without ports but with conditions that were not read may be for
// something else altogether.
func (e *examiner) meetsPort(r nftforeign.Rule, port uint16) bool {
	if len(r.Ports) == 0 {
		return !r.Narrow
	}
	return slices.ContainsFunc(r.Ports, func(p forward.PortRange) bool { return p.Contains(port) })
}

// meetsRange tells whether a rule names ports of a range.
func (e *examiner) meetsRange(r nftforeign.Rule, ports forward.PortRange) bool {
	if listen := e.of.Listen.Addr; r.To.IsValid() && listen.IsValid() && r.To != listen {
		return false
	}
	return slices.ContainsFunc(r.Ports, ports.Overlaps)
}

// ifNarrow lowers a severity to a warning for a rule that may not be about every connection.
func ifNarrow(r nftforeign.Rule, l finding.Severity) finding.Severity {
	if r.Narrow {
		return finding.Warning
	}
	return l
}

// chainOf names the rule's chain, for the beginning of a sentence.
func chainOf(r nftforeign.Rule) string {
	return ChainName(nftforeign.Chain{Family: r.Family, Table: r.Table, Name: r.Chain, Owner: r.Owner})
}
