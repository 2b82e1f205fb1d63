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
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/system"
)

// listen checks who listens at a proxy's address. preflight checks those of other forwards.
func (x *examination) listen() {
	if x.forward.Tracking != forward.TrackingProxy || x.facts.Listeners == nil {
		return
	}
	served := false
	for _, l := range x.facts.Listeners {
		if l.Addr.Port() != x.forward.Listen.Port || !overlaps(x.forward.Listen.Addr, l) {
			continue
		}
		if x.facts.Serves(l) {
			served = true
			continue
		}
		x.add(CodeListen, finding.Fault, fmt.Sprintf("listen %s is taken by %s", x.forward.Listen,
			cmp.Or(l.Process, "another program")),
			"stop that program or let it listen elsewhere, or choose another port")
		return
	}
	switch {
	case served:
		x.note(CodeListen, finding.OK, "ftpgate listens at %s", x.forward.Listen)
	case x.facts.Running:
		x.add(CodeNotServed, finding.Warning,
			fmt.Sprintf("an ftpgate is running, and no program listens at %s", x.forward.Listen),
			"ftpgate reload, if the file has changed; else its log says why")
	default:
		x.note(CodeListen, finding.OK, "no other program listens at %s", x.forward.Listen)
	}
}

// overlaps reports whether l excludes another listener at addr (bind(2)). The invalid address is all
// addresses of both families.
func overlaps(addr netip.Addr, l system.Listener) bool {
	at := l.Addr.Addr().WithZone("")
	switch {
	case !addr.IsValid():
		return true
	case at.IsUnspecified():
		return l.Dual || at.Is4() == addr.Is4()
	}
	return at == addr
}

// passivePorts finds other programs that listen within the passive ports.
func (x *examination) passivePorts() {
	if x.forward.Tracking != forward.TrackingProxy || x.facts.Listeners == nil {
		return
	}
	ports := x.forward.DataPorts()
	var taken []string
	for _, l := range x.facts.Listeners {
		if x.facts.Serves(l) || !ports.Contains(l.Addr.Port()) || l.Addr.Port() == x.forward.Listen.Port ||
			l.Addr.Addr().IsLoopback() {
			continue
		}
		text := fmt.Sprintf("%d (%s)", l.Addr.Port(), cmp.Or(l.Process, "another program"))
		if !slices.Contains(taken, text) {
			taken = append(taken, text)
		}
	}
	if len(taken) == 0 {
		x.note(CodePassive, finding.OK, "no other program listens within the passive ports %s", ports)
		return
	}
	const most = 4
	if more := len(taken) - most; more > 0 {
		taken = append(taken[:most], fmt.Sprintf("%d more", more))
	}
	x.add(CodePassive, finding.Warning,
		fmt.Sprintf("other programs listen within the passive ports %s: %s; a firewall that is open for "+
			"data is also open for them",
			ports, strings.Join(taken, ", ")), "let them listen elsewhere, or choose other passive_ports")
}

// slowLookup is longer than a lookup takes if the first resolver answers: the default wait for it is five
// seconds (resolv.conf(5)).
const slowLookup = 2 * time.Second

// serverName checks the addresses of the server's name. The gateway has a finding if there are none.
func (x *examination) serverName() {
	if _, literal := x.forward.Server.Addr(); literal {
		return
	}
	host := x.forward.Server.Host
	if i := slices.IndexFunc(x.facts.Lookups,
		func(l system.Lookup) bool { return l.Host == host && l.Took >= slowLookup }); i >= 0 {
		x.add(CodeNameSlow, finding.Warning, fmt.Sprintf("the resolver took %s for %q",
			x.facts.Lookups[i].Took.Round(100*time.Millisecond), host),
			"check /etc/resolv.conf: its first server may not answer; or give the server's address")
	}
	servers := x.forward.ServerAddrs()
	count := func(is func(netip.Addr) bool) (n int) {
		for _, a := range servers {
			if is(a) {
				n++
			}
		}
		return n
	}
	if n := max(count(netip.Addr.Is4), count(netip.Addr.Is6)); n > 1 {
		x.add(CodeNameMany, finding.Info, fmt.Sprintf("%q has %d addresses, which are tried in turn: %s",
			host, n, finding.Join(servers, ", ")),
			"give one of them as server, if they do not all have the same files")
	}
	if len(servers) == 0 || x.forward.Server4.IsValid() || x.forward.Listen.Addr.Is6() {
		return
	}
	if x.forward.Tracking == forward.TrackingProxy {
		x.note(CodeNameIPv6, finding.Info, "%q has only IPv6: ftpgate itself relays the data of clients "+
			"with IPv4", host)
		return
	}
	x.add(CodeNameIPv6, finding.Warning,
		fmt.Sprintf("%q has only IPv6: clients with IPv4 do not reach it, since the kernel does not "+
			"translate between the two", host),
		"tracking = \"proxy\", or a server with an IPv4 address")
}

// usualMTU is Ethernet's, in bytes; below leastMTU there is no IPv6 (RFC 8200 section 5).
const (
	usualMTU = 1500
	minMTU   = 1280
)

func (x *examination) routes() {
	servers := x.forward.ServerAddrs()
	reached := slices.ContainsFunc(servers, func(a netip.Addr) bool {
		r, known := x.facts.Routes[a]
		return known && r.Problem == ""
	})
	for _, a := range servers {
		r, known := x.facts.Routes[a]
		switch {
		case !known || r.Local: // preflight finds a server that is the gateway itself
		case r.Problem != "":
			level := finding.Fault
			if reached {
				level = finding.Warning
			}
			x.add(CodeRoute, level, fmt.Sprintf("the server's address %s cannot be reached: %s", a,
				r.Problem),
				fmt.Sprintf("give the gateway a route (ip route get %s), or the server another address", a))
		default:
			via := ""
			if r.Gateway.IsValid() {
				via = " via " + r.Gateway.String()
			}
			x.note(CodeRoute, finding.OK, "the server's address %s is reached through %s%s, with packets "+
				"of up to %d bytes", a, r.Interface, via, r.MTU)
			x.mtu(a, r)
		}
	}
}

// mtu checks whether packets fit the path to the server.
func (x *examination) mtu(server netip.Addr, r system.Route) {
	widest := system.Route{}
	for _, c := range x.clientSide() {
		if c.MTU > widest.MTU {
			widest = c
		}
	}
	remedy := fmt.Sprintf("check whether that is intended (ip route get %s, ip link show %s)", server,
		r.Interface)
	switch {
	case r.MTU < minMTU:
		x.add(CodeMTU, finding.Warning,
			fmt.Sprintf("the path MTU to %s is %d, less than any network has today",
				server, r.MTU), remedy)
	case x.kernelCarries() && widest.MTU > r.MTU && !widest.Local:
		x.add(CodeMTU, finding.Warning,
			fmt.Sprintf("the path MTU to %s is %d, and %s on the clients' side %d: "+
				"transfers that the kernel carries stall after the first packets where ICMP is filtered",
				server,
				r.MTU, widest.Interface, widest.MTU),
			"let ICMP \"fragmentation needed\" and \"packet too big\" through, or clamp the MSS (nft: tcp "+
				"option maxseg size set rt mtu)")
	case r.MTU < usualMTU:
		x.note(CodeMTU, finding.Info, "the path MTU to %s is %d: a tunnel or PPPoE",
			server, r.MTU)
	}
}

// clientSide returns the interfaces on which clients arrive, if the forward shows them.
func (x *examination) clientSide() (sides []system.Route) {
	for _, l := range x.facts.Links {
		owns := slices.ContainsFunc(l.Addrs,
			func(p netip.Prefix) bool { return p.Addr() == x.forward.Listen.Addr })
		if l.Name == x.forward.Listen.Interface || x.forward.Listen.Interface == "" && owns {
			sides = append(sides, system.Route{Interface: l.Name, MTU: l.MTU,
				Local: x.forward.Listen.Addr.IsLoopback()})
		}
	}
	if len(sides) > 0 {
		return sides
	}
	for _, c := range x.forward.Clients {
		if r, known := x.facts.Routes[facts.ClientOf(c)]; known && r.Problem == "" {
			sides = append(sides, r)
		}
	}
	return sides
}
