package forward

import (
	"fmt"
	"net/netip"
	"slices"
)

// listenPoint is an address and port on the gateway; the zero Addr stands for all addresses.
type listenPoint struct {
	addr netip.Addr
	port uint16
}

// claims is what each forward takes of the gateway's names, addresses and ports.
type claims struct {
	forwards   []Forward
	names      map[string]int        // the first forward of a name
	listens    map[listenPoint][]int // by listen address and port
	ports      map[uint16][]int      // by listen port alone
	rangesAt   map[netip.Addr][]int  // forwards with reserved ports, by listen address
	withRanges []int                 // the same, in order
}

func newClaims(forwards []Forward) *claims {
	c := &claims{
		forwards: forwards,
		names:    make(map[string]int, len(forwards)),
		listens:  make(map[listenPoint][]int, len(forwards)),
		ports:    map[uint16][]int{},
		rangesAt: map[netip.Addr][]int{},
	}
	for i, f := range forwards {
		if _, again := c.names[f.Name]; !again {
			c.names[f.Name] = i
		}
		at := listenPoint{f.Listen.Addr, f.Listen.Port}
		c.listens[at] = append(c.listens[at], i)
		c.ports[at.port] = append(c.ports[at.port], i)
		if !f.reservedPorts().IsEmpty() {
			c.rangesAt[at.addr] = append(c.rangesAt[at.addr], i)
			c.withRanges = append(c.withRanges, i)
		}
	}
	return c
}

// reservedPorts returns the ports at the listen address that are, or may be for some client, forwarded to the
// server. It leaves out a range that is a fault by itself: that is reported once.
func (f Forward) reservedPorts() PortRange {
	if f.Tracking == TrackingNone || f.PassesThrough() && f.ServerPorts != AllPorts {
		return f.ServerPorts
	}
	return PortRange{}
}

// sharingPort returns the forwards that may listen at the same address and port as l.
func (c *claims) sharingPort(l Listen) []int {
	if !l.Addr.IsValid() {
		return c.ports[l.Port]
	}
	return slices.Concat(c.listens[listenPoint{l.Addr, l.Port}], c.listens[listenPoint{port: l.Port}])
}

// withReservedPorts returns the forwards with reserved ports that may be at the same address as l.
func (c *claims) withReservedPorts(l Listen) []int {
	if !l.Addr.IsValid() {
		return c.withRanges
	}
	return slices.Concat(c.rangesAt[l.Addr], c.rangesAt[netip.Addr{}])
}

// check finds the conflicts of forward i with earlier ones, and whether its server is the listen address of a
// forward.
func (c *claims) check(i int, report reportFunc) {
	f := c.forwards[i]
	if first := c.names[f.Name]; first != i {
		report("name", "name %q is taken by forward %d", f.Name, first+1)
	}
	for _, j := range c.sharingPort(f.Listen) {
		if o := c.forwards[j]; j < i && f.Listen.Overlaps(o.Listen) {
			report("listen", "listen %s is taken by forward %q%s", f.Listen, o.Name,
				addressOfOther(f.Listen, o.Listen))
			break
		}
	}
	c.checkLoop(i, report)
	for _, j := range c.withReservedPorts(f.Listen) {
		if o := c.forwards[j]; j != i && f.Listen.sameHost(o.Listen) {
			checkRanges(f, o, j < i, report)
		}
	}
}

// checkLoop refuses a server that is a listen address of the gateway.
func (c *claims) checkLoop(i int, report reportFunc) {
	f := c.forwards[i]
	server, literal := f.Server.Addr()
	if !literal {
		return
	}
	switch listening := c.listens[listenPoint{server, f.Server.Port}]; {
	case len(listening) == 0:
	case slices.Contains(listening, i):
		report("server", "the forward leads to itself")
	default:
		report("server", "the server is the listen address of forward %q: "+
			"a forward cannot lead to the gateway itself", c.forwards[listening[0]].Name)
	}
}

// checkRanges refuses ports of forward f that are in the server_ports of another one at the same address.
// Overlapping server_ports are reported at the later forward.
func checkRanges(f, other Forward, isLater bool, report reportFunc) {
	if other.ServerPorts == AllPorts && f.Tracking == TrackingProxy {
		report("listen", "listen %s lies within the server_ports \"all\" of forward %q, "+
			"whose clients could not reach the proxy", f.Listen, other.Name)
		return
	}
	if other.ServerPorts != AllPorts && other.ServerPorts.Contains(f.Listen.Port) {
		report("listen", "listen %s lies within the server_ports %s of forward %q",
			f.Listen, other.ServerPorts, other.Name)
	}
	// Where passive_ports is left out, the ports of others are avoided.
	if f.Tracking == TrackingProxy && f.PassivePorts.Overlaps(other.ServerPorts) {
		report("passive_ports", "passive_ports %s overlap the server_ports %s of forward %q "+
			"at the same address",
			f.PassivePorts, other.ServerPorts, other.Name)
	}
	reportedAtOther := f.ServerPorts == AllPorts && other.Tracking == TrackingProxy
	// One server may be published twice, for explicit and for implicit FTPS.
	oneServer := f.PassesThrough() && other.PassesThrough() &&
		f.Server.Host == other.Server.Host && f.ServerPorts == other.ServerPorts
	if isLater && !reportedAtOther && !oneServer && f.reservedPorts().Overlaps(other.ServerPorts) {
		report("server_ports", "server_ports %s overlap %s of forward %q at the same address",
			f.ServerPorts, other.ServerPorts, other.Name)
	}
}

// addressOfOther adds the other's listen address if it reads differently.
func addressOfOther(l, o Listen) string {
	if l == o {
		return ""
	}
	return fmt.Sprintf(" (%s)", o)
}
