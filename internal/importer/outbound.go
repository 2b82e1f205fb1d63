package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/importer/rule"
)

// outbound finds helpers that belong to no forward.
func (a *analysis) outbound() {
	for _, h := range a.ftpHelpers {
		if a.used[h.ID] {
			continue
		}
		switch h.Base.Hook {
		case rule.Output:
			a.left(h.Place, "the helper is for FTP clients on the gateway itself: keep the rule if there "+
				"are any")
			continue
		case rule.Input:
			a.left(h.Place, "the helper is for an FTP server on this host itself: keep the rule if there is "+
				"one")
			continue
		}
		if h.Path.Protocol == "udp" {
			a.left(h.Place, "FTP has no connections over UDP: the rule never did anything for FTP")
			continue
		}
		if !a.translatesSources() {
			a.left(h.Place, "the helper is for connections that no rule here translates: to an FTP server "+
				"on this host, or through it without a translation. They need no ftpgate, and this rule "+
				"only for RELATED")
			continue
		}
		if c := a.missed(h); c != nil {
			a.left(h.Place, "the helper looks at this port before the translation, and never saw the "+
				"sessions of the forward from %s. Unless clients behind this gateway go out to FTP servers "+
				"with it: %s", c.Listen,
				strings.Join(a.deletion(h), "; "))
			continue
		}
		a.carryOutbound(a.outboundOf(h))
	}
	if len(a.found) == 0 && len(a.set.Modules) > 0 && a.translatesSources() && len(a.ftpHelpers) == 0 {
		m := a.set.Modules[0]
		o := rule.PathRule{Rule: rule.Rule{Place: m.Place}}
		for _, p := range m.Ports {
			o.Path.Ports.Ranges = append(o.Path.Ports.Ranges, rule.PortRange{First: p, Last: p})
		}
		a.carryOutbound(a.outboundOf(o))
	}
}

// missed returns the forward for which a helper was meant that looks at the server's port, and not at the one
// that clients dial; nil: there is none.
func (a *analysis) missed(h rule.PathRule) *candidate {
	i := slices.IndexFunc(a.found, func(c *candidate) bool {
		return c.Outbound == nil &&
			!c.helped && c.listen != c.server && h.Path.Ports.Limited && h.Path.Ports.Contains(c.server) &&
			sameFamily(h, c) && !h.Path.And(rule.Match{In: c.path.Path.In}).Never()
	})
	if i < 0 {
		return nil
	}
	return a.found[i]
}

// translatesSources reports whether the gateway hides clients behind an address of its own.
func (a *analysis) translatesSources() bool {
	return slices.ContainsFunc(a.paths, func(r rule.PathRule) bool {
		return r.Action == rule.Masquerade || r.Action == rule.SNAT
	})
}

// everyone has all addresses of the families of chains that know one version of IP.
var everyone = map[string]netip.Prefix{
	"ip":  netip.PrefixFrom(netip.IPv4Unspecified(), 0),
	"ip6": netip.PrefixFrom(netip.IPv6Unspecified(), 0),
}

// outboundOf returns the clients that a helper is for. Where the rule does not say which, the translation of
// their addresses does.
func (a *analysis) outboundOf(h rule.PathRule) Outbound {
	o := Outbound{Rule: h, Clients: h.Path.Source}
	for _, r := range a.paths {
		same := h.Chain.Family == r.Chain.Family || h.Chain.Family == "inet" || r.Chain.Family == "inet"
		if !o.Clients.Limited && same && (r.Action == rule.Masquerade || r.Action == rule.SNAT) {
			o.Clients = r.Path.Source
		}
	}
	if all, one := everyone[h.Chain.Family]; one && !o.Clients.Limited {
		o.Clients = rule.Only(all)
	}
	return o
}

// carryOutbound proposes an [[outbound]] for clients behind the gateway, or says why there is none. Helpers
// that differ in their clients alone become one.
func (a *analysis) carryOutbound(o Outbound) {
	h := o.Rule
	c := &candidate{path: h, helped: true}
	name, one := h.Path.In.One()
	c.Listen = forward.Listen{Interface: name, Port: forward.DefaultRedirectPort}
	c.Outbound = &forward.Outbound{}
	c.Clients = slices.Clone(o.Clients.Prefixes)
	slices.SortFunc(c.Clients, netip.Prefix.Compare)
	c.Clients = slices.Compact(c.Clients)
	for _, p := range h.Path.Destination.Prefixes {
		c.Outbound.Servers = append(c.Outbound.Servers, forward.Destination{Prefix: p})
	}
	why := ""
	switch {
	case !one || forward.CheckInterface(name) != nil || printable(name) != name:
		why = "The interface is not named, and an [[outbound]] needs one"
	case o.Clients.Cut || h.Path.Destination.Cut:
		why = "There are more addresses than can be listed"
	case len(h.Path.Others) > 0 || h.Path.SourcePorts.Limited:
		why = "An [[outbound]] has no key for a condition of the rule"
	}
	for _, of := range h.Path.Ports.Ranges {
		if of.First != of.Last {
			why = "An [[outbound]] has single ports"
		}
		c.Outbound.Ports = append(c.Outbound.Ports, of.First)
	}
	if why != "" {
		a.left(h.Place, "it is for clients behind this gateway that go out to FTP servers (interface %s; "+
			"clients %s; servers %s; ports %s). %s. Write it by hand (docs/outbound.md), or keep the "+
			"rule and its module", orElse(name, "any"), joined(list(o.Clients.Prefixes), "all"),
			joined(list(h.Path.Destination.Prefixes), "all"), joined(portList(h.Path.Ports), "21"), why)
		return
	}
	for _, f := range a.found {
		if f.Outbound == nil || f.Listen.Interface != name {
			continue
		}
		if slices.Equal(f.Outbound.Ports, c.Outbound.Ports) &&
			slices.Equal(f.Outbound.Servers, c.Outbound.Servers) {
			f.Clients = eitherClients(f.Clients, c.Clients)
			f.replaces(a, h)
			return
		}
		c.Outbound.RedirectPort = max(c.Outbound.RedirectPort, forward.DefaultRedirectPort) + 1
	}
	if len(a.found) >= maxForwards {
		a.left(h.Place, "there are more than %d forwards", maxForwards)
		return
	}
	c.Name = "outbound on " + name
	if p := c.Outbound.RedirectPort; p != 0 {
		c.Listen.Port = uint16(p)
		c.Name += fmt.Sprintf(" (%d)", p)
	}
	c.comment("ftpgate takes the place of the helper: keep the translation of the clients' other traffic.")
	c.replaces(a, h)
	a.found = append(a.found, c)
}

// eitherClients returns the clients of both lists; an empty one has all clients.
func eitherClients(a, b []netip.Prefix) []netip.Prefix {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all)
}

func orElse(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

// transparentProxy says what becomes of a redirection of all FTP to a proxy on the gateway.
func (a *analysis) transparentProxy(r rule.PathRule) {
	a.left(r.Place, "it sends clients of other servers to a proxy on the gateway (port %s). An "+
		"[[outbound]] can take its place (docs/outbound.md). Until then, keep the rule and the proxy",
		joined(portList(rule.OnlyPorts(r.To.Ports)), "21"))
	a.use(r)
}

// sourceTranslations finds translations of client addresses that were made for a forward alone, and forwards
// whose server saw the clients.
func (a *analysis) sourceTranslations() {
	for _, c := range a.found {
		server, literal := c.Server.Addr()
		if !literal || server.IsLoopback() {
			continue
		}
		to := rule.Match{Destination: rule.Only(netip.PrefixFrom(server, server.BitLen()))}
		hidden := false
		for _, r := range a.paths {
			if r.Action != rule.Masquerade && r.Action != rule.SNAT || r.Path.And(to).Never() ||
				!sameFamily(r, c) {
				continue
			}
			hidden = true
			if exactly(r.Path, server, c.server) && !r.Path.Source.Contains(server) {
				c.replaces(a, r)
			}
		}
		if !hidden && a.knowsSources() {
			c.comment("The server saw the clients' own addresses. With ftpgate it sees the gateway's: the " +
				"log and the transfer log have the clients'.")
		}
	}
}

// knowsSources reports whether the text says how the addresses of clients are translated: of iptables and
// nftables the rules do.
func (a *analysis) knowsSources() bool {
	return strings.Contains(a.set.Format, "iptables-save") || strings.Contains(a.set.Format, "nft")
}

// exactly reports whether a rule is only for the control connection to one server.
func exactly(m rule.Match, server netip.Addr, port uint16) bool {
	only := func(p rule.PortRange) bool {
		return p.First == p.Last && (p.First == port || p.First == activePort)
	}
	return slices.Equal(m.Destination.Prefixes, []netip.Prefix{netip.PrefixFrom(server, server.BitLen())}) &&
		m.Ports.Limited && !slices.ContainsFunc(m.Ports.Ranges,
		func(p rule.PortRange) bool { return !only(p) })
}
