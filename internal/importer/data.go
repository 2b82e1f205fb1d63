package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/importer/rule"
)

// passivePorts finds the translations of the servers' passive ports.
func (a *analysis) passivePorts() {
	for _, r := range a.paths {
		if !inNAT(r) || !r.Path.Ports.Limited || r.Path.Protocol == "udp" || !r.To.First.IsValid() ||
			len(a.controlPorts(r)) > 0 && len(r.Path.Ports.Ranges) == 1 {
			continue
		}
		for _, of := range r.Path.Ports.Ranges {
			a.passiveRange(r, of)
		}
	}
	for _, c := range a.found {
		a.serverPorts(c)
	}
}

// passiveRange gives a range of ports to the forwards of the server that it leads to.
func (a *analysis) passiveRange(r rule.PathRule, of rule.PortRange) {
	if of.First < forward.LowestDataPort || slices.ContainsFunc(a.found, func(c *candidate) bool {
		return c.path.ID == r.ID && of.Contains(c.listen)
	}) {
		return
	}
	for _, c := range a.found {
		if c.Server.Host != r.To.First.String() ||
			c.path.Path.Destination.And(r.Path.Destination).Limited &&
				!c.path.Path.Destination.Overlaps(r.Path.Destination) {
			continue
		}
		if of.First == of.Last && aboutOther(r) {
			continue
		}
		if !r.To.Ports.IsEmpty() && r.To.Ports != of {
			a.left(r.Place, "it sends the ports %d to %d to other ports of the server, but clients connect "+
				"to those that the server names. ftpgate needs no such rule", of.First, of.Last)
		} else {
			c.passive = append(c.passive, of)
		}
		c.replaces(a, r)
	}
}

// aboutOther reports whether a translation of a single port is probably of another service.
func aboutOther(r rule.PathRule) bool {
	return !aboutFTP.MatchString(r.Comment) && !aboutData.MatchString(r.Comment)
}

// enoughPorts is what is left for ftpgate's own data connections: two for each of as many sessions as a
// busy server has.
const enoughPorts = 1024

// serverPorts sets server_ports, so that encrypted sessions pass through as before.
func (a *analysis) serverPorts(c *candidate) {
	if len(c.passive) == 0 {
		if c.Tracking == forward.TrackingNone {
			c.comment("Set server_ports to the passive ports of the server.")
		}
		return
	}
	slices.SortFunc(c.passive, func(x, y rule.PortRange) int {
		return int(y.Last-y.First) - int(x.Last-x.First)
	})
	ports := forward.PortRange(c.passive[0])
	for _, other := range c.passive[1:] {
		if other != c.passive[0] {
			a.left(c.path.Place, "the ports %d to %d of the server: server_ports is one range, here the "+
				"largest",
				other.First, other.Last)
		}
	}
	if c.Tracking == forward.TrackingNone {
		c.ServerPorts = ports
		return
	}
	free := outside(ports)
	if free.Last-free.First < enoughPorts {
		a.left(c.path.Place, "server_ports = %q, with which encrypted sessions (FTPS) would pass through: "+
			"it leaves no room for passive_ports. Configure a smaller range at the server", ports)
		return
	}
	c.ServerPorts = ports
	c.comment("server_ports passes encrypted sessions (FTPS) through, as before. Without FTPS, remove the " +
		"key.")
	if ports.Overlaps(forward.DefaultPassivePorts) {
		c.PassivePorts = free
		c.comment("passive_ports makes room for server_ports: let your firewall admit them.")
	}
}

// dropServerPorts takes the keys away that serverPorts sets, and what it says of them.
func (c *candidate) dropServerPorts() {
	c.ServerPorts, c.PassivePorts = forward.PortRange{}, forward.PortRange{}
	c.Comments = slices.DeleteFunc(c.Comments, func(s string) bool {
		return strings.HasPrefix(s, "server_ports") || strings.HasPrefix(s, "passive_ports")
	})
}

// outside returns the largest range for data connections beside the server's ports.
func outside(ports forward.PortRange) forward.PortRange {
	const lowest = 20_000 // below are the ports of services
	usual := forward.DefaultPassivePorts
	ranges := []forward.PortRange{usual}
	if ports.Overlaps(usual) {
		ranges = []forward.PortRange{
			{First: max(ports.Last, usual.First-1) + 1, Last: usual.Last},
			{First: lowest, Last: ports.First - 1},
		}
		if ports.Last == usual.Last {
			ranges = ranges[1:]
		}
		if ports.First > usual.First+enoughPorts {
			ranges = append(ranges, forward.PortRange{First: usual.First, Last: ports.First - 1})
		}
	}
	best := forward.PortRange{}
	for _, r := range ranges {
		if r.First <= r.Last && r.Last-r.First > best.Last-best.First {
			best = r
		}
	}
	return best
}

// helpers finds which forwards the kernel's helper tracked, and mistakes that made it useless.
func (a *analysis) helpers() {
	for _, c := range a.found {
		for _, h := range a.ftpHelpers {
			if a.tracks(h, c) {
				c.helped = true
				c.replaces(a, h)
				a.misplaced(c, h)
			}
		}
		a.tracking(c)
	}
}

// tracks reports whether a helper is attached to the connections of a forward: before the translation, or
// behind it.
func (a *analysis) tracks(h rule.PathRule, c *candidate) bool {
	before := c.path.Path
	before.Others = nil
	before.Ports = rule.OnlyPorts(rule.PortRange{First: c.listen, Last: c.listen})
	if c.Listen.Addr.IsValid() {
		before.Destination = rule.Only(netip.PrefixFrom(c.Listen.Addr, c.Listen.Addr.BitLen()))
	}
	behind := rule.Match{Protocol: "tcp", In: c.path.Path.In, Source: c.path.Path.Source,
		Ports: rule.OnlyPorts(rule.PortRange{First: c.server, Last: c.server})}
	if server, literal := c.Server.Addr(); literal {
		behind.Destination = rule.Only(netip.PrefixFrom(server, server.BitLen()))
	}
	switch {
	case h.Path.Protocol == "udp" || h.Base.Hook == rule.Output || h.Base.Hook == rule.Input || !sameFamily(h,
		c):
		return false
	case h.Base.Hook == rule.Prerouting && h.Base.Priority < -100:
		return !h.Path.And(before).Never()
	}
	return !h.Path.And(behind).Never() || !h.Path.And(before).Never() && h.Base.Hook == rule.Prerouting
}

func sameFamily(h rule.PathRule, c *candidate) bool {
	return h.Chain.Family == c.path.Chain.Family || h.Chain.Family == "inet" || c.path.Chain.Family == "inet"
}

// misplaced finds a helper of nftables at a priority at which the kernel ignores it, or is too late.
func (a *analysis) misplaced(c *candidate, h rule.PathRule) {
	switch {
	case h.Base.Type == "raw":
	case h.Base.Priority <= -200:
		c.comment("The helper never worked: the kernel ignores it before connection tracking (priority %d).",
			h.Base.Priority)
	case h.Base.Priority >= -100:
		c.comment("The helper came after the translation (priority %d): on most kernels sessions hang so.",
			h.Base.Priority)
	}
}

// tracking chooses who follows the dialogue, and says why.
func (a *analysis) tracking(c *candidate) {
	switch {
	case c.Tracking == forward.TrackingNone:
		c.comment(`Tracking is "none": sessions at port %d are encrypted from their first byte.`,
			implicitPort)
		c.comment("To read them instead, use [forward.tls] with a certificate.")
	case c.helped && a.options.Kernel:
		c.Tracking = forward.TrackingKernel
		c.dropServerPorts()
		c.comment("The kernel's helper tracks this forward, as before, because --tracking kernel was given.")
	case c.helped:
		c.comment(`Tracking is "proxy", the default: it needs no helper and no module of the kernel, and ` +
			"works with servers that the helper cannot read.")
		c.comment(`For the helper, as before: ftpgate import --tracking kernel.`)
	case len(c.passive) > 0:
	case a.helperAt(c.server) && c.server != c.listen:
		c.comment("The old rules had no passive mode: the helper looked at port %d, before the translation, "+
			"but clients come to port %d.", c.server, c.listen)
	case len(a.set.Modules) > 0:
		c.comment("The old rules only load the helper's module: kernels from 6.0 on attach it to no " +
			"connection without a rule, so that passive mode failed.")
	case c.path.Path.Ports.Limited:
		c.comment("Here the old rules carry the control connection alone: they have neither a helper for " +
			"it nor a range of passive ports. ftpgate carries the data, too.")
	}
}

// helperAt reports whether a helper that fits no forward is attached to a port.
func (a *analysis) helperAt(port uint16) bool {
	return slices.ContainsFunc(a.ftpHelpers, func(h rule.PathRule) bool {
		return h.Path.Ports.Limited && h.Path.Ports.Contains(port)
	})
}

// portList returns the ports of a condition in words.
func portList(p rule.Ports) []string {
	var all []string
	for _, r := range p.Ranges {
		if r.First == r.Last {
			all = append(all, fmt.Sprint(r.First))
		} else {
			all = append(all, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return all
}
