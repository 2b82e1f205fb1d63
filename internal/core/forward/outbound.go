package forward

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// DefaultRedirectPort is where the kernel leads the control connections of an outbound: the port of OpenBSD's
// ftp-proxy(8).
const DefaultRedirectPort = 8021

// Outbound makes a forward lead its clients to servers that they choose themselves.
type Outbound struct {
	// Explicit: clients name the server in the FTP dialogue, at Listen. Otherwise the outbound is
	// transparent: clients on Listen.Interface dial the server's own address, and the kernel leads the
	// connection to Listen.Port.
	Explicit bool
	Ports    []uint16      // the servers' ports for control connections; empty: DefaultServerPort
	Servers  []Destination // the servers that clients may reach; empty: all
	Denied   []Destination // the servers that they may not, even if Servers has them
	// RedirectPort is the gateway's port of a transparent outbound; 0: DefaultRedirectPort.
	RedirectPort int
	// AccountFile has the account that clients of an explicit one log in to the gateway with; empty: none.
	AccountFile string
}

// Destination is servers that clients may or may not choose: a prefix or a name.
type Destination struct {
	Prefix netip.Prefix // not valid: Host names the servers
	Host   string
}

// ParseDestination reads an address, a prefix or a name. Bits after the prefix's length are an error.
func ParseDestination(s string) (Destination, error) {
	if _, err := netip.ParseAddr(s); err == nil || strings.Contains(s, "/") || strings.Contains(s, ":") {
		p, err := ParseClient(s)
		if err != nil {
			return Destination{}, fmt.Errorf("server%s", strings.TrimPrefix(err.Error(), "client"))
		}
		return Destination{Prefix: p}, nil
	}
	if err := checkWritten(s, "an address, a prefix or a name, and each one apart"); err != nil {
		return Destination{}, fmt.Errorf("server %q: %w", s, err)
	}
	if !isHostName(s) {
		return Destination{}, fmt.Errorf("server %q: want an address, a prefix like 203.0.113.0/24 or a name",
			s)
	}
	return Destination{Host: strings.ToLower(strings.TrimSuffix(s, "."))}, nil
}

// String returns what ParseDestination reads.
func (d Destination) String() string {
	switch {
	case !d.Prefix.IsValid():
		return d.Host
	case d.Prefix.IsSingleIP():
		return d.Prefix.Addr().String()
	}
	return d.Prefix.String()
}

// Reach is which servers the clients of an outbound may reach, by the current addresses of its destinations.
type Reach struct {
	Allowed []Reached // of Outbound.Servers, in its order
	Denied  []Reached // of Outbound.Denied, in its order
}

// Reached is a destination with its current addresses.
type Reached struct {
	Destination
	Addrs []netip.Addr // of Host
}

// has reports whether a server is one of the destination's.
func (r Reached) has(server netip.Addr) bool {
	return r.Prefix.IsValid() && r.Prefix.Contains(server) || slices.Contains(r.Addrs, server)
}

// Equal reports whether two Reach lead to the same servers.
func (r Reach) Equal(o Reach) bool {
	same := func(a, b Reached) bool {
		return a.Destination == b.Destination && slices.Equal(a.Addrs, b.Addrs)
	}
	return slices.EqualFunc(r.Allowed, o.Allowed, same) && slices.EqualFunc(r.Denied, o.Denied, same)
}

// Reaches returns why clients of an outbound may not reach a server; empty: they may. No client reaches
// addresses that only mean something on the gateway itself or on one link, whatever the destinations say.
func (r Resolved) Reaches(server netip.Addr) (why string) {
	has := func(d Reached) bool { return d.has(server) }
	switch {
	case !server.IsValid(), server.IsUnspecified(), server.IsLoopback(), server.IsMulticast(),
		server.IsLinkLocalUnicast(), server.IsInterfaceLocalMulticast(),
		server == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is not the address of a server"
	case slices.ContainsFunc(r.Reach.Denied, has):
		return "it is denied"
	case len(r.Outbound.Servers) > 0 && !slices.ContainsFunc(r.Reach.Allowed, has):
		return "it is not among the servers that are allowed"
	}
	return ""
}

// kind returns what the file calls the forward.
func (f Forward) kind() string {
	if f.Outbound != nil {
		return "outbound"
	}
	return "forward"
}

// Transparent reports whether the kernel redirects the clients' connections to the forward, so that they
// believe to talk to the server itself.
func (f Forward) Transparent() bool { return f.Outbound != nil && !f.Outbound.Explicit }

// HidesGateway reports whether an end of the forward's connections sees the other end's address in place of
// the gateway's, which only the kernel's tables can do.
func (f Forward) HidesGateway() bool { return f.Transparent() || f.Source == SourceClient }

// OutboundPorts returns the servers' ports of an outbound, sorted and distinct.
func (f Forward) OutboundPorts() []uint16 {
	if f.Outbound == nil || len(f.Outbound.Ports) == 0 {
		return []uint16{DefaultServerPort}
	}
	ports := slices.Clone(f.Outbound.Ports)
	slices.Sort(ports)
	return slices.Compact(ports)
}

// ParseServerPort reads one port of an outbound.
func ParseServerPort(s string) (uint16, error) {
	port, err := parsePort(s)
	if err != nil {
		return 0, fmt.Errorf("ports: %w", err)
	}
	return port, nil
}

// Source is whose address the server sees.
type Source uint8

const (
	// SourceGateway is the gateway's own address.
	SourceGateway Source = iota
	// SourceClient is the client's address.
	SourceClient
)

var sourceNames = []string{SourceGateway: "gateway", SourceClient: "client"}

func (Source) words() []string { return sourceNames }

// String returns the word for s.
func (s Source) String() string { return wordOf(s) }

// checkOutbound finds the faults of an outbound by itself.
func checkOutbound(f Forward, report reportFunc) {
	o := f.Outbound
	switch {
	case o.Explicit:
	case f.Listen.Interface == "":
		report("interface", "interface is missing: say on which interface the clients are, like "+
			`interface = "lan0"`)
	case f.Listen.Addr.IsValid():
		report("listen", "an outbound with interface has no listen address: its clients dial the servers")
	}
	if f.Tracking != TrackingProxy {
		report("tracking", "an outbound needs tracking proxy")
	}
	if len(f.Advertise) > 0 && !o.Explicit {
		report("advertise", "advertise is not for an outbound: a 227 names the server's own address")
	}
	if !o.Explicit && o.AccountFile != "" {
		report("account_file", "account_file is for an outbound with listen, "+
			"whose clients log in to the gateway")
	}
	if o.Explicit && o.RedirectPort != 0 {
		report("redirect_port", "redirect_port is for an outbound without listen, "+
			"whose clients the kernel redirects")
	}
	for i, p := range o.Ports {
		if slices.Contains(o.Ports[:i], p) {
			report("ports", "port %d is listed twice", p)
		}
	}
}

// checkSource finds faults of source = "client".
func checkSource(f Forward, report reportFunc) {
	server, literal := f.Server.Addr()
	if literal && f.Listen.Addr.IsValid() && !f.Listen.AcceptsFamily(server) {
		report("source", "server %s is %s and listen %s is %s: the server cannot see the client's address; "+
			"leave source out", server, family(server), f.Listen, family(f.Listen.Addr))
	}
	if f.Listen.Addr.IsLoopback() || literal && server.IsLoopback() {
		report("source", "on loopback the server cannot see another source: leave source out")
	}
}

// redirectsLike reports whether connections of one client may be redirected to both of two outbounds.
func (f Forward) redirectsLike(o Forward) bool {
	if !f.Transparent() || !o.Transparent() || f.Listen.Interface != o.Listen.Interface ||
		f.Listen.Interface == "" {
		return false
	}
	theirs := o.OutboundPorts()
	isTheirs := func(p uint16) bool { return slices.Contains(theirs, p) }
	return slices.ContainsFunc(f.OutboundPorts(), isTheirs) && overlapAny(f.Clients, o.Clients)
}

// overlapAny reports whether a client may belong to both lists; an empty one has all clients.
func overlapAny(a, b []netip.Prefix) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	return slices.ContainsFunc(a, func(p netip.Prefix) bool {
		return slices.ContainsFunc(b, p.Overlaps)
	})
}
