package forward

import (
	"fmt"
	"net/netip"
	"slices"
)

// Explicit reports whether clients name their server in the FTP dialogue.
func (f Forward) Explicit() bool { return f.Outbound != nil && f.Outbound.Explicit }

// Nearby is what lies around the gateway when a client names a server.
type Nearby struct {
	Own    []netip.Addr   // the gateway's addresses
	Inside []netip.Prefix // the networks that the client's side of the gateway is in
}

// AdmitsPort returns why clients of an explicit outbound may not reach a server's port; empty: they may.
func (r Resolved) AdmitsPort(port uint16) (why string) {
	if !slices.Contains(r.OutboundPorts(), port) {
		return fmt.Sprintf("port %d is not among ports", port)
	}
	return ""
}

// Admits returns why clients of an explicit outbound may not reach an address of the server that they named;
// empty: they may. Addresses of the inside, which a client could not reach without the gateway's help, and
// which a name may lead to at any time, need a prefix in servers that has nothing but the inside: neither a
// name nor 0.0.0.0/0 allows them.
func (r Resolved) Admits(server Server, at netip.Addr, near Nearby) (why string) {
	at = at.Unmap()
	if v4, ok := embedded(at); ok {
		if why := r.Admits(server, v4, near); why != "" {
			return fmt.Sprintf("it leads to %s: %s", v4, why)
		}
	}
	o := r.Outbound
	named := func(d Destination) bool { return !d.Prefix.IsValid() && d.Host == server.Host }
	has := func(p netip.Prefix) bool { return p.Contains(at) }
	leads := func(d Reached) bool { return d.has(at) }
	ofPrefix := func(d Destination) bool { return d.Prefix.IsValid() && has(d.Prefix) }
	switch {
	case !at.IsValid(), at.Zone() != "", slices.ContainsFunc(nobody, has):
		return "it is not the address of a server"
	case slices.ContainsFunc(o.Denied, named), slices.ContainsFunc(o.Denied, ofPrefix),
		slices.ContainsFunc(r.Reach.Denied, leads):
		return "it is denied"
	}
	if where := r.closedInside(at, near); where != "" {
		return where + ", and no prefix of servers allows it"
	}
	if len(o.Servers) > 0 && !slices.ContainsFunc(o.Servers, named) &&
		!slices.ContainsFunc(o.Servers, ofPrefix) && !slices.ContainsFunc(r.Reach.Allowed, leads) {
		return "it is not among servers"
	}
	return ""
}

// closedInside returns which part of the inside an address belongs to that no prefix of servers opens; empty:
// it belongs to none. A prefix opens a part if it lies within it.
func (r Resolved) closedInside(at netip.Addr, near Nearby) (where string) {
	closed := func(part netip.Prefix) bool {
		return part.Contains(at) && !slices.ContainsFunc(r.Outbound.Servers, func(d Destination) bool {
			return d.Prefix.IsValid() && d.Prefix.Contains(at) && d.Prefix.Bits() >= part.Bits()
		})
	}
	own := func(a netip.Addr) bool { return closed(netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())) }
	switch {
	case slices.ContainsFunc(near.Own, own):
		return "it is an address of the gateway"
	case slices.ContainsFunc(near.Inside, closed):
		return "it is in a network of the clients"
	case slices.ContainsFunc(inside, closed):
		return "it is a private or local address"
	}
	return ""
}

// nobody is addresses that no server has (RFC 6890): this network, multicast, reserved and broadcast, IPv4 in
// IPv6 without a meaning any more, and the discard prefix.
var nobody = prefixes("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8", "100::/64")

// inside is addresses that mean something only in the gateway's own surroundings: loopback, private use, what
// providers share (RFC 6598), one link, one site, tests of networks; and of IPv6 the prefixes whose addresses
// lead to some IPv4 address: IPv4-compatible, Teredo, local translation (RFC 8215).
var inside = prefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
	"169.254.0.0/16", "192.0.0.0/24", "198.18.0.0/15",
	"::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "::/96", "2001::/32", "64:ff9b:1::/48")

// embedded returns the IPv4 address that an IPv6 address leads to: by NAT64 (RFC 6052) or 6to4 (RFC 3056).
func embedded(at netip.Addr) (netip.Addr, bool) {
	if !at.Is6() {
		return netip.Addr{}, false
	}
	b := at.As16()
	switch {
	case nat64.Contains(at):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixToFour.Contains(at):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

func prefixes(all ...string) (list []netip.Prefix) {
	for _, s := range all {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}
