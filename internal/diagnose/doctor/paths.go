package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// forwarding looks whether the kernel passes packets on.
func (e *examiner) forwarding() {
	if !e.carries() {
		return
	}
	for _, v := range []struct {
		server netip.Addr
		name   string
		sysctl string
	}{{e.of.Server4, "IPv4", sysctlForward4}, {e.of.Server6, "IPv6", sysctlForward6}} {
		if !v.server.IsValid() {
			continue
		}
		value, known := e.number(v.sysctl)
		switch {
		case !known:
		case value == 0 && e.facts.Running:
			e.say(CodeForwarding, finding.Fault, fmt.Sprintf("%s forwarding is off, though ftpgate is running: data that the kernel is to carry goes nowhere", v.name),
				"sysctl -w "+v.sysctl+"=1, and look who switched it off")
		case value == 0:
			e.say(CodeForwarding, finding.Info, v.name+" forwarding is off: ftpgate switches it on when it starts", "sysctl -w "+v.sysctl+"=1, to have it done already")
		default:
			e.say(CodeForwarding, finding.OK, v.name+" forwarding is on", "")
			if v.server.Is4() {
				e.forwardsOn()
			}
		}
	}
}

// forwardsOn finds interfaces that do not pass on what comes in by them, whatever the switch for all says
// (ip_route_input_slow in net/ipv4/route.c asks the interface).
func (e *examiner) forwardsOn() {
	var names []string
	add := func(r system.Route) {
		if r.Interface != "" && !r.Local && !slices.Contains(names, r.Interface) {
			names = append(names, r.Interface)
		}
	}
	for _, side := range e.clientSide() {
		add(side)
	}
	add(e.facts.Routes[e.of.Server4])
	for _, name := range names {
		if value, known := e.number(conf4(name, "forwarding")); known && value == 0 {
			e.say(CodeForwarding, finding.Fault, fmt.Sprintf("IPv4 forwarding is off on %s alone: data that the kernel is to carry ends there", name),
				"sysctl -w "+conf4(name, "forwarding")+"=1")
		}
	}
}

// strict is the mode of rp_filter that drops what would be answered by another interface (RFC 3704
// section 2.2; ip-sysctl.rst).
const strict = 1

// filters tells whether an interface drops what would be answered by another: the higher of its own mode
// and that of all counts.
func (e *examiner) filters(link string) bool {
	all, _ := e.number(conf4("all", "rp_filter"))
	own, known := e.number(conf4(link, "rp_filter"))
	return known && max(all, own) == strict
}

// reverse finds packets that a strict rp_filter drops: of clients, and of the server.
func (e *examiner) reverse() {
	const remedy = "sysctl -w %s=2 (loose), or a route by which answers leave where questions come in"
	sound := false
	for _, c := range e.of.Clients {
		back, known := e.facts.Routes[clientOf(c)]
		if !known || back.Problem != "" || back.Local || !c.Addr().Is4() {
			continue
		}
		for _, in := range e.clientSide() {
			switch {
			case in.Interface == back.Interface || in.Local:
				sound = sound || in.Interface == back.Interface && e.filters(in.Interface)
			case e.filters(in.Interface):
				e.say(CodeReverse, finding.Fault, fmt.Sprintf("packets of clients %s that come in by %s are dropped, since the way back leads out of %s and rp_filter is strict",
					c, in.Interface, back.Interface), fmt.Sprintf(remedy, conf4(in.Interface, "rp_filter")))
			default:
				e.say(CodeReverse, finding.Info, fmt.Sprintf("clients %s are answered by %s, and not by %s, where they come in: a firewall in between may not like it",
					c, back.Interface, in.Interface), "")
			}
		}
	}
	e.reverseServer(remedy)
	if sound {
		e.say(CodeReverse, finding.OK, "rp_filter is strict, and the way back to clients is the way by which they come", "")
	}
}

// reverseServer finds a source address that belongs to another interface than the one that packets to the
// server leave by: the answers come in there.
func (e *examiner) reverseServer(remedy string) {
	r, known := e.facts.Routes[e.of.Server4]
	if !known || !r.Source.Is4() || r.Local || r.Problem != "" {
		return
	}
	owner := e.ownerOf(r.Source)
	if owner == "" || owner == r.Interface || owner == "lo" || !e.filters(owner) {
		return
	}
	e.say(CodeReverse, finding.Warning, fmt.Sprintf("packets to the server leave by %s with the address %s of %s: answers that come in there are dropped, since rp_filter is strict",
		r.Interface, r.Source, owner), fmt.Sprintf(remedy, conf4(owner, "rp_filter")))
}

// ownerOf returns the interface that has an address.
func (e *examiner) ownerOf(addr netip.Addr) string {
	for _, l := range e.facts.Links {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return l.Name
		}
	}
	return ""
}

// inputs finds chains that refuse the clients of a proxy, whose connections end at the gateway.
func (e *examiner) inputs() {
	if e.of.Tracking != forward.TrackingProxy {
		return
	}
	for _, in := range e.facts.Inputs {
		if !sees(in, e.of.Forward) || e.fromOpen(in) {
			continue
		}
		chain := in.Chain
		if chain.Owner == "docker" { // it only stands in Docker's table: Docker has no rules for the gateway itself
			chain.Owner = ""
		}
		if !open(in.Ports, forward.PortRange{First: e.of.Listen.Port, Last: e.of.Listen.Port}) {
			e.say(CodeInput, finding.Warning, fmt.Sprintf("%s refuses what it does not know, and no rule of it lets port %d in", ChainName(chain), e.of.Listen.Port),
				openRemedy(in.Chain, fmt.Sprint(e.of.Listen.Port)))
		}
		if ports := e.of.PortsForData(); !e.carries() && !open(in.Ports, ports) {
			e.say(CodeInput, finding.Warning, fmt.Sprintf("%s refuses what it does not know, and no rule of it lets the passive ports %s in", ChainName(chain), ports),
				openRemedy(in.Chain, ports.String()))
		}
	}
}

// sees tells whether packets of the forward's clients come to the chain at all.
func sees(in nftforeign.InputChain, f forward.Forward) bool {
	listen := f.Listen.Addr
	switch {
	case listen.IsLoopback():
		return false
	case !listen.IsValid():
		return true
	}
	return in.Family == "inet" || (in.Family == "ip6") == listen.Is6()
}

// fromOpen tells whether every interface that clients come by is open altogether.
func (e *examiner) fromOpen(in nftforeign.InputChain) bool {
	sides := e.clientSide()
	return len(sides) > 0 && !slices.ContainsFunc(sides, func(r system.Route) bool { return !slices.Contains(in.Interfaces, r.Interface) })
}

// open tells whether a range is within one of those that are let in.
func open(ports []forward.PortRange, wanted forward.PortRange) bool {
	return slices.ContainsFunc(ports, func(r forward.PortRange) bool { return r.Contains(wanted.First) && r.Contains(wanted.Last) })
}
