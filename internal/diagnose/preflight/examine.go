package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// Facts is what the host looks like, as far as forwards depend on it.
type Facts struct {
	Addresses  []netip.Addr // of this host
	Interfaces []string
	Listeners  []Listener
	Others     []Other // other running ftpgates
	Refusing   []Refusing
}

// Listener is a TCP socket of the gateway itself that takes connections.
type Listener struct {
	Addr netip.AddrPort // an address that is not specified stands for all of them
	Dual bool           // an IPv6 listener that takes IPv4 too
	Who  string         // the program, where it can be told
}

// Other is another ftpgate's table and what it publishes.
type Other struct {
	Table   string
	Running bool // a process has it; else one has left it
	PID     int  // of that process; 0 where it cannot be told
	Listens []forward.Listen
}

// Refusing is a chain of another program that may refuse forwarded packets.
type Refusing struct {
	Family string // "ip", "ip6" or "inet"; empty: of iptables-legacy, which nftables does not show
	Table  string
	Chain  string
	Owner  string // "docker", "firewalld", "ufw" or ""
}

// String names the chain as an operator finds it.
func (r Refusing) String() string {
	if r.Family == "" {
		return fmt.Sprintf("chain %s of iptables-legacy", r.Chain)
	}
	return fmt.Sprintf("chain %s of table %s %s", r.Chain, r.Family, r.Table)
}

// remedy is what lets the forwards' connections pass the chain: those whose destination was
// translated, in both directions.
func (r Refusing) remedy(server string) string {
	iptables := "iptables"
	if r.Family == "ip6" {
		iptables = "ip6tables"
	}
	const translated = "-m conntrack --ctstate DNAT -j ACCEPT"
	switch {
	case r.Owner == "docker":
		return fmt.Sprintf("%s -I DOCKER-USER %s", iptables, translated)
	case r.Owner == "ufw":
		return "ufw route allow proto tcp to " + server
	case r.Owner == "firewalld":
		return "add a policy that lets the clients' zone forward to the server's (firewall-cmd --permanent --new-policy ...), or --add-forward in a zone that has both"
	case r.Family == "":
		return fmt.Sprintf("iptables-legacy -I %s %s", r.Chain, translated)
	case r.Table == "filter" && r.Chain == "FORWARD": // made by iptables, which cannot show what nft puts there
		return fmt.Sprintf("%s -I %s %s", iptables, r.Chain, translated)
	}
	return fmt.Sprintf("nft insert rule %s %s %s ct status dnat accept", r.Family, r.Table, r.Chain)
}

// owners are the programs as a sentence begins with them.
var owners = map[string]string{"docker": "Docker's ", "ufw": "ufw's ", "firewalld": "firewalld's "}

// Check holds forwards against the host, and returns everything that is in their way at once.
func Check(facts Facts, forwards []forward.Resolved) []finding.Finding {
	e := examiner{facts: facts, addresses: map[netip.Addr]bool{}, ports: map[uint16][]Listener{}}
	for _, a := range facts.Addresses {
		e.addresses[a.WithZone("")] = true
	}
	for _, l := range facts.Listeners {
		e.ports[l.Addr.Port()] = append(e.ports[l.Addr.Port()], l)
	}
	for _, f := range forwards {
		e.forward = f
		e.address()
		e.listener()
		e.otherGateway()
		e.loop()
		e.takeover()
	}
	e.refusing(forwards)
	return e.findings
}

// examiner carries the indexed facts and the forward that is looked at.
type examiner struct {
	facts     Facts
	addresses map[netip.Addr]bool
	ports     map[uint16][]Listener
	forward   forward.Resolved
	findings  []finding.Finding
}

func (e *examiner) fault(text, remedy string) {
	e.findings = append(e.findings, finding.Finding{Forward: e.forward.Name, Text: text, Remedy: remedy})
}

func (e *examiner) warn(text, remedy string) {
	e.findings = append(e.findings, finding.Finding{Forward: e.forward.Name, Text: text, Remedy: remedy, Severity: finding.Warning})
}

// address finds a listen address or interface that the host does not have.
func (e *examiner) address() {
	l := e.forward.Listen
	switch {
	case l.Addr.IsLoopback() && e.forward.Tracking != forward.TrackingProxy:
		e.fault(fmt.Sprintf("listen %s: a loopback address cannot be reached from outside", l), "listen on "+e.ownAddresses(l.Addr))
	case l.Addr.IsValid() && !e.addresses[l.Addr]:
		e.fault(fmt.Sprintf("listen %s: %s is not an address of this host", l, l.Addr),
			fmt.Sprintf("give it to an interface (ip addr add %s dev ...), or listen on %s", netip.PrefixFrom(l.Addr, l.Addr.BitLen()), e.ownAddresses(l.Addr)))
	}
	if l.Interface != "" && !slices.Contains(e.facts.Interfaces, l.Interface) {
		e.fault(fmt.Sprintf("interface %q does not exist", l.Interface), "name one of "+strings.Join(e.facts.Interfaces, ", "))
	}
}

// proposed keeps a remedy readable on a host with thousands of addresses.
const proposed = 8

// ownAddresses lists what one could listen on, in the family of the address that was asked for.
func (e *examiner) ownAddresses(like netip.Addr) string {
	var own []string
	for _, a := range e.facts.Addresses {
		if a.Is4() == like.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			own = append(own, a.String())
		}
	}
	if len(own) == 0 {
		return fmt.Sprintf(":%d", e.forward.Listen.Port)
	}
	if more := len(own) - proposed; more > 0 {
		return fmt.Sprintf("%s (there are %d more)", strings.Join(own[:proposed], ", "), more)
	}
	return strings.Join(own, ", ")
}

// listener finds a program of the gateway that has the listen address: its clients would reach the
// FTP server instead, without a word. A proxy listens itself, and finds out by that.
func (e *examiner) listener() {
	if e.forward.Tracking == forward.TrackingProxy {
		return
	}
	for _, l := range e.ports[e.forward.Listen.Port] {
		if hit(e.forward, l) {
			e.fault(fmt.Sprintf("listen %s is in use%s", e.forward.Listen, by(l)),
				"stop that program or let it listen elsewhere, or choose another port")
			return
		}
	}
}

// hit tells whether connections to a local listener would be the forward's.
func hit(f forward.Resolved, l Listener) bool {
	addr, listen := l.Addr.Addr(), f.Listen.Addr
	switch {
	case addr.IsLoopback():
		return false // what stays on the host is not translated
	case listen.IsValid() && addr.IsUnspecified():
		return l.Dual || addr.Is4() == listen.Is4()
	case listen.IsValid():
		return addr.WithZone("") == listen
	}
	return l.Dual || (addr.Is4() && f.Server4.IsValid()) || (addr.Is6() && f.Server6.IsValid())
}

func by(l Listener) string {
	if l.Who == "" {
		return " by another program"
	}
	return " by " + l.Who
}

// otherGateway finds a listen address that another ftpgate publishes.
func (e *examiner) otherGateway() {
	for _, o := range e.facts.Others {
		for _, l := range o.Listens {
			if !l.Overlaps(e.forward.Listen) {
				continue
			}
			text := fmt.Sprintf("listen %s is published by ", e.forward.Listen)
			switch {
			case !o.Running:
				e.fault(fmt.Sprintf("%stable inet %s as %s, which an ftpgate has left", text, o.Table, l),
					"start that one again, or remove its table: nft delete table inet "+o.Table)
			case o.PID == 0:
				e.fault(fmt.Sprintf("%sanother running ftpgate (table inet %s) as %s", text, o.Table, l), otherRemedy)
			default:
				e.fault(fmt.Sprintf("%sanother running ftpgate (pid %d, table inet %s) as %s", text, o.PID, o.Table, l), otherRemedy)
			}
			return
		}
	}
}

const otherRemedy = "stop that one, or choose another address or port"

// loop finds a server that is the gateway itself, which is what 0.0.0.0 means: the answer of
// resolvers that block a name. A trial on loopback leads nowhere else (dnat.Check).
func (e *examiner) loop() {
	addrs := append([]netip.Addr{e.forward.Server4, e.forward.Server6}, e.forward.Servers...)
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, a := range slices.Compact(addrs) {
		trial := a.IsLoopback() && e.forward.Listen.Addr.IsLoopback() && e.forward.Tracking == forward.TrackingProxy
		if a.IsValid() && !trial && (e.addresses[a] || a.IsLoopback() || a.IsUnspecified()) {
			e.fault(fmt.Sprintf("server %s is this gateway itself (%s)", e.forward.Server, a),
				"name the FTP server; one that runs on the gateway needs no forward")
		}
	}
}

// takeover says what server_ports take of the gateway's own services: with tracking none for everybody,
// with tracking proxy for a client while it has an encrypted session.
func (e *examiner) takeover() {
	switch f := e.forward; {
	case f.ServerPorts.IsEmpty():
	case f.Tracking == forward.TrackingProxy:
		e.passage()
	default:
		e.takeoverForAll()
	}
}

func (e *examiner) takeoverForAll() {
	f := e.forward
	services := e.within(hit)
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
	e.warn(text, "if that is not meant, narrow server_ports to the server's passive range, or narrow clients")
}

// passage is takeover for tracking proxy, which is no takeover where it hits nothing: the range is open
// to nobody else.
func (e *examiner) passage() {
	f := e.forward
	if !f.PassesThrough() {
		return
	}
	services := e.within(dialled)
	if len(services) == 0 {
		return
	}
	e.warn(fmt.Sprintf("while a client has an encrypted session, TCP ports %s of the address that it dialled lead it to the server, "+
		"and the gateway's own %s cannot be reached by it", f.ServerPorts, strings.Join(services, ", ")),
		"if that is not meant, narrow server_ports to the server's passive range, or have those programs listen elsewhere")
}

// within returns the gateway's own listeners at the forward's server_ports which hits says are meant.
func (e *examiner) within(hits func(forward.Resolved, Listener) bool) (services []string) {
	f := e.forward
	for _, l := range e.facts.Listeners {
		if f.ServerPorts.Contains(l.Addr.Port()) && l.Addr.Port() != f.Listen.Port && hits(f, l) {
			services = append(services, fmt.Sprintf("%d%s", l.Addr.Port(), by(l)))
		}
	}
	return services
}

// dialled tells whether a local listener is at an address that the clients of a proxy dial. They may do so
// in a family that the server does not have.
func dialled(f forward.Resolved, l Listener) bool {
	return !l.Addr.Addr().IsLoopback() && (!f.Listen.Addr.IsValid() || hit(f, l))
}

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
	parts := make([]string, len(clients))
	for i, c := range clients {
		parts[i] = c.String()
	}
	return "clients of " + strings.Join(parts, ", ")
}

// refusing warns of other programs' chains, once a chain.
func (e *examiner) refusing(forwards []forward.Resolved) {
	forwards = slices.DeleteFunc(slices.Clone(forwards), func(f forward.Resolved) bool { return !f.MayUseKernel() })
	if len(forwards) == 0 {
		return
	}
	e.forward = forward.Resolved{}
	server := forwards[0].Server.Host // of a name that does not resolve
	if i := slices.IndexFunc(forwards, forward.Resolved.HasServer); i >= 0 {
		server = forwards[i].ServerAddrs()[0].String()
	}
	for _, r := range e.facts.Refusing {
		e.warn(owners[r.Owner]+r.String()+" refuses what it does not know, and may refuse forwarded FTP connections", r.remedy(server))
	}
}
