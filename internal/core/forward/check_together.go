package forward

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"ftpgate/internal/core/finding"
)

// listenPoint is an address and port on the gateway; the zero Addr stands for all addresses.
type listenPoint struct {
	addr netip.Addr
	port uint16
}

// claims is what each forward takes of the gateway's names, addresses and ports.
type claims struct {
	forwards []Forward
	names    map[string]int        // the first forward of a name
	listens  map[listenPoint][]int // by listen address and port
	ports    map[uint16][]int      // by listen port alone
	reserved *portClaims

	transparent []int // the outbounds that the kernel redirects clients to
}

func newClaims(forwards []Forward) *claims {
	c := &claims{
		forwards: forwards,
		names:    make(map[string]int, len(forwards)),
		listens:  make(map[listenPoint][]int, len(forwards)),
		ports:    map[uint16][]int{},
		reserved: newPortClaims(forwards),
	}
	for i, f := range forwards {
		if _, again := c.names[f.Name]; !again {
			c.names[f.Name] = i
		}
		if f.Transparent() {
			c.transparent = append(c.transparent, i)
		}
		at := listenPoint{f.Listen.Addr, f.Listen.Port}
		c.listens[at] = append(c.listens[at], i)
		c.ports[at.port] = append(c.ports[at.port], i)
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
func (c *claims) sharingPort(l Listen) iter.Seq[int] {
	return func(yield func(int) bool) {
		lists := [][]int{c.ports[l.Port]}
		if l.Addr.IsValid() {
			lists = [][]int{c.listens[listenPoint{l.Addr, l.Port}], c.listens[listenPoint{port: l.Port}]}
		}
		for _, list := range lists {
			for _, j := range list {
				if !yield(j) {
					return
				}
			}
		}
	}
}

// check finds the conflicts of forward i with earlier ones, and whether its server is the listen address of a
// forward.
func (c *claims) check(i int, report reportFunc) {
	f := c.forwards[i]
	if first := c.names[f.Name]; first != i && c.forwards[first].Outbound != nil {
		report("name", "name %q is taken by an outbound", f.Name)
	} else if first != i {
		report("name", "name %q is taken by forward %d", f.Name, first+1)
	}
	for j := range c.sharingPort(f.Listen) {
		if o := c.forwards[j]; j < i && f.Listen.Overlaps(o.Listen) {
			report("listen", "listen %s is taken by %s %q%s", f.Listen, o.kind(), o.Name,
				addressOfOther(f.Listen, o.Listen))
			break
		}
	}
	c.checkRedirects(i, report)
	c.checkLoop(i, report)
	c.checkReserved(i, report)
}

// checkRedirects refuses an outbound whose clients an earlier one takes.
func (c *claims) checkRedirects(i int, report reportFunc) {
	f := c.forwards[i]
	if !f.Transparent() {
		return
	}
	for _, j := range c.transparent {
		if o := c.forwards[j]; j < i && f.redirectsLike(o) {
			report("interface", "clients on %s at these ports belong to outbound %q", f.Listen.Interface,
				o.Name)
			return
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
		report("server", "the server is the forward itself")
	default:
		report("server", "the server is the listen address of %s %q: the server cannot be the "+
			"gateway itself", c.forwards[listening[0]].kind(), c.forwards[listening[0]].Name)
	}
}

// checkReserved refuses ports of forward i that are in the server_ports of another one at the same address.
// Overlapping server_ports are reported at the later forward.
func (c *claims) checkReserved(i int, report reportFunc) {
	f := &c.forwards[i]
	proxy := f.Tracking == TrackingProxy
	c.report(i, len(c.forwards), "listen", PortRange{First: f.Listen.Port, Last: f.Listen.Port}, report,
		func(o *Forward) sharing { return shareIf(!proxy && o.ServerPorts == AllPorts) },
		func(o *Forward) string {
			if o.ServerPorts == AllPorts {
				return fmt.Sprintf("listen %s lies within the server_ports \"all\" of forward %q, "+
					"whose clients could not reach the proxy", f.Listen, o.Name)
			}
			return fmt.Sprintf("listen %s lies within the server_ports %s of forward %q",
				f.Listen, o.ServerPorts, o.Name)
		})
	// Where passive_ports is left out, the ports of others are avoided.
	if proxy && !f.PassivePorts.IsEmpty() {
		c.report(i, len(c.forwards), "passive_ports", f.PassivePorts, report,
			func(o *Forward) sharing { return shareIf(o.ServerPorts == AllPorts) },
			func(o *Forward) string {
				return fmt.Sprintf("passive_ports %s overlap the server_ports %s of forward %q "+
					"at the same address", f.PassivePorts, o.ServerPorts, o.Name)
			})
	}
	if ports := f.reservedPorts(); !ports.IsEmpty() {
		c.report(i, i, "server_ports", ports, report, func(o *Forward) sharing { return f.mayShare(o) },
			func(o *Forward) string {
				return fmt.Sprintf("server_ports %s overlap %s of forward %q at the same address",
					f.ServerPorts, o.ServerPorts, o.Name)
			})
	}
}

// mayShare says whether the server_ports of two forwards may overlap, but for what is reported otherwise.
func (f *Forward) mayShare(o *Forward) sharing {
	reportedAtListen := o.ServerPorts == AllPorts && f.Tracking == TrackingProxy ||
		f.ServerPorts == AllPorts && o.Tracking == TrackingProxy
	switch {
	case reportedAtListen:
		return shareAlways
	case f.PassesThrough() && o.PassesThrough() && f.ServerPorts == o.ServerPorts:
		return shareOfOneServer // which may be published twice, for explicit and for implicit FTPS
	}
	return shareNever
}

func shareIf(may bool) sharing {
	if may {
		return shareAlways
	}
	return shareNever
}

// report reports the conflicts of forward i, about ports that it needs, with forwards before a number: the
// first ones by name, and how many more there are.
func (c *claims) report(i, before int, key string, ports PortRange, report reportFunc,
	may func(o *Forward) sharing, text func(o *Forward) string) {
	found := c.reserved.of(i, before, ports, may)
	for _, j := range found.first {
		report(key, "%s", text(&c.forwards[j]))
	}
	if found.more > 0 {
		report(key, "%s %s has the same conflict with %s", key, ports,
			finding.Plural(found.more, "more forward"))
	}
}

// addressOfOther adds the other's listen address if it reads differently.
func addressOfOther(l, o Listen) string {
	if l == o {
		return ""
	}
	return fmt.Sprintf(" (%s)", o)
}
