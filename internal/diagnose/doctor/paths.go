package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// forwarding checks whether the kernel forwards packets.
func (x *examination) forwarding() {
	if !x.kernelCarries() {
		return
	}
	for _, v := range []struct {
		server netip.Addr
		name   string
		sysctl string
	}{{x.forward.Server4, "IPv4", facts.SysctlForward4}, {x.forward.Server6, "IPv6", facts.SysctlForward6}} {
		if !v.server.IsValid() {
			continue
		}
		value, known := x.sysctl(v.sysctl)
		switch {
		case !known:
		case value == 0 && x.facts.Running:
			x.add(CodeForwarding, finding.Fault,
				fmt.Sprintf("%s forwarding is off, though ftpgate is running: the kernel drops the data "+
					"that it should carry", v.name),
				"sysctl -w "+v.sysctl+"=1, and find out who switched it off")
		case value == 0:
			x.add(CodeForwarding, finding.Info,
				v.name+" forwarding is off: ftpgate switches it on when it starts",
				"sysctl -w "+v.sysctl+"=1, to do it now")
		default:
			x.note(CodeForwarding, finding.OK, "%s forwarding is on", v.name)
			if v.server.Is4() {
				x.interfaceForwarding()
			}
		}
	}
}

// interfaceForwarding finds interfaces that do not forward packets, whatever the sysctl for all
// (ip_route_input_slow in net/ipv4/route.c asks the interface).
func (x *examination) interfaceForwarding() {
	var names []string
	add := func(r system.Route) {
		if r.Interface != "" && !r.Local && !slices.Contains(names, r.Interface) {
			names = append(names, r.Interface)
		}
	}
	for _, side := range x.clientSide() {
		add(side)
	}
	add(x.facts.Routes[x.forward.Server4])
	for _, name := range names {
		if value, known := x.sysctl(facts.InterfaceSysctl(name, "forwarding")); known && value == 0 {
			x.add(CodeForwarding, finding.Fault,
				fmt.Sprintf("IPv4 forwarding is off on %s alone: the kernel drops the data that it should "+
					"carry", name),
				"sysctl -w "+facts.InterfaceSysctl(name, "forwarding")+"=1")
		}
	}
}

// strictMode is the rp_filter mode that drops packets whose answer would leave by another interface (RFC 3704
// section 2.2; ip-sysctl.rst).
const strictMode = 1

// strictFilter reports whether an interface drops packets whose answer would leave by another one. The higher
// of its own mode and that of all counts.
func (x *examination) strictFilter(link string) bool {
	all, _ := x.sysctl(facts.InterfaceSysctl("all", "rp_filter"))
	own, known := x.sysctl(facts.InterfaceSysctl(link, "rp_filter"))
	return known && max(all, own) == strictMode
}

// reversePath finds packets that a strict rp_filter drops: those of clients, and those of the server.
func (x *examination) reversePath() {
	const remedy = "sysctl -w %s=2 (loose), or a route by which answers leave where packets arrive"
	sound := false
	for _, c := range x.forward.Clients {
		back, known := x.facts.Routes[facts.ClientOf(c)]
		if !known || back.Problem != "" || back.Local || !c.Addr().Is4() {
			continue
		}
		for _, in := range x.clientSide() {
			switch {
			case in.Interface == back.Interface || in.Local:
				sound = sound || in.Interface == back.Interface && x.strictFilter(in.Interface)
			case x.strictFilter(in.Interface):
				x.add(CodeReverse, finding.Fault,
					fmt.Sprintf("packets of clients %s that arrive on %s are dropped, since the return "+
						"route is by %s and rp_filter is strict",
						c, in.Interface, back.Interface),
					fmt.Sprintf(remedy, facts.InterfaceSysctl(in.Interface, "rp_filter")))
			default:
				x.note(CodeReverse, finding.Info, "clients %s arrive on %s and are answered by %s: a "+
					"firewall in between may drop that", c, in.Interface, back.Interface)
			}
		}
	}
	x.serverReversePath(remedy)
	if sound {
		x.note(CodeReverse, finding.OK, "rp_filter is strict, and clients are answered by the interface "+
			"that they arrive on")
	}
}

// serverReversePath finds packets to the server whose source address belongs to another interface than the
// one that they leave by: the answers arrive there.
func (x *examination) serverReversePath(remedy string) {
	r, known := x.facts.Routes[x.forward.Server4]
	if !known || !r.Source.Is4() || r.Local || r.Problem != "" {
		return
	}
	owner := x.ownerOf(r.Source)
	if owner == "" || owner == r.Interface || owner == "lo" || !x.strictFilter(owner) {
		return
	}
	x.add(CodeReverse, finding.Warning,
		fmt.Sprintf("packets to the server leave by %s with the address %s of %s: answers that arrive "+
			"there are dropped, since rp_filter is strict",
			r.Interface, r.Source, owner), fmt.Sprintf(remedy, facts.InterfaceSysctl(owner, "rp_filter")))
}

// ownerOf returns the interface that has an address.
func (x *examination) ownerOf(addr netip.Addr) string {
	for _, l := range x.facts.Links {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return l.Name
		}
	}
	return ""
}

// inputChains finds chains that refuse the clients of a proxy, whose connections end at the gateway.
func (x *examination) inputChains() {
	if x.forward.Tracking != forward.TrackingProxy {
		return
	}
	for _, in := range x.facts.Inputs {
		if !concerns(in, x.forward.Forward) || x.fromOpenInterface(in) {
			continue
		}
		chain := in.Chain
		// it is only in Docker's table: Docker has no rules for the gateway itself
		if chain.Owner == "docker" {
			chain.Owner = ""
		}
		if !containsRange(in.Ports, forward.PortRange{First: x.forward.Listen.Port,
			Last: x.forward.Listen.Port}) {
			x.add(CodeInput, finding.Warning,
				fmt.Sprintf("%s refuses by default, and no rule of it accepts port %d",
					chain.String(), x.forward.Listen.Port),
				facts.OpenRemedy(in.Chain, fmt.Sprint(x.forward.Listen.Port)))
		}
		if ports := x.forward.DataPorts(); x.relayCarries() && !containsRange(in.Ports, ports) {
			x.add(CodeInput, finding.Warning,
				fmt.Sprintf("%s refuses by default, and no rule of it accepts the passive ports %s",
					chain.String(), ports),
				facts.OpenRemedy(in.Chain, ports.String()))
		}
	}
}

// concerns reports whether packets of the forward's clients reach the chain.
func concerns(in nftforeign.InputChain, f forward.Forward) bool {
	listen := f.Listen.Addr
	switch {
	case listen.IsLoopback():
		return false
	case !listen.IsValid():
		return true
	}
	return in.Family == "inet" || (in.Family == "ip6") == listen.Is6()
}

// fromOpenInterface reports whether the chain accepts all packets from every interface on which clients
// arrive.
func (x *examination) fromOpenInterface(in nftforeign.InputChain) bool {
	sides := x.clientSide()
	return len(sides) > 0 && !slices.ContainsFunc(sides,
		func(r system.Route) bool { return !slices.Contains(in.Interfaces, r.Interface) })
}

// containsRange reports whether one of the ranges contains another one.
func containsRange(ports []forward.PortRange, wanted forward.PortRange) bool {
	return slices.ContainsFunc(ports, func(r forward.PortRange) bool {
		return r.Contains(wanted.First) &&
			r.Contains(wanted.Last)
	})
}
