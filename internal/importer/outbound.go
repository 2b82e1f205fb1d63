package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
		o := a.outboundOf(rule.PathRule{Rule: rule.Rule{Place: m.Place}})
		for _, p := range m.Ports {
			o.Ports = append(o.Ports, fmt.Sprint(p))
		}
		a.carryOutbound(o)
	}
}

// missed returns the forward for which a helper was meant that looks at the server's port, and not at the one
// that clients dial; nil: there is none.
func (a *analysis) missed(h rule.PathRule) *candidate {
	i := slices.IndexFunc(a.found, func(c *candidate) bool {
		return !c.helped && c.listen != c.server && h.Path.Ports.Limited && h.Path.Ports.Contains(c.server) &&
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

// outboundOf returns the clients that a helper is for. Where the rule does not say which, the translation of
// their addresses does.
func (a *analysis) outboundOf(h rule.PathRule) Outbound {
	name, _ := h.Path.In.One()
	o := Outbound{Interface: name, Clients: list(h.Path.Source.Prefixes),
		Servers: list(h.Path.Destination.Prefixes),
		Ports:   portList(h.Path.Ports), Place: h.Place}
	for _, r := range a.paths {
		if len(o.Clients) == 0 && r.Action == rule.Masquerade && r.Path.Source.Limited {
			o.Clients = list(r.Path.Source.Prefixes)
		}
	}
	return o
}

// carryOutbound says what becomes of clients behind the gateway. Where ftpgate serves them, this is the one
// place that makes a table [[outbound]] of them.
func (a *analysis) carryOutbound(o Outbound) {
	a.left(o.Place, "it is for clients behind this gateway that go out to FTP servers (interface %s; "+
		"clients %s; servers %s; ports %s). A forward publishes one server, and cannot do that: keep the "+
		"rule and its module",
		orElse(o.Interface, "any"), joined(o.Clients, "all"), joined(o.Servers, "all"), joined(o.Ports, "21"))
}

func orElse(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

// transparentProxy says what becomes of a redirection of all FTP to a proxy on the gateway.
func (a *analysis) transparentProxy(r rule.PathRule) {
	a.left(r.Place, "it sends clients of other servers to a proxy on the gateway (port %s): a forward "+
		"publishes one server, and cannot do that. Keep the rule and the proxy",
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
