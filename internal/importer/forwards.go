package importer

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/importer/rule"
)

// The ports that are FTP's, and 2121, which recipes use in place of 21.
const (
	activePort   = 20
	controlPort  = 21
	implicitPort = 990
	recipePort   = 2121
)

// maxForwards bounds what is proposed: more is no file that a person made.
const maxForwards = 5_000

// aboutFTP finds a comment that calls a port one of FTP.
var aboutFTP = regexp.MustCompile(`(?i)\bftps?\b`)

// aboutData finds a comment about ports for data.
var aboutData = regexp.MustCompile(`(?i)pasv|passive|data`)

// inNAT reports whether a rule translates the destinations of connections that come in.
func inNAT(r rule.PathRule) bool {
	return (r.Action == rule.DNAT || r.Action == rule.Redirect) && r.Base.Hook == rule.Prerouting
}

// forwards finds the translations of control connections.
func (a *analysis) forwards() {
	for i, r := range a.paths {
		if r.Action != rule.DNAT && r.Action != rule.Redirect {
			continue
		}
		ports := a.controlPorts(r)
		switch {
		case len(ports) == 0:
			a.activeData(r)
			continue
		case r.Base.Hook == rule.Output && r.Chain.Chain == "DOCKER": // as for clients from outside
			continue
		case r.Base.Hook == rule.Output:
			a.left(r.Place, "it translates connections of the gateway's own programs: let these name the "+
				"server itself, or the address of the forward")
			continue
		case r.Base.Hook != rule.Prerouting:
			continue
		case r.Path.Protocol == "udp":
			a.left(r.Place, "FTP has no connections over UDP: the rule never did anything for FTP")
			a.delete(a.deletion(r)...)
			continue
		}
		for _, port := range ports {
			a.forward(r, a.paths[:i], port)
		}
	}
}

// controlPorts returns the ports of the rule at which clients begin a session.
func (a *analysis) controlPorts(r rule.PathRule) []uint16 {
	if r.Path.Protocol != "tcp" && r.Path.Protocol != "" && r.Path.Protocol != "udp" {
		return nil
	}
	ranges := r.Path.Ports.Ranges
	if !r.Path.Ports.Limited {
		ranges = []rule.PortRange{{First: 1, Last: 65535}}
	}
	var all []uint16
	for _, of := range ranges {
		for _, p := range a.controlPortsOf(r, of) {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all
}

func (a *analysis) controlPortsOf(r rule.PathRule, of rule.PortRange) []uint16 {
	known := []uint16{controlPort, recipePort, implicitPort}
	helped := a.helperPorts(r)
	if of.First == of.Last {
		p := of.First
		if slices.Contains(known, p) || slices.Contains(helped, p) ||
			r.To.Ports.First == r.To.Ports.Last && slices.Contains(known, r.To.Ports.First) ||
			p != activePort && aboutFTP.MatchString(r.Comment) && !aboutData.MatchString(r.Comment) {
			return []uint16{p}
		}
		return nil
	}
	var all []uint16
	for _, p := range append(helped, controlPort) {
		if of.Contains(p) {
			all = append(all, p)
		}
	}
	return all
}

// helperPorts returns the single ports to which the ftp helper is attached for packets of a translation.
func (a *analysis) helperPorts(r rule.PathRule) (ports []uint16) {
	for _, h := range a.ftpHelpers {
		if !h.Path.Ports.Limited || h.Base.Hook != rule.Prerouting || h.Path.And(r.Path).Never() {
			continue
		}
		for _, of := range h.Path.Ports.Ranges {
			if of.First == of.Last {
				ports = append(ports, of.First)
			}
		}
	}
	return ports
}

// activeData says what becomes of a translation of port 20.
func (a *analysis) activeData(r rule.PathRule) {
	if r.Path.Ports.Limited && len(r.Path.Ports.Ranges) == 1 && r.Path.Ports.Contains(activePort) {
		a.left(r.Place, "no client connects to port 20: in active mode it is the port from which the server "+
			"connects. The rule never did anything for FTP")
		a.delete(a.deletion(r)...)
	}
}

// forward makes the candidates for one port of a translation: one for each address at which it holds.
func (a *analysis) forward(r rule.PathRule, before []rule.PathRule, port uint16) {
	if len(a.found) >= maxForwards {
		a.left(r.Place, "there are more than %d forwards", maxForwards)
		return
	}
	packets := r.Path.And(rule.Match{Protocol: "tcp", Ports: rule.OnlyPorts(rule.PortRange{First: port,
		Last: port})})
	if !a.reached(r, packets, before, port) {
		return
	}
	if r.Action == rule.Redirect && port == controlPort && !r.Path.Destination.Limited &&
		!r.Path.LocalAddress {
		a.transparentProxy(r)
		return
	}
	if !r.To.First.IsValid() && r.To.Host == "" {
		a.left(r.Place, "it leads to a server on this host itself. A forward leads to another host: let the "+
			"server listen at port %d, and keep the rule until then", port)
		a.use(r)
		return
	}
	c := candidate{path: r, listen: port, server: port}
	switch to := r.To.Ports; {
	case to.First == to.Last && !to.IsEmpty():
		c.server = to.First
	case !to.IsEmpty() && !slices.Contains(r.Path.Ports.Ranges, to):
		a.left(r.Place, "it moves a range of ports to another one: iptables chooses the new port, and a "+
			"port of the range does not lead to the port beside it")
		return
	}
	a.ends(&c, r)
	a.conditions(&c, r)
	a.wide(&c, r)
	c.replaces(a, r)
	for _, at := range a.listenAddresses(&c, r) {
		one := c
		one.Listen.Addr = at
		one.Comments, one.Places = slices.Clone(c.Comments), slices.Clone(c.Places)
		if len(a.found) >= maxForwards {
			a.left(r.Place, "there are more than %d forwards", maxForwards)
			return
		}
		a.propose(&one)
	}
}

// propose adds a candidate. Of two that come of one rule, because several jumps lead to it, it keeps the one
// for more clients.
func (a *analysis) propose(c *candidate) {
	for i, o := range a.found {
		if o.path.ID == c.path.ID && o.Listen.Addr == c.Listen.Addr && o.listen == c.listen {
			if o.path.Path.Covers(c.path.Path) {
				return
			}
			if c.path.Path.Covers(o.path.Path) {
				a.found[i] = c
				return
			}
		}
	}
	a.found = append(a.found, c)
}

// reached reports whether packets get to the rule: an earlier one of its chain may take them.
func (a *analysis) reached(r rule.PathRule, packets rule.Match, before []rule.PathRule, port uint16) bool {
	for _, b := range before {
		if b.Base.ChainKey != r.Base.ChainKey || b.ID == r.ID || !b.Path.Ports.Contains(port) {
			continue
		}
		switch b.Action {
		case rule.Return:
			if b.Chain != r.Chain {
				continue
			}
		case rule.Accept, rule.Drop, rule.DNAT, rule.Redirect:
		default:
			continue
		}
		switch {
		case b.Path.And(packets).Never():
		case b.Path.Covers(packets):
			a.left(r.Place, "no connection ever gets to it: line %d takes them all before", b.Line)
			a.delete(a.deletion(r)...)
			a.use(r)
			return false
		case b.Action == rule.DNAT || b.Action == rule.Redirect:
		default:
			a.left(b.Place, "it takes some connections out before the translation on line %d: a forward has "+
				"no exceptions. To refuse clients, use the key deny", r.Line)
		}
	}
	return true
}

// ends sets the server and the interface.
func (a *analysis) ends(c *candidate, r rule.PathRule) {
	host := r.To.Host
	if r.To.First.IsValid() {
		host = r.To.First.String()
	}
	if r.To.Several() {
		a.left(r.Place, "it spreads connections over %s to %s: a forward has one server, here the first. A "+
			"name with several addresses is tried in their order", r.To.First, r.To.Last)
	}
	c.Server = forward.Server{Host: host, Port: c.server}
	c.Listen.Port = c.listen
	if r.Comment != "" && forward.CheckName(r.Comment) == nil && printable(r.Comment) == r.Comment {
		c.Name = r.Comment
	}
	if c.listen == implicitPort || c.server == implicitPort {
		c.Tracking = forward.TrackingNone
	}
}

// conditions carries over which clients the rules admit, and notes what it cannot carry over.
func (a *analysis) conditions(c *candidate, r rule.PathRule) {
	switch name, one := r.Path.In.One(); {
	case one && forward.CheckInterface(name) == nil && printable(name) == name:
		c.Listen.Interface = name
	case r.Chain.Chain == "DOCKER" &&
		r.Path.In.Not: // but Docker's own bridge, whose containers need no gateway
	case strings.HasPrefix(name, "zone "):
		a.wider(c, r, name+", whose interface is not named here (set the key interface)")
	case r.Path.In.Name != "":
		a.wider(c, r, "interface "+r.Path.In.String())
	}
	if r.Path.Source.Limited {
		c.Clients = slices.Clone(r.Path.Source.Prefixes)
		slices.SortFunc(c.Clients, netip.Prefix.Compare)
		c.Clients = slices.Compact(c.Clients)
	}
	others := slices.Clone(r.Path.Others)
	if r.Path.SourcePorts.Limited {
		others = append(others, "ports of the client "+strings.Join(portList(r.Path.SourcePorts), ", "))
	}
	if r.Path.Source.Cut || r.Path.Destination.Cut {
		others = append(others, "more addresses than can be listed")
	}
	if len(others) > 0 {
		a.wider(c, r, strings.Join(others, ", "))
	}
}

// wider says that the forward serves more clients than the rule did.
func (a *analysis) wider(c *candidate, r rule.PathRule, condition string) {
	c.comment("CAUTION: the old rule was only for: %s. This forward does not ask for that.", condition)
	a.left(r.Place, "the condition %q: a forward has no key for it, and so serves more clients than the rule",
		condition)
}

// wide says what happens to the other ports of a rule for many.
func (a *analysis) wide(c *candidate, r rule.PathRule) {
	if !r.Path.Ports.Limited {
		c.comment("The old rule sent every port to the server. ftpgate opens the ports of data connections " +
			"itself, each for one client.")
		a.left(r.Place, "every port but %d: ftpgate forwards FTP alone. If clients use other services of "+
			"the server, translate their ports with rules of their own", c.listen)
		return
	}
	for _, of := range r.Path.Ports.Ranges {
		if of.Contains(c.listen) && of.Last-of.First > 1 {
			a.left(r.Place, "the ports %d to %d but %d: ftpgate opens the ports of data connections itself, "+
				"each for one client", of.First, of.Last, c.listen)
		}
	}
}

// listenAddresses returns the addresses of the gateway at which the rule holds; one that is not valid is all.
func (a *analysis) listenAddresses(c *candidate, r rule.PathRule) []netip.Addr {
	if !r.Path.Destination.Limited {
		return []netip.Addr{{}}
	}
	var all []netip.Addr
	for _, p := range r.Path.Destination.Prefixes {
		if !p.IsSingleIP() || len(r.Path.Destination.Prefixes) > 256 {
			a.left(r.Place, "the destination %s: a forward listens at one address, or at all of the gateway",
				joined(list(r.Path.Destination.Prefixes[:min(8, len(r.Path.Destination.Prefixes))]), ""))
			c.comment("CAUTION: the old rule was for some addresses only. This forward listens at all of " +
				"the gateway.")
			return []netip.Addr{{}}
		}
		all = append(all, p.Addr())
	}
	return all
}
