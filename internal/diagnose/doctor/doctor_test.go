package doctor

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

var (
	server4 = netip.MustParseAddr("203.0.113.21")
	server6 = netip.MustParseAddr("2001:db8:113::21")
	lan4    = netip.MustParseAddr("192.168.5.2")
	wan4    = netip.MustParseAddr("203.0.113.1")
	clients = netip.MustParsePrefix("192.168.5.0/24")
	client  = netip.MustParseAddr("192.168.5.1")
)

func link(name string, mtu int, addr string) system.Link {
	return system.Link{Name: name, MTU: mtu, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}}
}

// sound is a host on which nothing is in the way of a forward.
func sound() Facts {
	f := Facts{
		Now:    time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		Rights: &system.Rights{Administer: true, BindLow: true, OpenFiles: 524288},
		Links: []system.Link{link("lo", 65536, "127.0.0.1/8"), link("lan0", 1500, "192.168.5.2/24"),
			link("wan0.7", 1500, "203.0.113.1/24")},
		Sysctls: map[string]string{},
		Routes: map[netip.Addr]system.Route{
			server4: {Interface: "wan0.7", Source: wan4, MTU: 1500},
			server6: {Interface: "wan0.7", MTU: 1500},
			client:  {Interface: "lan0", Source: lan4, MTU: 1500},
		},
		Listeners: []system.Listener{},
	}
	for _, name := range Modules() {
		f.Modules = append(f.Modules, system.Found{Name: name, State: system.ModulePresent})
	}
	for name, value := range map[string]string{
		sysctlForward4: "1", sysctlForward6: "1", sysctlCount: "100", sysctlMax: "262144",
		sysctlExpectMax: "4096",
		sysctlAcct:      "1", sysctlEvents: "2", sysctlEstablished: "432000", sysctlLowest: "1024",
		"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.lan0.rp_filter": "0",
		"net.ipv4.conf.wan0/7.rp_filter": "0",
		"net.ipv4.conf.lan0.forwarding":  "1", "net.ipv4.conf.wan0/7.forwarding": "1",
	} {
		f.Sysctls[name] = value
	}
	return f
}

func testForward(tracking forward.Tracking) forward.Resolved {
	return forward.Resolved{Server4: server4, Forward: forward.Forward{
		Name: "archive", Tracking: tracking, Listen: forward.Listen{Addr: lan4, Port: 2121},
		Server: forward.Server{Host: server4.String(), Port: 21}, Clients: []netip.Prefix{clients},
	}}
}

// bad returns what is worse than good to know.
func bad(findings []finding.Finding) []finding.Finding {
	return slices.DeleteFunc(slices.Clone(findings),
		func(f finding.Finding) bool { return f.Severity == finding.OK || f.Severity == finding.Info })
}

func TestSound(t *testing.T) {
	for _, tracking := range []forward.Tracking{forward.TrackingProxy, forward.TrackingKernel,
		forward.TrackingNone} {
		findings := Examine(sound(), []forward.Resolved{testForward(tracking)})
		if got := finding.Worst(findings); got != finding.OK {
			t.Errorf("%s: got %+v; want nothing but ok", tracking, findings)
		}
		for _, code := range []string{CodeRights, CodeModules, CodeTable, CodeRoute, CodeForwarding} {
			if !slices.ContainsFunc(findings,
				func(f finding.Finding) bool { return f.Code == code && f.Severity == finding.OK }) {
				t.Errorf("%s: there is no finding of %s", tracking, code)
			}
		}
	}
	if got := Examine(Facts{}, nil); len(got) > 0 || finding.Worst(got) != finding.OK {
		t.Errorf("nothing known, no forward: got %+v; want nothing", got)
	}
}

// A fact that is not known is not judged: a host without facts has no faults.
func TestNothingRead(t *testing.T) {
	facts := Facts{Expectations: -1, Unread: []system.Unread{{What: "the routes", Why: "permission denied"}}}
	got := Examine(facts, []forward.Resolved{testForward(forward.TrackingProxy),
		testForward(forward.TrackingKernel), testForward(forward.TrackingNone)})
	want := []finding.Finding{{Code: CodeUnread, Severity: finding.Info,
		Text: "the routes could not be read: permission denied", Remedy: "run ftpgate doctor as root"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

// provoked is a host and a forward with one cause, and the finding that it must have.
type provoked struct {
	name     string
	tracking forward.Tracking
	change   func(*Facts, *forward.Resolved)
	code     string
	level    finding.Severity
	text     string // a part of it
	remedy   string // a part of it
}

func sysctl(name, value string) func(*Facts, *forward.Resolved) {
	return func(f *Facts, _ *forward.Resolved) { f.Sysctls[name] = value }
}

func relayed(_ *Facts, r *forward.Resolved) { r.Data = forward.DataRelay }

// both applies several changes.
func both(changes ...func(*Facts, *forward.Resolved)) func(*Facts, *forward.Resolved) {
	return func(f *Facts, r *forward.Resolved) {
		for _, c := range changes {
			c(f, r)
		}
	}
}

func (p provoked) check(t *testing.T) {
	facts, r := sound(), testForward(p.tracking)
	p.change(&facts, &r)
	got := Examine(facts, []forward.Resolved{r})
	if !slices.ContainsFunc(got, func(f finding.Finding) bool {
		return f.Code == p.code && f.Severity == p.level && strings.Contains(f.Text, p.text) &&
			strings.Contains(f.Remedy, p.remedy)
	}) {
		t.Errorf("got %+v\nwant %s %s %q %q", bad(got), p.level, p.code, p.text, p.remedy)
	}
	for _, f := range bad(got) { // one cause, one finding
		if f.Code != p.code {
			t.Errorf("got %+v, too", f)
		}
		if f.Remedy == "" || f.Text == "" || strings.HasSuffix(f.Text, ".") ||
			strings.Contains(f.Text, "%!") {
			t.Errorf("got %+v; want a sentence without its full stop, and a remedy", f)
		}
	}
}

func run(t *testing.T, tests []provoked) {
	for _, p := range tests {
		t.Run(p.name, p.check)
	}
}

func TestHost(t *testing.T) {
	const kernel, none = forward.TrackingKernel, forward.TrackingNone
	lacking := func(f *Facts, _ *forward.Resolved) { f.Rights.Administer = false }
	running := func(f *Facts, _ *forward.Resolved) { f.Running, f.PID = true, 77 }
	module := func(m system.Found) func(*Facts, *forward.Resolved) {
		return func(f *Facts, _ *forward.Resolved) {
			f.Modules[slices.IndexFunc(f.Modules, func(o system.Found) bool { return o.Name == m.Name })] = m
		}
	}
	run(t, []provoked{
		{"no right, relayed", 0, lacking, CodeRights, finding.Warning,
			"this process may not change the network", "CAP_NET_ADMIN"},
		{"no right, needed", kernel, lacking, CodeRights, finding.Fault, `forwards need that: "archive"`,
			"AmbientCapabilities"},
		{"no right, not needed", 0, both(lacking, relayed), CodeRights, finding.OK, "no forward needs that",
			""},
		{"no right of the one that runs", none, both(lacking, running), CodeRights, finding.Fault,
			"the running ftpgate (pid 77) may not", ""},
		{"a low port", 0, func(f *Facts, r *forward.Resolved) { f.Rights.BindLow, r.Listen.Port = false, 21 },
			CodeLowPort, finding.Fault, "listen at port 21: below 1024", "higher port"},
		{"a low port for everybody", 0, func(f *Facts, r *forward.Resolved) {
			f.Rights.BindLow, r.Listen.Port, f.Sysctls[sysctlLowest] = false, 21, "21"
		}, CodeListen, finding.OK, "", ""},
		{"no nf_tables", 0, module(system.Found{Name: "nf_tables", State: system.ModuleMissing}), CodeModules,
			finding.Warning, "the kernel has no nf_tables, which the kernel's data path needs",
			"kernel-modules-extra"},
		{"no nf_tables, needed", none, module(system.Found{Name: "nf_tables", State: system.ModuleMissing}),
			CodeModules, finding.Fault, "no nf_tables", ""},
		{"no nf_tables, relayed", 0, both(relayed,
			module(system.Found{Name: "nf_tables", State: system.ModuleMissing})), CodeListen, finding.OK, "",
			""},
		{"no helper", kernel, module(system.Found{Name: "nf_nat_ftp", State: system.ModuleMissing}),
			CodeModules, finding.Fault, `nf_nat_ftp, which tracking kernel ("archive") needs`, ""},
		{"no helper, not needed", 0, module(system.Found{Name: "nf_nat_ftp", State: system.ModuleMissing}),
			CodeModules, finding.OK, "", ""},
		{"a helper to be loaded", kernel, module(system.Found{Name: "nf_nat_ftp", State: system.ModuleMissing,
			Loadable: true}), CodeModules, finding.Info, "ftpgate loads it when it starts", ""},
		{"a helper that may be there", kernel,
			module(system.Found{Name: "nf_nat_ftp", State: system.ModuleUnknown}), CodeModules, finding.Info,
			"cannot tell whether the kernel has", ""},
		{"few files", 0, func(f *Facts, _ *forward.Resolved) { f.Rights.OpenFiles = 1024 }, CodeOpenFiles,
			finding.Warning, "1024 open files, enough for about 480 sessions, and max_sessions allows 20000",
			"LimitNOFILE=40064"},
		{"few files for the relay", 0, both(relayed,
			func(f *Facts, r *forward.Resolved) { f.Rights.OpenFiles, r.Limits.Sessions = 1024, 500 }),
			CodeOpenFiles, finding.Warning, "about 137 sessions", "LimitNOFILE=3564"},
		{"fewer files than by default", 0, func(f *Facts, _ *forward.Resolved) { f.Rights.OpenFiles = 20000 },
			CodeOpenFiles, finding.Info, "about 9968 sessions", ""},
		{"no limit of files", 0, func(f *Facts, _ *forward.Resolved) { f.Rights.OpenFiles = 1<<64 - 1 },
			CodeOpenFiles, finding.OK, "not limited", ""},
		{"hardly a file", 0, func(f *Facts, _ *forward.Resolved) { f.Rights.OpenFiles = 16 }, CodeOpenFiles,
			finding.Warning, "about 0 sessions", ""},
		{"a table filling", 0, sysctl(sysctlCount, "209716"), CodeTable, finding.Warning,
			"80% full (209716 of 262144)", "nf_conntrack_max=524288"},
		{"a table almost filling", 0, sysctl(sysctlCount, "207000"), CodeTable, finding.OK, "78% full", ""},
		{"a full table", 0, sysctl(sysctlCount, "262144"), CodeTable, finding.Fault, "are dropped silently",
			""},
		{"a small table", 0, sysctl(sysctlMax, "8192"), CodeTableSmall, finding.Info,
			"follows 8192 connections at most, and the 20000 sessions", "nf_conntrack_max=120000"},
		{"a table too small for what is asked for", 0,
			both(sysctl(sysctlMax, "8192"), func(_ *Facts, r *forward.Resolved) { r.Limits.Sessions = 5000 }),
			CodeTableSmall, finding.Warning, "the 5000 sessions that max_sessions allows take up to 15000",
			"nf_conntrack_max=30000"},
		{"a tiny table", 0, sysctl(sysctlMax, "1024"), CodeTableSmall, finding.Warning,
			"follows 1024 connections", ""},
		{"expectations", kernel, func(f *Facts, _ *forward.Resolved) { f.Expectations = 4000 }, CodeExpected,
			finding.Warning, "expected data connections is 97% full", sysctlExpectMax},
		{"no accounting", kernel, both(running, sysctl(sysctlAcct, "0")), CodeAccounting, finding.Warning,
			"no byte counts", "nf_conntrack_acct=1"},
		{"no accounting yet", kernel, sysctl(sysctlAcct, "0"), CodeAccounting, finding.Info,
			"as long as it is", "when it starts"},
		{"no events", kernel, both(running, sysctl(sysctlEvents, "0")), CodeEvents, finding.Warning,
			"are not seen", "nf_conntrack_events=1"},
		{"older iptables", 0, func(f *Facts, _ *forward.Resolved) { f.Legacy = []string{"filter", "raw"} },
			CodeLegacy, finding.Info, "filter, raw", "iptables-legacy-save"},
		{"judged by the gateway", 0, func(f *Facts, _ *forward.Resolved) {
			f.Host = []finding.Finding{{Forward: "archive", Text: "a text", Remedy: "a remedy"}}
		}, CodeHost, finding.Fault, "a text", "a remedy"},
		{"judged of names", 0, func(f *Facts, _ *forward.Resolved) {
			f.Names = []finding.Finding{{Forward: "archive", Text: "a text", Remedy: "a remedy",
				Severity: finding.Warning}}
		}, CodeName, finding.Warning, "a text", "a remedy"},
		{"judged of tables", 0, func(f *Facts, _ *forward.Resolved) {
			f.Tables = []finding.Finding{{Text: "a text", Remedy: "a remedy", Severity: finding.Warning}}
		}, CodeTables, finding.Warning, "a text", "a remedy"},
		{"judged of TLS", 0, func(f *Facts, _ *forward.Resolved) {
			f.TLS = []finding.Finding{{Forward: "archive", Key: "tls.client_cert", Text: "a text",
				Remedy: "a remedy"}}
		}, "tls_client_cert", finding.Fault, "tls.client_cert: a text", "a remedy"},
	})
}

func TestForward(t *testing.T) {
	const kernel, none = forward.TrackingKernel, forward.TrackingNone
	running := func(f *Facts, _ *forward.Resolved) { f.Running, f.PID = true, 77 }
	listens := func(addr, who string) func(*Facts, *forward.Resolved) {
		return func(f *Facts, _ *forward.Resolved) {
			f.Listeners = append(f.Listeners,
				system.Listener{Addr: netip.MustParseAddrPort(addr), Process: who})
		}
	}
	route := func(to netip.Addr, r system.Route) func(*Facts, *forward.Resolved) {
		return func(f *Facts, _ *forward.Resolved) { f.Routes[to] = r }
	}
	wan := func(mtu int) system.Route { return system.Route{Interface: "wan0.7", Source: wan4, MTU: mtu} }
	named := func(_ *Facts, r *forward.Resolved) { r.Server.Host = "ftp.example.com" }
	strictOn := func(link string) func(*Facts, *forward.Resolved) {
		return sysctl("net.ipv4.conf."+link+".rp_filter", "1")
	}
	run(t, []provoked{
		{"taken", 0, listens("192.168.5.2:2121", "vsftpd (pid 5)"), CodeListen, finding.Fault,
			"listen 192.168.5.2:2121 is taken by vsftpd (pid 5)", "stop that program"},
		{"taken by all", 0, listens("0.0.0.0:2121", ""), CodeListen, finding.Fault,
			"taken by another program", ""},
		{"another address", 0, listens("127.0.0.1:2121", "x"), CodeListen, finding.OK, "nobody else", ""},
		{"another family", 0, listens("[::]:2121", "x"), CodeListen, finding.OK, "nobody else", ""},
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
		{"not served", 0, running, CodeNotServed, finding.Warning, "nobody listens at 192.168.5.2:2121",
			"ftpgate reload"},
		{"within the passive ports", 0, both(listens("0.0.0.0:50000", "nginx (pid 9)"),
			listens("[::]:50000", "nginx (pid 9)"), listens("127.0.0.1:50001", "x"),
			listens("0.0.0.0:49151", "x")),
			CodePassive, finding.Warning, "49152-65535: 50000 (nginx (pid 9)); a firewall",
			"other passive_ports"},
		{"many within", 0, both(listens("0.0.0.0:50000", "a"), listens("0.0.0.0:50001", "a"),
			listens("0.0.0.0:50002", "a"), listens("0.0.0.0:50003", "a"), listens("0.0.0.0:50004", "a"),
			listens("0.0.0.0:50005", "a")),
			CodePassive, finding.Warning, "50003 (a), 2 more;", ""},
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
		{"no route", 0, route(server4, system.Route{Problem: "there is none"}), CodeRoute, finding.Fault,
			"203.0.113.21 cannot be reached: there is none", "ip route get 203.0.113.21"},
		{"no route to one of two", 0, both(route(server6, system.Route{Problem: "there is none"}),
			func(_ *Facts, r *forward.Resolved) { r.Server6 = server6 }), CodeRoute, finding.Warning,
			"2001:db8:113::21", ""},
		{"a route", 0, route(server4, system.Route{Interface: "wan0.7", Gateway: wan4, Source: wan4,
			MTU: 1500}), CodeRoute, finding.OK,
			"through wan0.7 via 203.0.113.1, with packets of up to 1500 bytes", ""},
		{"a tiny MTU", 0, route(server4, wan(1000)), CodeMTU, finding.Warning,
			"1000 bytes at most, less than any network", "ip link show wan0.7"},
		{"a smaller MTU", 0, route(server4, wan(1400)), CodeMTU, finding.Warning,
			"and lan0 on the clients' side 1500", "maxseg"},
		{"a smaller MTU, relayed", 0, both(relayed, route(server4, wan(1400))), CodeMTU, finding.Info,
			"a tunnel or PPPoE", ""},
		{"no forwarding", 0, both(running, sysctl(sysctlForward4, "0"), listens("192.168.5.2:2121", "")),
			CodeForwarding, finding.Fault, "IPv4 forwarding is off, though", sysctlForward4},
		{"no forwarding yet", kernel, sysctl(sysctlForward4, "0"), CodeForwarding, finding.Info,
			"when it starts", ""},
		{"no forwarding of IPv6", none, both(running, sysctl(sysctlForward6, "0"),
			func(_ *Facts, r *forward.Resolved) { r.Server6 = server6 }), CodeForwarding, finding.Fault,
			"IPv6 forwarding is off", sysctlForward6},
		{"no forwarding of one interface", 0, sysctl("net.ipv4.conf.wan0/7.forwarding", "0"), CodeForwarding,
			finding.Fault, "off on wan0.7 alone", "net.ipv4.conf.wan0/7.forwarding=1"},
		{"no forwarding needed", 0, both(relayed, sysctl(sysctlForward4, "0")), CodeRoute, finding.OK, "",
			""},
		{"clients answered elsewhere", 0, both(strictOn("lan0"),
			route(client, system.Route{Interface: "wan0.7", MTU: 1500})), CodeReverse, finding.Fault,
			"192.168.5.0/24 that arrive on lan0 are dropped, since the way back is by wan0.7",
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
		{"a short memory", kernel, sysctl(sysctlEstablished, "600"), CodeTimeout, finding.Warning,
			"after 600 s of silence: a transfer that takes longer", "=86400"},
		{"a very short memory", 0, sysctl(sysctlEstablished, "60"), CodeTimeout, finding.Warning,
			"pauses for longer", ""},
		{"little patience", 0, func(_ *Facts, r *forward.Resolved) { r.Limits.Idle = time.Minute }, CodeIdle,
			finding.Info, "idle_time is 1m0s", "RFC 1123"},
	})
}

// refusing is a chain that refuses what it does not know.
func refusing(family, table, chain, owner string) nftforeign.InputChain {
	return nftforeign.InputChain{ForwardChain: nft.ForwardChain{Family: family, Table: table, Chain: chain,
		Owner: owner}}
}

// letting is a chain that lets ports in.
func letting(in nftforeign.InputChain, ports []forward.PortRange) nftforeign.InputChain {
	in.Ports = ports
	return in
}

// fromInterface is a chain that lets everything from an interface in.
func fromInterface(in nftforeign.InputChain, name string) nftforeign.InputChain {
	in.Interfaces = []string{name}
	return in
}

func TestForeign(t *testing.T) {
	const kernel, none = forward.TrackingKernel, forward.TrackingNone
	ports := func(first, last uint16) []forward.PortRange {
		return []forward.PortRange{{First: first,
			Last: last}}
	}
	rule := func(r nftforeign.ForeignRule) func(*Facts, *forward.Resolved) {
		r.Family, r.Table, r.Chain = "ip", "t", "c"
		if r.Hook == "" {
			r.Hook = "prerouting"
		}
		if r.Act == nftforeign.ForeignHelper {
			r.Helper = "ftp"
		}
		return func(f *Facts, _ *forward.Resolved) { f.Rules = append(f.Rules, r) }
	}
	input := func(in nftforeign.InputChain) func(*Facts, *forward.Resolved) {
		return func(f *Facts, _ *forward.Resolved) { f.Inputs = append(f.Inputs, in) }
	}
	here := ports(2121, 2121)
	run(t, []provoked{
		{"a helper too early", kernel, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignHelper,
			Priority: -300, Ports: here}), CodeHelperSoon, finding.Warning,
			`chain c of table ip t attaches the helper "ftp" at priority -300, before conntrack (-200)`,
			"remove the rule"},
		{"iptables' helper", 0, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignHelper, Template: true,
			Priority: -300, Ports: here}), CodeHelper, finding.Warning, "drops what it cannot read", ""},
		{"a helper twice", kernel, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignHelper, Priority: -150,
			Ports: here}), CodeHelper, finding.Info, "as ftpgate does itself", ""},
		{"a helper after translation", none, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignHelper,
			Priority: 0, Ports: ports(21, 21)}), CodeSequence, finding.Warning, "after translation (-100)",
			"tracking = \"kernel\""},
		{"a helper after translation, of a proxy", 0,
			rule(nftforeign.ForeignRule{Act: nftforeign.ForeignHelper, Priority: 0, Ports: here}), CodeHelper,
			finding.Warning, "drops what it cannot read", ""},
		{"a helper to the server", 0, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignHelper,
			Hook: "output", Priority: 0, Ports: ports(21, 21)}), CodeHelper, finding.Warning,
			"connections to the server", ""},
		{"a helper elsewhere", 0, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignHelper, Priority: -150,
			Ports: ports(2122, 2122)}), CodeRoute, finding.OK, "", ""},
		{"a helper of some address", 0, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignHelper,
			Priority: -150, To: wan4, Ports: here}), CodeRoute, finding.OK, "", ""},
		{"a helper by itself", 0, sysctl(sysctlHelper, "1"), CodeHelperAuto, finding.Warning,
			"every connection to port 21", "nf_conntrack_helper=0"},
		{"a synproxy", kernel, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignSynProxy, Ports: here}),
			CodeSequence, finding.Warning, "has a synproxy at port 2121", "proxy"},
		{"untracked", none, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignNoTrack, Priority: -300,
			Ports: here}), CodeUntracked, finding.Fault,
			"keeps the kernel from tracking the forward's connections", "from that rule"},
		{"untracked, of some", none, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignNoTrack,
			Priority: -300, Ports: here, Narrow: true}), CodeUntracked, finding.Warning, "", ""},
		{"untracked data", 0, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignNoTrack, Priority: -300,
			Ports: ports(50000, 50010)}), CodeUntracked, finding.Fault, "data connections", ""},
		{"untracked control of a proxy", 0, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignNoTrack,
			Priority: -300, Ports: here}), CodeRoute, finding.OK, "", ""},
		{"untracked, of something", none, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignNoTrack,
			Priority: -300, Narrow: true}), CodeRoute, finding.OK, "", ""},
		{"everything untracked", kernel, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignNoTrack,
			Priority: -300}), CodeUntracked, finding.Fault, "", ""},
		{"translated", 0, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignDNAT, Owner: "docker",
			Priority: -100, Ports: here}), CodeElsewhere, finding.Fault,
			"Docker's chain c of table ip t sends connections to port 2121 elsewhere",
			"publish another port"},
		{"translated, of some", kernel, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignDNAT,
			Priority: -100, Ports: here, Narrow: true}), CodeElsewhere, finding.Warning, "port 2121", ""},
		{"translated, of one address", kernel,
			both(rule(nftforeign.ForeignRule{Act: nftforeign.ForeignDNAT, Priority: -100, To: wan4,
				Ports: here}), func(_ *Facts, r *forward.Resolved) { r.Listen.Addr = netip.Addr{} }),
			CodeElsewhere, finding.Warning, "port 2121", ""},
		{"data translated", 0, rule(nftforeign.ForeignRule{Act: nftforeign.ForeignDNAT, Priority: -100,
			Ports: ports(50000, 50000)}), CodeElsewhere, finding.Warning, "within 49152-65535", ""},
		{"input refused", 0, input(letting(refusing("inet", "firewalld", "filter_INPUT", "firewalld"),
			ports(22, 22))), CodeInput, finding.Warning,
			"firewalld's chain filter_INPUT of table inet firewalld refuses what it does not know, and no " +
				"rule of it lets port 2121 in", "--add-port=2121/tcp"},
		{"input refused by ufw", 0, input(refusing("ip", "filter", "INPUT", "ufw")), CodeInput,
			finding.Warning, "ufw's", "ufw allow 2121/tcp"},
		{"input refused by iptables", 0, input(refusing("ip", "filter", "INPUT", "")), CodeInput,
			finding.Warning, "", "iptables -I INPUT -p tcp --dport 2121 -j ACCEPT"},
		{"relayed data refused", 0, both(relayed, input(letting(refusing("inet", "f", "i", ""), here))),
			CodeInput, finding.Warning, "the passive ports 49152-65535",
			"nft insert rule inet f i tcp dport 49152-65535 accept"},
		{"input open", 0, input(letting(refusing("inet", "f", "i", ""), here)), CodeRoute, finding.OK, "",
			""},
		{"the clients' interface open", 0, input(fromInterface(refusing("inet", "f", "i", ""), "lan0")),
			CodeRoute, finding.OK, "", ""},
		{"input of the other family", 0, input(refusing("ip6", "f", "i", "")), CodeRoute, finding.OK, "", ""},
		{"input, and no proxy", kernel, input(refusing("inet", "f", "i", "")), CodeRoute, finding.OK, "", ""},
	})
}

func TestExpiry(t *testing.T) {
	facts := sound()
	facts.Expiries = []tlskeys.Expiry{
		{Forwards: []string{"archive"}, File: "/a.pem", NotAfter: facts.Now.Add(100 * 24 * time.Hour)},
		{Forwards: []string{"archive"}, File: "/b.pem", NotAfter: facts.Now.Add(10 * 24 * time.Hour)},
	}
	facts.TLS = []finding.Finding{{Forward: "archive", Key: "tls.client_cert", Severity: finding.Warning,
		Remedy: "renew",
		Text:   "the certificate in /b.pem expires on 2030-01-11, in 10 days"}}
	got := Examine(facts, []forward.Resolved{testForward(forward.TrackingProxy)})
	valid := slices.DeleteFunc(slices.Clone(got), func(f finding.Finding) bool { return f.Code != CodeValid })
	want := []finding.Finding{{Code: CodeValid, Severity: finding.OK, Forward: "archive",
		Text: "the certificate in /a.pem is good until 2030-04-11, for 100 days more"}}
	if !slices.Equal(valid, want) || len(bad(got)) != 1 {
		t.Errorf("got %+v, and %+v; want %+v, and one warning", valid, bad(got), want)
	}
}

// Every code is snake_case and no two are the same; the JSON has the names that are documented.
func TestJSON(t *testing.T) {
	b, err := json.Marshal(finding.Finding{Code: CodeTable, Severity: finding.Warning, Forward: "archive",
		Text: "text", Remedy: "remedy"})
	want := `{"code":"conntrack_table","level":"warning","forward":"archive","text":"text","remedy":"remedy"}`
	if err != nil || string(b) != want {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
	b, err = json.Marshal(finding.Finding{Code: CodeTable, Severity: finding.OK, Text: "text"})
	if want = `{"code":"conntrack_table","level":"ok","text":"text"}`; err != nil || string(b) != want {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
}

func TestDestinations(t *testing.T) {
	f := testForward(forward.TrackingProxy)
	f.Servers, f.Clients = []netip.Addr{server4, server6},
		append(f.Clients, netip.MustParsePrefix("10.0.0.7/32"))
	want := []netip.Addr{server4, server6, client, netip.MustParseAddr("10.0.0.7")}
	if got := Destinations([]forward.Resolved{f, f}); !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

// A table that Docker has rules in has chains that are not its own.
func TestInputBesideDocker(t *testing.T) {
	f := sound()
	f.Inputs = []nftforeign.InputChain{refusing("ip", "filter", "INPUT", "docker")}
	got := bad(Examine(f, []forward.Resolved{testForward(forward.TrackingProxy)}))
	if len(got) != 1 || got[0].Code != CodeInput ||
		!strings.HasPrefix(got[0].Text, "chain INPUT of table ip filter refuses") {
		t.Errorf("got %+v; want the chain, and not as Docker's", got)
	}
}
