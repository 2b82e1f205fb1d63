package forward

import (
	"fmt"
	"net/netip"

	"ftpgate/internal/core/finding"
)

// reportFunc records a fault of a key of the forward that is being checked.
type reportFunc func(key, format string, args ...any)

// Check returns the faults of each forward by itself and of all together, by index; nil: they can serve
// together. The key is the forward's ("server_ports"); the caller knows its place (a line of a file, a flag).
// The text may quote the names of other forwards. Its cost grows with their number, not with its square: ten
// thousand take milliseconds.
//
// It does not report keys that change nothing, such as data with tracking kernel: only the caller knows which
// keys were given.
func Check(forwards []Forward) (faults [][]finding.Finding) {
	taken := newClaims(forwards)
	for i, f := range forwards {
		report := func(key, format string, args ...any) {
			if faults == nil {
				faults = make([][]finding.Finding, len(forwards))
			}
			faults[i] = append(faults[i], finding.Finding{Forward: f.Name, Key: key,
				Text: fmt.Sprintf(format, args...)})
		}
		checkAlone(f, report)
		taken.check(i, report)
	}
	return faults
}

// checkAlone finds the faults that a forward has by itself.
func checkAlone(f Forward, report reportFunc) {
	server, literal := f.Server.Addr()
	if f.Listen.Addr.IsMulticast() {
		report("listen", "%s is a multicast address", f.Listen.Addr)
	}
	if literal && !f.CanReach(server) {
		report("server", "server %s is %s and listen %s is %s: "+
			"tracking %s cannot translate between the families",
			server, family(server), f.Listen, family(f.Listen.Addr), f.Tracking)
	}
	if literal && server.IsLoopback() {
		checkLoopback(f, report)
	}
	for _, c := range f.Clients {
		if !f.Listen.AcceptsFamily(c.Addr()) {
			report("clients", "client %s is %s and can never reach listen %s", c, family(c.Addr()), f.Listen)
		}
	}
	checkServerPorts(f, report)
	if f.Outbound != nil {
		checkOutbound(f, report)
	}
	if f.Tracking == TrackingProxy {
		checkProxy(f, report)
	}
}

// checkServerPorts finds the faults of server_ports, whose meaning depends on tracking.
func checkServerPorts(f Forward, report reportFunc) {
	switch ports := f.ServerPorts; {
	case f.Tracking == TrackingNone && ports.IsEmpty():
		report("server_ports", `tracking none needs the server's passive ports, like "50000-50100", or "all"`)
	case ports.IsEmpty():
	case f.Tracking == TrackingKernel:
		report("server_ports", "server_ports is for tracking proxy and none; "+
			"tracking kernel follows the dialogue and needs none")
	case f.Tracking == TrackingProxy:
		checkPassthrough(f, report)
	case ports == AllPorts && len(f.Clients) == 0:
		report("server_ports", `server_ports "all" takes over every port of the gateway: `+
			`say for which clients, like clients = ["192.168.5.0/24"]`)
	case ports != AllPorts && ports.Contains(f.Listen.Port) && f.Listen.Port != f.Server.Port:
		report("server_ports", "listen port %d lies within server_ports %s "+
			"and cannot lead to two ports of the server", f.Listen.Port, ports)
	}
}

// checkLoopback refuses a server on the gateway itself: the forward would open it to the outside. A
// forward with both ends on loopback opens nothing: it is a test on one host.
func checkLoopback(f Forward, report reportFunc) {
	switch {
	case f.Tracking != TrackingProxy:
		report("server", "server %s is the gateway itself", f.Server)
	case !f.Listen.Addr.IsLoopback():
		report("server", "server %s is the gateway itself: to try ftpgate on one host, "+
			"listen on a loopback address too, like 127.0.0.1:%d", f.Server, f.Listen.Port)
	}
}

// checkProxy finds the faults of keys that only a proxy has.
func checkProxy(f Forward, report reportFunc) {
	switch own := (PortRange{f.Listen.Port, f.Listen.Port}); {
	case f.PassivePorts.IsEmpty():
	case f.PassivePorts.First < LowestDataPort:
		report("passive_ports", "passive_ports %s: the ports below %d are those of services: "+
			"want a range like %s",
			f.PassivePorts, LowestDataPort, DefaultPassivePorts)
	case f.PassivePorts == own:
		report("passive_ports", "passive_ports %s is only the port of listen: "+
			"no port is left for data connections", f.PassivePorts)
	}
	checkAdvertise(f, report)
	checkProxyProtocol(f, report)
	checkTLS(f, report)
	if f.Source == SourceClient {
		checkSource(f, report)
	}
	if f.Data == DataKernel {
		checkDataKernel(f, report)
	}
}

// checkDataKernel refuses data = "kernel" if the kernel cannot carry data connections.
func checkDataKernel(f Forward, report reportFunc) {
	server, literal := f.Server.Addr()
	if key, value, encrypts := f.encryptsItself(); encrypts {
		report("data", "with %s %s ftpgate itself encrypts transfers: "+
			"the kernel cannot carry them; set data = \"auto\"", key, value)
	}
	if literal && f.Listen.Addr.IsValid() && !f.Listen.AcceptsFamily(server) {
		report("data", "server %s is %s and listen %s is %s: "+
			"the kernel cannot translate between the families; set data = \"auto\"",
			server, family(server), f.Listen, family(f.Listen.Addr))
	}
	if f.ServerMode == ServerModePassive {
		report("data", "server_mode passive joins active clients by the relay: set data = \"auto\"")
	}
	if f.Listen.Addr.IsLoopback() {
		report("data", "listen %s: the kernel translates nothing on loopback, use data auto", f.Listen)
	}
}

// checkAdvertise refuses an address that no client would get, and two addresses for one client.
func checkAdvertise(f Forward, report reportFunc) {
	if len(f.Advertise) > 0 && f.Listen.Addr.Is6() {
		report("advertise", "listen %s is IPv6: advertise is for IPv4 clients only", f.Listen)
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
			report("advertise", "advertise has two addresses for clients %s: %s and %s", a.Clients, first,
				a.Host)
		default:
			report("advertise", "advertise has two addresses for all clients, %s and %s: "+
				"give one to some clients, like 10.0.0.0/8=%s", first, a.Host, a.Host)
		}
	}
}

func family(addr netip.Addr) string {
	if addr.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
