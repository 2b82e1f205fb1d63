package forward

import (
	"fmt"
	"net/netip"
	"strings"
)

// Advertise is the address that a 227 names instead of the gateway's own, if clients reach the gateway
// through another NAT.
type Advertise struct {
	Clients netip.Prefix // the clients that get it; not valid: all without one of their own
	Host    string       // an IPv4 address, or a name that has one: a 227 has no room for IPv6
}

// ParseAdvertise reads "ADDR" or "PREFIX=ADDR"; ADDR may be a name.
func ParseAdvertise(s string) (Advertise, error) {
	var a Advertise
	host := s
	if prefix, rest, found := strings.Cut(s, "="); found {
		p, err := ParseClient(prefix)
		if err != nil {
			return Advertise{}, fmt.Errorf("advertise %q: %w", s, err)
		}
		if p.Addr().Is6() {
			return Advertise{}, fmt.Errorf("advertise %q: clients with IPv6 never get an address", s)
		}
		a.Clients, host = p, rest
	}
	a.Host = host
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && !addr.Unmap().Is4():
		return Advertise{}, fmt.Errorf(
			"advertise %q: a 227 has no room for an IPv6 address, and EPSV names none", s)
	case err == nil && (addr.IsUnspecified() || addr.IsMulticast()):
		return Advertise{}, fmt.Errorf("advertise %q: %s cannot be a gateway's address", s, addr)
	case err == nil:
		a.Host = addr.Unmap().String()
	case !isHostName(host):
		return Advertise{}, fmt.Errorf(
			"advertise %q: want ADDR or PREFIX=ADDR, like 198.51.100.7 or 10.0.0.0/8=10.0.0.1", s)
	}
	return a, nil
}

// String returns what ParseAdvertise reads.
func (a Advertise) String() string {
	if !a.Clients.IsValid() {
		return a.Host
	}
	return a.Clients.String() + "=" + a.Host
}

// Advertised is an Advertise with its current address.
type Advertised struct {
	Clients netip.Prefix // as in Advertise
	Addr    netip.Addr   // IPv4; not valid: the name has none now
}

// AdvertisedTo returns the address that a 227 names to a client: of those meant for it the one with the
// longest prefix. It is not valid if the 227 names the gateway's own address.
func (r Resolved) AdvertisedTo(client netip.Addr) netip.Addr {
	var addr netip.Addr
	if !client.Is4() { // a 227 has no room for its family
		return addr
	}
	const none, allClients = -2, -1 // shorter than any prefix
	longest := none
	for _, a := range r.Advertised {
		bits := allClients
		if a.Clients.IsValid() {
			if bits = a.Clients.Bits(); !a.Clients.Contains(client) {
				continue
			}
		}
		if bits > longest {
			addr, longest = a.Addr, bits
		}
	}
	return addr
}
