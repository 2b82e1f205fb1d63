package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/importer/rule"
)

// filters says what the host's filter lacks for the forwards, and which of its rules have lost their reason.
func (a *analysis) filters() {
	for _, f := range a.result.Forwards {
		if f.Outbound != nil {
			a.outboundFilters(f)
			continue
		}
		server, literal := f.Server.Addr()
		if !literal {
			continue
		}
		to := rule.Only(netip.PrefixFrom(server, server.BitLen()))
		for _, c := range a.set.Chains {
			switch {
			case c.Type != "filter" || c.Family != "inet" && (c.Family == "ip6") != server.Is6():
			case c.Hook == rule.Input && f.Tracking == forward.TrackingProxy:
				m := rule.Match{Protocol: "tcp", In: rule.Interfaces{Name: f.Listen.Interface},
					Source: clientsOf(f), Ports: rule.OnlyPorts(rule.PortRange{First: f.Listen.Port,
						Last: f.Listen.Port})}
				if f.Listen.Addr.IsValid() {
					m.Destination = rule.Only(netip.PrefixFrom(f.Listen.Addr, f.Listen.Addr.BitLen()))
				}
				if a.blocks(c, m) {
					a.add(admitControl(c, f))
				}
			case c.Hook == rule.Forward && !server.IsLoopback():
				if a.blocks(c, rule.Match{Protocol: "tcp", In: rule.Interfaces{Name: f.Listen.Interface},
					Source: clientsOf(f), Destination: to}) {
					a.add(a.admitData(c))
				}
				a.controlAccepts(c, f, server)
			}
		}
	}
}

// outboundFilters says what the filter lacks for an outbound: the kernel redirects control connections to the
// gateway itself, and data connections are translated.
func (a *analysis) outboundFilters(f Forward) {
	for _, c := range a.set.Chains {
		m := rule.Match{Protocol: "tcp", In: rule.Interfaces{Name: f.Listen.Interface}, Source: clientsOf(f)}
		switch {
		case c.Type != "filter":
		case c.Hook == rule.Forward && a.blocks(c, m):
			a.add(a.admitData(c))
		case c.Hook == rule.Input:
			m.Ports = rule.OnlyPorts(rule.PortRange{First: f.Listen.Port, Last: f.Listen.Port})
			if a.blocks(c, m) {
				a.add(admitControl(c, f))
			}
		}
	}
}

func clientsOf(f Forward) rule.Addresses {
	if len(f.Clients) == 0 {
		return rule.Addresses{}
	}
	return rule.Only(f.Clients...)
}

func (a *analysis) add(command string) {
	if !slices.Contains(a.result.Additions, command) {
		a.result.Additions = append(a.result.Additions, command)
	}
}

// blocks reports whether a filter refuses new connections, or may refuse some of them.
func (a *analysis) blocks(c rule.Chain, m rule.Match) bool {
	for _, r := range a.paths {
		if r.Base.ChainKey != c.ChainKey {
			continue
		}
		translated := r.Path
		translated.Translated = false
		accepts := r.Path.Covers(m) || r.Path.Translated && c.Hook == rule.Forward && translated.Covers(m)
		switch {
		case r.Action == rule.Accept && accepts:
			return false
		case r.Action == rule.Drop && r.Path.Covers(m):
			return true
		}
	}
	return c.Policy == rule.Drop
}

func isNft(c rule.Chain) bool { return c.Chain != strings.ToUpper(c.Chain) }

func iptablesFor(c rule.Chain) string {
	if c.Family == "ip6" {
		return "ip6tables"
	}
	return "iptables"
}

// admitControl returns the command that lets control connections in.
func admitControl(c rule.Chain, f Forward) string {
	name := f.Listen.Interface
	if isNft(c) {
		if name != "" {
			name = fmt.Sprintf("iifname %q ", name)
		}
		return fmt.Sprintf("nft insert rule %s %s %s %stcp dport %d accept", c.Family, c.Table, c.Chain, name,
			f.Listen.Port)
	}
	if name != "" {
		name = "-i " + name + " "
	}
	return fmt.Sprintf("%s -I %s %s-p tcp --dport %d -j ACCEPT", iptablesFor(c), c.Chain, name, f.Listen.Port)
}

// admitData returns the command that lets data connections through.
func (a *analysis) admitData(c rule.Chain) string {
	if isNft(c) {
		return fmt.Sprintf("nft insert rule %s %s %s ct status dnat accept", c.Family, c.Table, c.Chain)
	}
	chain := c.Chain
	if a.has("DOCKER-USER") {
		chain = "DOCKER-USER"
	}
	return fmt.Sprintf("%s -I %s -m conntrack --ctstate DNAT -j ACCEPT", iptablesFor(c), chain)
}

// controlAccepts lists the rules of a filter that only let the old control connection through. It ends at the
// gateway now.
func (a *analysis) controlAccepts(c rule.Chain, f Forward, server netip.Addr) {
	if f.Tracking != forward.TrackingProxy {
		return
	}
	for _, r := range a.paths {
		if r.Base.ChainKey == c.ChainKey && r.Action == rule.Accept && exactly(r.Path, server,
			f.Server.Port) &&
			r.Path.Protocol == "tcp" {
			a.delete(a.deletion(r)...)
		}
	}
}
