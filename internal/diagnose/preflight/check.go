package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/system"
)

// Check compares forwards with the host, and returns all obstacles as findings. It is pure.
func Check(found facts.Facts, forwards []forward.Resolved) []finding.Finding {
	c := checker{facts: found, addresses: map[netip.Addr]bool{}, listeners: map[uint16][]system.Listener{}}
	for _, a := range found.Addresses {
		c.addresses[a.WithZone("")] = true
	}
	for _, l := range found.Listeners {
		c.listeners[l.Addr.Port()] = append(c.listeners[l.Addr.Port()], l)
	}
	for _, f := range forwards {
		c.forward = f
		c.listenAddress()
		c.portInUse()
		c.otherGateways()
		c.loop()
		c.serverPorts()
	}
	c.refusingChains(forwards)
	return c.findings
}

// checker is one Check: the facts, indexed, and the forward that is being checked.
type checker struct {
	facts     facts.Facts
	addresses map[netip.Addr]bool
	listeners map[uint16][]system.Listener // by port
	forward   forward.Resolved
	findings  []finding.Finding
}

func (c *checker) fault(text, remedy string) {
	c.findings = append(c.findings, finding.Finding{Forward: c.forward.Name, Text: text, Remedy: remedy})
}

func (c *checker) warn(text, remedy string) {
	c.findings = append(c.findings, finding.Finding{Forward: c.forward.Name, Text: text, Remedy: remedy,
		Severity: finding.Warning})
}

// listenAddress finds a listen address or interface that the host does not have.
func (c *checker) listenAddress() {
	l := c.forward.Listen
	switch {
	case l.Addr.IsLoopback() && c.forward.Tracking != forward.TrackingProxy:
		c.fault(fmt.Sprintf("listen %s: a loopback address cannot be reached from outside", l),
			"listen on "+c.ownAddresses(l.Addr))
	case l.Addr.IsValid() && !c.addresses[l.Addr]:
		c.fault(fmt.Sprintf("listen %s: %s is not an address of this host", l, l.Addr),
			fmt.Sprintf("give it to an interface (ip addr add %s dev ...), or listen on %s",
				netip.PrefixFrom(l.Addr, l.Addr.BitLen()), c.ownAddresses(l.Addr)))
	}
	if l.Interface != "" && !slices.Contains(c.facts.Interfaces, l.Interface) {
		c.fault(fmt.Sprintf("interface %q does not exist", l.Interface),
			"name one of "+strings.Join(c.facts.Interfaces, ", "))
	}
}

// maxProposed keeps a remedy readable on a host with thousands of addresses.
const maxProposed = 8

// ownAddresses lists the addresses that the forward could listen on, of the same family as like.
func (c *checker) ownAddresses(like netip.Addr) string {
	var own []string
	for _, a := range c.facts.Addresses {
		if a.Is4() == like.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			own = append(own, a.String())
		}
	}
	if len(own) == 0 {
		return fmt.Sprintf(":%d", c.forward.Listen.Port)
	}
	if more := len(own) - maxProposed; more > 0 {
		return fmt.Sprintf("%s (there are %d more)", strings.Join(own[:maxProposed], ", "), more)
	}
	return strings.Join(own, ", ")
}

// portInUse finds a program on the gateway that listens at the forward's address: its clients would silently
// reach the FTP server instead. A proxy finds out when it listens.
func (c *checker) portInUse() {
	if c.forward.Tracking == forward.TrackingProxy {
		return
	}
	for _, l := range c.listeners[c.forward.Listen.Port] {
		if takes(c.forward, l) {
			c.fault(fmt.Sprintf("listen %s is in use%s", c.forward.Listen, by(l)),
				finding.RemedyListener)
			return
		}
	}
}

// takes reports whether the forward's rules would take the connections of a local listener.
func takes(f forward.Resolved, l system.Listener) bool {
	addr, listen := l.Addr.Addr(), f.Listen.Addr
	switch {
	case addr.IsLoopback():
		return false // packets that stay on the host are not translated
	case listen.IsValid() && addr.IsUnspecified():
		return l.Dual || addr.Is4() == listen.Is4()
	case listen.IsValid():
		return addr.WithZone("") == listen
	}
	return l.Dual || (addr.Is4() && f.Server4.IsValid()) || (addr.Is6() && f.Server6.IsValid())
}

// by names the program that listens.
func by(l system.Listener) string {
	if l.Process == "" {
		return " by another program"
	}
	return " by " + l.Process
}

// otherGateways finds another ftpgate that publishes the listen address.
func (c *checker) otherGateways() {
	for _, o := range c.facts.Others {
		for _, l := range o.Listens {
			if !l.Overlaps(c.forward.Listen) {
				continue
			}
			remedy := "stop that one, or choose another address or port"
			who := fmt.Sprintf("another running ftpgate (pid %d, table inet %s) as %s", o.PID, o.Table, l)
			switch {
			case !o.Running:
				who = fmt.Sprintf("table inet %s as %s, which an ftpgate has left", o.Table, l)
				remedy = "start that one again, or remove its table: nft delete table inet " + o.Table
			case o.PID == 0:
				who = fmt.Sprintf("another running ftpgate (table inet %s) as %s", o.Table, l)
			}
			c.fault(fmt.Sprintf("listen %s is published by %s", c.forward.Listen, who), remedy)
			return
		}
	}
}

// loop finds a server that is the gateway itself. 0.0.0.0 counts, too: resolvers that block a name answer
// with it. A proxy may listen and connect on loopback, for a test: it reaches nothing else (forward.Check).
func (c *checker) loop() {
	addrs := append([]netip.Addr{c.forward.Server4, c.forward.Server6}, c.forward.Servers...)
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, a := range slices.Compact(addrs) {
		onLoopback := a.IsLoopback() && c.forward.Listen.Addr.IsLoopback() &&
			c.forward.Tracking == forward.TrackingProxy
		if a.IsValid() && !onLoopback && (c.addresses[a] || a.IsLoopback() || a.IsUnspecified()) {
			c.fault(fmt.Sprintf("server %s is this gateway itself (%s)", c.forward.Server, a),
				"name the FTP server; one that runs on the gateway needs no forward")
		}
	}
}

// serverPorts warns of the gateway's own services that server_ports hides: with tracking none from all
// clients, with tracking proxy from a client while it has an encrypted session.
func (c *checker) serverPorts() {
	switch f := c.forward; {
	case f.ServerPorts.IsEmpty():
	case f.Tracking == forward.TrackingProxy:
		c.passthrough()
	default:
		c.exposed()
	}
}

// exposed warns of ports that tracking none translates for all clients.
func (c *checker) exposed() {
	f := c.forward
	services := c.ownListeners(takes)
	if len(services) == 0 && f.ServerPorts != forward.AllPorts {
		return
	}
	ports := "TCP ports " + f.ServerPorts.String()
	if f.ServerPorts == forward.AllPorts {
		ports = "every TCP port"
	}
	text := fmt.Sprintf("takes over %s of %s for %s", ports, where(f.Listen), clientsText(f.Clients))
	if len(services) > 0 {
		text += ", and with them the gateway's own " + strings.Join(services, ", ")
	}
	c.warn(text, "if that is not meant, narrow server_ports to the server's passive range, or narrow clients")
}

// passthrough warns of local services that a client cannot reach during an encrypted session. The range is
// closed for others, so a range without services is fine.
func (c *checker) passthrough() {
	f := c.forward
	if !f.PassesThrough() {
		return
	}
	services := c.ownListeners(dialled)
	if len(services) == 0 {
		return
	}
	c.warn(fmt.Sprintf("while a client has an encrypted session, ports %s are forwarded to the server; "+
		"the client cannot reach the gateway's own %s there", f.ServerPorts, strings.Join(services, ", ")),
		"if that is not meant, narrow server_ports to the server's passive range, or have those programs "+
			"listen elsewhere")
}

// ownListeners returns the gateway's own listeners within the forward's server_ports, of those that match.
func (c *checker) ownListeners(match func(forward.Resolved, system.Listener) bool) (services []string) {
	f := c.forward
	for _, l := range c.facts.Listeners {
		if f.ServerPorts.Contains(l.Addr.Port()) && l.Addr.Port() != f.Listen.Port && match(f, l) {
			services = append(services, fmt.Sprintf("%d%s", l.Addr.Port(), by(l)))
		}
	}
	return services
}

// dialled reports whether a local listener is at an address that the clients of a proxy dial, which may have
// a family that the server lacks.
func dialled(f forward.Resolved, l system.Listener) bool {
	return !l.Addr.Addr().IsLoopback() && (!f.Listen.Addr.IsValid() || takes(f, l))
}

// where names the addresses of a listen key.
func where(l forward.Listen) string {
	s := "every address"
	if l.Addr.IsValid() {
		s = l.Addr.String()
	}
	if l.Interface != "" {
		s += " on " + l.Interface
	}
	return s
}

func clientsText(clients []netip.Prefix) string {
	if len(clients) == 0 {
		return "every client"
	}
	return "clients of " + finding.Join(clients, ", ")
}

// refusingChains warns of other programs' chains, once a chain.
func (c *checker) refusingChains(forwards []forward.Resolved) {
	first := slices.IndexFunc(forwards, forward.Resolved.MayUseKernel)
	if first < 0 {
		return
	}
	c.forward = forward.Resolved{}
	server := forwards[first].Server.Host // its name, if no name resolves
	resolved := func(f forward.Resolved) bool { return f.MayUseKernel() && len(f.ServerAddrs()) > 0 }
	if i := slices.IndexFunc(forwards, resolved); i >= 0 {
		server = forwards[i].ServerAddrs()[0].String()
	}
	for _, chain := range c.facts.Refusing {
		c.warn(chain.String()+
			" refuses by default, and may refuse forwarded FTP connections",
			facts.PassRemedy(chain, server))
	}
}
