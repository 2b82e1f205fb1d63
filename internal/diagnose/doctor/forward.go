package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

// listen looks who has the listen address of a proxy. Of other forwards the gateway itself says it.
func (e *examiner) listen() {
	if e.of.Tracking != forward.TrackingProxy || e.facts.Listeners == nil {
		return
	}
	served := false
	for _, l := range e.facts.Listeners {
		if l.Addr.Port() != e.of.Listen.Port || !clash(e.of.Listen.Addr, l) {
			continue
		}
		if e.facts.serves(l) {
			served = true
			continue
		}
		e.say(CodeListen, finding.Fault, fmt.Sprintf("listen %s is taken by %s", e.of.Listen, cmp.Or(l.Process, "another program")),
			"stop that program or let it listen elsewhere, or choose another port")
		return
	}
	switch {
	case served:
		e.say(CodeListen, finding.OK, fmt.Sprintf("ftpgate listens at %s", e.of.Listen), "")
	case e.facts.Running:
		e.say(CodeNotServed, finding.Warning, fmt.Sprintf("an ftpgate is running, and nobody listens at %s", e.of.Listen),
			"ftpgate reload, if the file has changed since; else its log says why")
	default:
		e.say(CodeListen, finding.OK, fmt.Sprintf("nobody else listens at %s", e.of.Listen), "")
	}
}

// clash tells whether one cannot listen at addr beside l (bind(2)); an address that is not valid stands for
// all of both families.
func clash(addr netip.Addr, l system.Listener) bool {
	at := l.Addr.Addr().WithZone("")
	switch {
	case !addr.IsValid():
		return true
	case at.IsUnspecified():
		return l.Dual || at.Is4() == addr.Is4()
	}
	return at == addr
}

// passive finds other programs' listeners within the passive ports.
func (e *examiner) passive() {
	if e.of.Tracking != forward.TrackingProxy || e.facts.Listeners == nil {
		return
	}
	ports := e.of.DataPorts()
	var taken []string
	for _, l := range e.facts.Listeners {
		if e.facts.serves(l) || !ports.Contains(l.Addr.Port()) || l.Addr.Port() == e.of.Listen.Port || l.Addr.Addr().IsLoopback() {
			continue
		}
		text := fmt.Sprintf("%d (%s)", l.Addr.Port(), cmp.Or(l.Process, "another program"))
		if !slices.Contains(taken, text) {
			taken = append(taken, text)
		}
	}
	if len(taken) == 0 {
		e.say(CodePassive, finding.OK, fmt.Sprintf("nobody else listens within the passive ports %s", ports), "")
		return
	}
	const most = 4
	if more := len(taken) - most; more > 0 {
		taken = append(taken[:most], fmt.Sprintf("%d more", more))
	}
	e.say(CodePassive, finding.Warning, fmt.Sprintf("other programs listen within the passive ports %s: %s; a firewall that is open for data is open for them, too",
		ports, strings.Join(taken, ", ")), "let them listen elsewhere, or choose other passive_ports")
}

// slowLookup is more than a name takes whose first resolver answers: five seconds is what one waits for it
// by default (resolv.conf(5)).
const slowLookup = 2 * time.Second

// name looks at what the server's name leads to. Whether it leads anywhere is the gateway's to say.
func (e *examiner) name() {
	if _, literal := e.of.Server.Addr(); literal {
		return
	}
	host := e.of.Server.Host
	if i := slices.IndexFunc(e.facts.Lookups, func(l system.Lookup) bool { return l.Host == host && l.Took >= slowLookup }); i >= 0 {
		e.say(CodeNameSlow, finding.Warning, fmt.Sprintf("the resolver took %s for %q", e.facts.Lookups[i].Took.Round(100*time.Millisecond), host),
			"look at /etc/resolv.conf: its first server may not answer; or give the server's address")
	}
	servers := serversOf(e.of)
	count := func(is func(netip.Addr) bool) (n int) {
		for _, a := range servers {
			if is(a) {
				n++
			}
		}
		return n
	}
	if n := max(count(netip.Addr.Is4), count(netip.Addr.Is6)); n > 1 {
		e.say(CodeNameMany, finding.Info, fmt.Sprintf("%q has %d addresses, which are tried in turn: %s", host, n, join(servers)),
			"give one of them as server, if they do not all have the same files")
	}
	if len(servers) == 0 || e.of.Server4.IsValid() || e.of.Listen.Addr.Is6() {
		return
	}
	if e.of.Tracking == forward.TrackingProxy {
		e.say(CodeNameIPv6, finding.Info, fmt.Sprintf("%q has only IPv6: the data of clients with IPv4 is relayed by ftpgate itself", host), "")
		return
	}
	e.say(CodeNameIPv6, finding.Warning, fmt.Sprintf("%q has only IPv6: clients with IPv4 do not reach it, since the kernel does not translate between the two", host),
		"tracking = \"proxy\", or a server with an IPv4 address")
}

func join(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// usualMTU is Ethernet's, in bytes; below leastMTU there is no IPv6 (RFC 8200 section 5).
const (
	usualMTU = 1500
	leastMTU = 1280
)

// routes looks at the ways to the server.
func (e *examiner) routes() {
	servers := serversOf(e.of)
	reached := slices.ContainsFunc(servers, func(a netip.Addr) bool {
		r, known := e.facts.Routes[a]
		return known && r.Problem == ""
	})
	for _, a := range servers {
		r, known := e.facts.Routes[a]
		switch {
		case !known || r.Local: // of a server that is the gateway itself the gateway speaks
		case r.Problem != "":
			level := finding.Fault
			if reached {
				level = finding.Warning
			}
			e.say(CodeRoute, level, fmt.Sprintf("the server's address %s cannot be reached: %s", a, r.Problem),
				fmt.Sprintf("give the gateway a route (ip route get %s), or the server another address", a))
		default:
			via := ""
			if r.Gateway.IsValid() {
				via = " via " + r.Gateway.String()
			}
			e.say(CodeRoute, finding.OK, fmt.Sprintf("the server's address %s is reached through %s%s, with packets of up to %d bytes", a, r.Interface, via, r.MTU), "")
			e.mtu(a, r)
		}
	}
}

// mtu looks whether packets fit.
func (e *examiner) mtu(server netip.Addr, r system.Route) {
	widest := system.Route{}
	for _, c := range e.clientSide() {
		if c.MTU > widest.MTU {
			widest = c
		}
	}
	look := fmt.Sprintf("look whether that is meant (ip route get %s, ip link show %s)", server, r.Interface)
	switch {
	case r.MTU < leastMTU:
		e.say(CodeMTU, finding.Warning, fmt.Sprintf("the way to %s takes packets of %d bytes at most, less than any network has today", server, r.MTU), look)
	case e.carries() && widest.MTU > r.MTU && !widest.Local:
		e.say(CodeMTU, finding.Warning, fmt.Sprintf("the way to %s takes packets of %d bytes at most, and %s on the clients' side %d: "+
			"transfers that the kernel carries stall after the first packets where ICMP is filtered", server, r.MTU, widest.Interface, widest.MTU),
			"let ICMP \"fragmentation needed\" and \"packet too big\" through, or clamp the MSS (nft: tcp option maxseg size set rt mtu)")
	case r.MTU < usualMTU:
		e.say(CodeMTU, finding.Info, fmt.Sprintf("the way to %s takes packets of %d bytes at most: a tunnel or PPPoE", server, r.MTU), "")
	}
}

// clientSide returns the interfaces by which clients come, as far as the forward says.
func (e *examiner) clientSide() (sides []system.Route) {
	for _, l := range e.facts.Links {
		owns := slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == e.of.Listen.Addr })
		if l.Name == e.of.Listen.Interface || e.of.Listen.Interface == "" && owns {
			sides = append(sides, system.Route{Interface: l.Name, MTU: l.MTU, Local: e.of.Listen.Addr.IsLoopback()})
		}
	}
	if len(sides) > 0 {
		return sides
	}
	for _, c := range e.of.Clients {
		if r, known := e.facts.Routes[clientOf(c)]; known && r.Problem == "" {
			sides = append(sides, r)
		}
	}
	return sides
}
