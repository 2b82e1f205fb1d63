package forward

import (
	"fmt"
	"net/netip"
	"slices"
)

// Fault is a mistake in a forward, in the operator's words. The caller knows where the key
// stands (a line of a file, a flag) and says so beside it.
type Fault struct {
	Forward int    // index into what was checked
	Key     string // the key of the forward that is at fault: "listen", "server_ports", ...
	Text    string // one sentence without the forward's name; may quote other forwards' names
}

// Check returns every fault of the forwards, each for itself and all beside one another, in
// their order; none means that they can stand together. Its cost grows with their number,
// not with its square: ten thousand are checked in milliseconds.
func Check(forwards []Forward) []Fault {
	var faults []Fault
	taken := newClaims(forwards)
	for i, f := range forwards {
		fault := func(key, format string, args ...any) {
			faults = append(faults, Fault{i, key, fmt.Sprintf(format, args...)})
		}
		checkAlone(f, fault)
		taken.check(i, fault)
	}
	return faults
}

// checkAlone finds the faults that a forward has by itself.
func checkAlone(f Forward, fault func(key, format string, args ...any)) {
	server, literal := f.Server.Addr()
	if f.Listen.Addr.IsMulticast() {
		fault("listen", "%s is a multicast address", f.Listen.Addr)
	}
	if literal && !f.CanReach(server) {
		fault("server", "server %s is %s and listen %s is %s: tracking %s cannot translate between the families",
			server, family(server), f.Listen, family(f.Listen.Addr), f.Tracking)
	}
	if literal && server.IsLoopback() {
		checkLoopback(f, fault)
	}
	for _, c := range f.Clients {
		if !f.Listen.AcceptsFamily(c.Addr()) {
			fault("clients", "client %s is %s and can never reach listen %s", c, family(c.Addr()), f.Listen)
		}
	}
	checkServerPorts(f, fault)
	if f.Tracking == TrackingProxy {
		checkProxy(f, fault)
	} else {
		checkNoProxy(f, fault)
	}
}

// checkServerPorts finds the faults of server_ports, which mean something else to each tracking.
func checkServerPorts(f Forward, fault func(key, format string, args ...any)) {
	switch ports := f.ServerPorts; {
	case f.Tracking == TrackingNone && ports.IsEmpty():
		fault("server_ports", "tracking none needs the server's passive ports, like \"50000-50100\", or \"all\"")
	case ports.IsEmpty():
	case f.Tracking == TrackingKernel:
		fault("server_ports", "server_ports is for tracking proxy and none; tracking kernel follows the dialogue and needs none")
	case f.Tracking == TrackingProxy:
		checkPassthrough(f, fault)
	case ports == AllPorts && len(f.Clients) == 0:
		fault("server_ports", "server_ports \"all\" takes over every port of the gateway: say for which clients, like clients = [\"192.168.5.0/24\"]")
	case ports != AllPorts && ports.Contains(f.Listen.Port) && f.Listen.Port != f.Server.Port:
		fault("server_ports", "listen port %d lies within server_ports %s and cannot lead to two ports of the server", f.Listen.Port, ports)
	}
}

// checkLoopback refuses a server on the gateway itself, which would open it to the outside. A forward
// that is on loopback at both ends opens nothing: it is a trial on one host.
func checkLoopback(f Forward, fault func(key, format string, args ...any)) {
	switch {
	case f.Tracking != TrackingProxy:
		fault("server", "server %s is the gateway itself", f.Server)
	case !f.Listen.Addr.IsLoopback():
		fault("server", "server %s is the gateway itself: to try ftpgate on one host, listen on a loopback address too, like 127.0.0.1:%d",
			f.Server, f.Listen.Port)
	}
}

// checkProxy finds the faults of what only a proxy has.
func checkProxy(f Forward, fault func(key, format string, args ...any)) {
	server, literal := f.Server.Addr()
	switch own := (PortRange{f.Listen.Port, f.Listen.Port}); {
	case f.PassivePorts.IsEmpty():
	case f.PassivePorts.First < LowestDataPort:
		fault("passive_ports", "passive_ports %s: the ports below %d are those of services: want a range like %s",
			f.PassivePorts, LowestDataPort, DefaultPassivePorts)
	case f.PassivePorts == own:
		fault("passive_ports", "passive_ports %s is only the port of listen: no port is left for data connections", f.PassivePorts)
	}
	checkAdvertise(f, fault)
	checkTLS(f, fault)
	if f.Data != DataKernel {
		return
	}
	if literal && f.Listen.Addr.IsValid() && !f.Listen.AcceptsFamily(server) {
		fault("data", "server %s is %s and listen %s is %s: data kernel cannot translate between the families, data auto can",
			server, family(server), f.Listen, family(f.Listen.Addr))
	}
	if f.ServerMode == ServerModePassive {
		fault("data", "server_mode passive joins active clients by the relay: data kernel cannot, data auto can")
	}
	if f.Listen.Addr.IsLoopback() {
		fault("data", "listen %s: the kernel translates nothing on loopback, use data auto", f.Listen)
	}
}

// checkAdvertise refuses what would never be told, or of which nobody knows which one is.
func checkAdvertise(f Forward, fault func(key, format string, args ...any)) {
	if len(f.Advertise) > 0 && f.Listen.Addr.Is6() {
		fault("advertise", "listen %s is IPv6: what advertise says is told to IPv4 clients only", f.Listen)
	}
	if len(f.Advertise) < 2 {
		return
	}
	hosts := map[netip.Prefix]string{}
	for _, a := range f.Advertise {
		first, again := hosts[a.Clients]
		switch {
		case !again:
			hosts[a.Clients] = a.Host
		case a.Clients.IsValid():
			fault("advertise", "advertise says twice what %s is told: %s and %s", a.Clients, first, a.Host)
		default:
			fault("advertise", "advertise says twice what everybody is told: %s and %s: give one to some clients, like 10.0.0.0/8=%s",
				first, a.Host, a.Host)
		}
	}
}

// checkNoProxy refuses what means nothing to the other trackings.
func checkNoProxy(f Forward, fault func(key, format string, args ...any)) {
	keys := []givenKey{
		{"data", f.Data != DataAuto},
		{"passive_ports", !f.PassivePorts.IsEmpty()},
		{"advertise", len(f.Advertise) > 0},
		{"server_mode", f.ServerMode != ServerModeClient},
		{"dial_time", f.Limits.Dial != 0},
		{"login_time", f.Limits.Login != 0},
		{"idle_time", f.Limits.Idle != 0},
		{"max_sessions", f.Limits.Sessions != 0},
		{"max_sessions_per_client", f.Limits.PerClient != 0},
		{"max_login_failures", f.Limits.LoginFailures != 0},
		{"tls.client", f.TLS.Client != ClientTLSOff},
		{"tls.server", f.TLS.Server != ServerTLSOff},
	}
	for _, k := range slices.Concat(keys, f.TLS.clientKeys(), f.TLS.serverKeys()) {
		if k.given {
			fault(k.name, "%s is for tracking proxy; tracking %s leaves the dialogue as it is", k.name, f.Tracking)
		}
	}
}

// listenPoint is a place on the gateway that forwards can contend for; the zero Addr stands for all addresses.
type listenPoint struct {
	addr netip.Addr
	port uint16
}

// claims knows what each forward takes of the gateway's addresses and ports.
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
		names:    map[string]int{},
		listens:  map[listenPoint][]int{},
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

// check finds what forward i takes that an earlier one has, and whether it leads back to the gateway.
func (c *claims) check(i int, fault func(key, format string, args ...any)) {
	f := c.forwards[i]
	if first := c.names[f.Name]; first != i {
		fault("name", "name %q is taken by forward %d", f.Name, first+1)
	}
	for _, j := range c.sharingPort(f.Listen) {
		if o := c.forwards[j]; j < i && f.Listen.Overlaps(o.Listen) {
			fault("listen", "listen %s is taken by forward %q%s", f.Listen, o.Name, addressOfOther(f.Listen, o.Listen))
			break
		}
	}
	c.checkLoop(i, fault)
	c.checkRanges(i, fault)
}

// checkLoop refuses a server that is a listen address of the gateway.
func (c *claims) checkLoop(i int, fault func(key, format string, args ...any)) {
	f := c.forwards[i]
	server, literal := f.Server.Addr()
	if !literal {
		return
	}
	switch through := c.listens[listenPoint{server, f.Server.Port}]; {
	case len(through) == 0:
	case slices.Contains(through, i):
		fault("server", "the forward leads to itself")
	default:
		fault("server", "the server is the listen address of forward %q: a forward cannot lead to the gateway itself",
			c.forwards[through[0]].Name)
	}
}

// checkRanges refuses ports that another forward needs.
func (c *claims) checkRanges(i int, fault func(key, format string, args ...any)) {
	f := c.forwards[i]
	for _, j := range c.withReservedPorts(f.Listen) {
		o := c.forwards[j]
		if j == i || !f.Listen.sameHost(o.Listen) {
			continue
		}
		if o.ServerPorts == AllPorts && f.Tracking == TrackingProxy {
			fault("listen", "listen %s lies within the server_ports \"all\" of forward %q, whose clients could not reach the proxy", f.Listen, o.Name)
			continue
		}
		if o.ServerPorts != AllPorts && o.ServerPorts.Contains(f.Listen.Port) {
			fault("listen", "listen %s lies within the server_ports %s of forward %q", f.Listen, o.ServerPorts, o.Name)
		}
		if f.Tracking == TrackingProxy && f.PassivePorts.Overlaps(o.ServerPorts) { // those of DefaultPassivePorts are avoided
			fault("passive_ports", "passive_ports %s overlap the server_ports %s of forward %q at the same address", f.PassivePorts, o.ServerPorts, o.Name)
		}
		toldOfOther := f.ServerPorts == AllPorts && o.Tracking == TrackingProxy
		// One server may be published twice, for explicit and for implicit FTPS.
		oneServer := f.PassesThrough() && o.PassesThrough() && f.Server.Host == o.Server.Host && f.ServerPorts == o.ServerPorts
		if j < i && !toldOfOther && !oneServer && f.reservedPorts().Overlaps(o.ServerPorts) {
			fault("server_ports", "server_ports %s overlap %s of forward %q at the same address", f.ServerPorts, o.ServerPorts, o.Name)
		}
	}
}

// addressOfOther adds the other's listen address where it reads differently.
func addressOfOther(l, o Listen) string {
	if l == o {
		return ""
	}
	return fmt.Sprintf(" (%s)", o)
}

func family(addr netip.Addr) string {
	if addr.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
