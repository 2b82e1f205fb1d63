package doctor

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/system"
)

// listens adds a listener.
func listens(addr, process string) func(*Facts, *forward.Resolved) {
	return func(f *Facts, _ *forward.Resolved) {
		f.Listeners = append(f.Listeners, system.Listener{Addr: netip.MustParseAddrPort(addr),
			Process: process})
	}
}

// route replaces a route.
func route(to netip.Addr, r system.Route) func(*Facts, *forward.Resolved) {
	return func(f *Facts, _ *forward.Resolved) { f.Routes[to] = r }
}

func wan(mtu int) system.Route { return system.Route{Interface: "wan0.7", Source: wan4, MTU: mtu} }

func named(_ *Facts, r *forward.Resolved) { r.Server.Host = "ftp.example.com" }

// strictOn makes rp_filter strict on an interface, or on all.
func strictOn(link string) func(*Facts, *forward.Resolved) {
	return sysctl("net.ipv4.conf."+link+".rp_filter", "1")
}

func TestListen(t *testing.T) {
	run(t, []provoked{
		{"taken", 0, listens("192.168.5.2:2121", "vsftpd (pid 5)"), CodeListen, finding.Fault,
			"listen 192.168.5.2:2121 is taken by vsftpd (pid 5)", "stop that program"},
		{"taken by all", 0, listens("0.0.0.0:2121", ""), CodeListen, finding.Fault,
			"taken by another program", ""},
		{"another address", 0, listens("127.0.0.1:2121", "x"), CodeListen, finding.OK, "no other program",
			""},
		{"another family", 0, listens("[::]:2121", "x"), CodeListen, finding.OK, "no other program", ""},
		{"of both families", 0, func(f *Facts, _ *forward.Resolved) {
			f.Listeners = []system.Listener{{Addr: netip.MustParseAddrPort("[::]:2121"), Dual: true,
				Process: "x (pid 1)"}}
		}, CodeListen, finding.Fault, "x (pid 1)", ""},
		{"taken of every address", 0, both(listens("127.0.0.1:2121", "x"),
			func(_ *Facts, r *forward.Resolved) { r.Listen.Addr = netip.Addr{} }), CodeListen, finding.Fault,
			"taken by x", ""},
		{"served", 0, both(running, listens("192.168.5.2:2121", "")), CodeListen, finding.OK,
			"ftpgate listens at", ""},
		{"served, and known", 0, both(running, func(f *Facts, _ *forward.Resolved) {
			f.Listeners = []system.Listener{{Addr: netip.MustParseAddrPort("192.168.5.2:2121"),
				Process: "ftpgate (pid 77)"}}
		}), CodeListen, finding.OK, "ftpgate listens at", ""},
		{"not served", 0, running, CodeNotServed, finding.Warning, "no program listens at 192.168.5.2:2121",
			"ftpgate reload"},
	})
}

func TestPassivePorts(t *testing.T) {
	run(t, []provoked{
		{"within the passive ports", 0, both(listens("0.0.0.0:50000", "nginx (pid 9)"),
			listens("[::]:50000", "nginx (pid 9)"), listens("127.0.0.1:50001", "x"),
			listens("0.0.0.0:49151", "x")),
			CodePassive, finding.Warning, "49152-65535: 50000 (nginx (pid 9)); a firewall",
			"other passive_ports"},
		{"many within", 0, both(listens("0.0.0.0:50000", "a"), listens("0.0.0.0:50001", "a"),
			listens("0.0.0.0:50002", "a"), listens("0.0.0.0:50003", "a"), listens("0.0.0.0:50004", "a"),
			listens("0.0.0.0:50005", "a")),
			CodePassive, finding.Warning, "50003 (a), 2 more;", ""},
	})
}

func TestServerName(t *testing.T) {
	run(t, []provoked{
		{"a slow name", 0, both(named, func(f *Facts, _ *forward.Resolved) {
			f.Lookups = []system.Lookup{{Host: "ftp.example.com", Took: 5012 * time.Millisecond}}
		}), CodeNameSlow, finding.Warning, "the resolver took 5s", "resolv.conf"},
		{"several addresses", 0, both(named, func(f *Facts,
			r *forward.Resolved) {
			r.Servers = []netip.Addr{server4, wan4.Next()}
		}), CodeNameMany,
			finding.Info, "2 addresses, which are tried in turn: 203.0.113.21, 203.0.113.2", "same files"},
		{"only IPv6", 0, both(named, func(_ *Facts, r *forward.Resolved) {
			r.Server4,
				r.Server6 = netip.Addr{}, server6
		}), CodeNameIPv6, finding.Info, "relays the data", ""},
		{"only IPv6, and no proxy", none, both(named, func(_ *Facts, r *forward.Resolved) {
			r.Server4, r.Server6, r.Listen.Addr = netip.Addr{}, server6, netip.Addr{}
		}), CodeNameIPv6, finding.Warning, "do not reach it", "proxy"},
	})
}

func TestRoutes(t *testing.T) {
	run(t, []provoked{
		{"no route", 0, route(server4, system.Route{Problem: "there is none"}), CodeRoute, finding.Fault,
			"203.0.113.21 cannot be reached: there is none", "ip route get 203.0.113.21"},
		{"no route to one of two", 0, both(route(server6, system.Route{Problem: "there is none"}),
			func(_ *Facts, r *forward.Resolved) { r.Server6 = server6 }), CodeRoute, finding.Warning,
			"2001:db8:113::21", ""},
		{"a route", 0, route(server4, system.Route{Interface: "wan0.7", Gateway: wan4, Source: wan4,
			MTU: 1500}), CodeRoute, finding.OK,
			"through wan0.7 via 203.0.113.1, with packets of up to 1500 bytes", ""},
		{"a tiny MTU", 0, route(server4, wan(1000)), CodeMTU, finding.Warning,
			"is 1000, less than any network", "ip link show wan0.7"},
		{"a smaller MTU", 0, route(server4, wan(1400)), CodeMTU, finding.Warning,
			"and lan0 on the clients' side 1500", "maxseg"},
		{"a smaller MTU, relayed", 0, both(relayed, route(server4, wan(1400))), CodeMTU, finding.Info,
			"a tunnel or PPPoE", ""},
	})
}

func TestForwarding(t *testing.T) {
	run(t, []provoked{
		{"no forwarding", 0, both(running, sysctl(facts.SysctlForward4, "0"), listens("192.168.5.2:2121",
			"")),
			CodeForwarding, finding.Fault, "IPv4 forwarding is off, though", facts.SysctlForward4},
		{"no forwarding yet", kernel, sysctl(facts.SysctlForward4, "0"), CodeForwarding, finding.Info,
			"when it starts", ""},
		{"no forwarding of IPv6", none, both(running, sysctl(facts.SysctlForward6, "0"),
			func(_ *Facts, r *forward.Resolved) { r.Server6 = server6 }), CodeForwarding, finding.Fault,
			"IPv6 forwarding is off", facts.SysctlForward6},
		{"no forwarding of one interface", 0, sysctl("net.ipv4.conf.wan0/7.forwarding", "0"), CodeForwarding,
			finding.Fault, "off on wan0.7 alone", "net.ipv4.conf.wan0/7.forwarding=1"},
		{"no forwarding needed", 0, both(relayed, sysctl(facts.SysctlForward4, "0")), CodeRoute, finding.OK,
			"",
			""},
	})
}

func TestReversePath(t *testing.T) {
	run(t, []provoked{
		{"clients answered elsewhere", 0, both(strictOn("lan0"),
			route(client, system.Route{Interface: "wan0.7", MTU: 1500})), CodeReverse, finding.Fault,
			"192.168.5.0/24 that arrive on lan0 are dropped, since the return route is by wan0.7",
			"net.ipv4.conf.lan0.rp_filter=2"},
		{"strict for all", 0, both(strictOn("all"),
			route(client, system.Route{Interface: "wan0.7", MTU: 1500})), CodeReverse, finding.Fault,
			"arrive on lan0", ""},
		{"loose", 0, both(strictOn("all"), sysctl("net.ipv4.conf.lan0.rp_filter", "2"),
			route(client, system.Route{Interface: "wan0.7", MTU: 1500})), CodeReverse, finding.Info,
			"answered by wan0.7", ""},
		{"strict and sound", 0, strictOn("lan0"), CodeReverse, finding.OK,
			"the interface that they arrive on", ""},
		{"the server's answers", 0, both(strictOn("lan0"),
			route(server4, system.Route{Interface: "wan0.7", Source: lan4, MTU: 1500})), CodeReverse,
			finding.Warning, "leave by wan0.7 with the address 192.168.5.2 of lan0", "lan0.rp_filter=2"},
	})
}

func TestTimeouts(t *testing.T) {
	run(t, []provoked{
		{"a short memory", kernel, sysctl(facts.SysctlEstablished, "600"), CodeTimeout, finding.Warning,
			"after 600 s of silence: a transfer that takes longer", "=86400"},
		{"a very short memory", 0, sysctl(facts.SysctlEstablished, "60"), CodeTimeout, finding.Warning,
			"pauses for longer", ""},
		{"little patience", 0, func(_ *Facts, r *forward.Resolved) { r.Limits.Idle = time.Minute }, CodeIdle,
			finding.Info, "idle_time is 1m0s", "RFC 1123"},
	})
}
