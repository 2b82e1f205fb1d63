package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// soundHost is a gateway between two networks, with nothing in the way.
func soundHost() facts.Facts {
	return facts.Facts{
		Addresses:  addrs("127.0.0.1", "192.168.5.2", "203.0.113.1", "::1", "2001:db8:5::2", "fe80::2%lan0"),
		Interfaces: []string{"lan0", "lo", "wan0"},
	}
}

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, s := range texts {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}

// testForward is one with kernel tracking; changes are made to it.
func testForward(listen, server string, changes ...func(*forward.Resolved)) forward.Resolved {
	f := rulesettest.Forward("main", listen, server, forward.TrackingKernel)
	for _, change := range changes {
		change(&f)
	}
	return f
}

func on(iface string) func(*forward.Resolved) {
	return func(f *forward.Resolved) { f.Listen.Interface = iface }
}

func reaches(a string) func(*forward.Resolved) {
	return func(f *forward.Resolved) {
		if addr := netip.MustParseAddr(a); addr.Is4() {
			f.Server4 = addr
		} else {
			f.Server6 = addr
		}
	}
}

// untracked makes it tracking none, with the server's passive ports.
func untracked(ports string, clients ...string) func(*forward.Resolved) {
	return func(f *forward.Resolved) {
		f.Tracking = forward.TrackingNone
		var err error
		if f.ServerPorts, err = forward.ParsePortRange(ports); err != nil {
			panic(err)
		}
		for _, c := range clients {
			f.Clients = append(f.Clients, netip.MustParsePrefix(c))
		}
	}
}

func listener(addr, who string) system.Listener {
	return system.Listener{Addr: netip.MustParseAddrPort(addr), Process: who}
}

func dual(port int, who string) system.Listener {
	return system.Listener{Addr: netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)), Dual: true,
		Process: who}
}

// wantFindings compares the findings as an operator reads them; warnings are marked.
func wantFindings(t *testing.T, got []finding.Finding, want ...string) {
	t.Helper()
	var texts []string
	for _, f := range got {
		s := f.String()
		if !f.IsFault() {
			s = "warning: " + s
		}
		texts = append(texts, s)
	}
	if !slices.Equal(texts, want) {
		t.Errorf("got\n%s\nwant\n%s", lines(texts), lines(want))
	}
}

func lines(texts []string) string {
	s := ""
	for _, t := range texts {
		s += "  " + t + "\n"
	}
	return s
}

func TestCheckSound(t *testing.T) {
	found := soundHost()
	found.Listeners = []system.Listener{
		listener("192.168.5.2:22", "sshd (pid 1)"),
		listener("203.0.113.1:2121", "vsftpd (pid 2)"), // another address
		listener("127.0.0.1:2121", "vsftpd (pid 3)"),   // stays on the host, where nothing is translated
		listener("[::1]:2121", "vsftpd (pid 3)"),
		listener("[::]:2121", "vsftpd (pid 4)"),         // IPv6 only
		listener("192.168.5.2:50200", "other (pid 5)"),  // behind the passive ports
		listener("127.0.0.1:50001", "resolver (pid 6)"), // within, but on the host
	}
	found.Others = []facts.Other{{Table: "ftpgate-x", PID: 7, Listens: []forward.Listen{
		{Addr: netip.MustParseAddr("192.168.5.2"), Port: 2122},
		{Addr: netip.MustParseAddr("203.0.113.1"), Port: 2121},
		{Port: 2123, Interface: "wan0"},
	}}}
	wantFindings(t, Check(found, []forward.Resolved{
		testForward("192.168.5.2:2121", "203.0.113.21"),
		testForward(":2123", "203.0.113.21", on("lan0")),
		testForward("192.168.5.2:2124", "203.0.113.21", untracked("50000-50100")),
		testForward("[2001:db8:5::2]:2125", "2001:db8:113::21"),
	}))
	wantFindings(t, Check(found, nil))
}

func TestCheckAddress(t *testing.T) {
	const elsewhere = `forward "main": listen 192.168.9.9:2121: 192.168.9.9 is not an address of this ` +
		`host: ` +
		`give it to an interface (ip addr add 192.168.9.9/32 dev ...), or listen on `
	bare := facts.Facts{Addresses: addrs("127.0.0.1"), Interfaces: []string{"lo"}}
	many := soundHost()
	for i := range 100 {
		many.Addresses = append(many.Addresses, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	for _, tt := range []struct {
		facts   facts.Facts
		forward forward.Resolved
		want    []string
	}{
		{soundHost(), testForward("192.168.9.9:2121", "203.0.113.21"),
			[]string{elsewhere + "192.168.5.2, 203.0.113.1"}},
		{bare, testForward("192.168.9.9:2121", "203.0.113.21"), []string{elsewhere + ":2121"}},
		{many, testForward("192.168.9.9:2121", "203.0.113.21"), []string{elsewhere +
			"192.168.5.2, 203.0.113.1, 10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5 (there " +
			"are 94 more)"}},
		{soundHost(), testForward("[2001:db8:9::9]:2121", "2001:db8:113::21"), []string{
			`forward "main": listen [2001:db8:9::9]:2121: 2001:db8:9::9 is not an address of this host: ` +
				`give it to an interface (ip addr add 2001:db8:9::9/128 dev ...), or listen on ` +
				`2001:db8:5::2`}},
		{soundHost(), testForward("127.0.0.1:2121", "203.0.113.21"), []string{
			`forward "main": listen 127.0.0.1:2121: a loopback address cannot be reached from outside: ` +
				`listen on 192.168.5.2, 203.0.113.1`}},
		// not on an interface, and no use if it were
		{soundHost(), testForward("127.0.0.2:2121", "203.0.113.21"), []string{
			`forward "main": listen 127.0.0.2:2121: a loopback address cannot be reached from outside: ` +
				`listen on 192.168.5.2, 203.0.113.1`}},
		{soundHost(), testForward(":2121", "203.0.113.21", on("lan9")), []string{
			`forward "main": interface "lan9" does not exist: name one of lan0, lo, wan0`}},
		// everything at once
		{soundHost(), testForward("192.168.9.9:2121", "203.0.113.1", on("lan9")), []string{
			`forward "main": listen 192.168.9.9:2121 on lan9: 192.168.9.9 is not an address of this host: ` +
				`give it to an interface (ip addr add 192.168.9.9/32 dev ...), or listen on 192.168.5.2, ` +
				`203.0.113.1`,
			`forward "main": interface "lan9" does not exist: name one of lan0, lo, wan0`,
			`forward "main": server 203.0.113.1:21 is this gateway itself (203.0.113.1): name the FTP ` +
				`server; one that runs on the gateway needs no forward`}},
	} {
		wantFindings(t, Check(tt.facts, []forward.Resolved{tt.forward}), tt.want...)
	}
}

func TestCheckListeners(t *testing.T) {
	for _, tt := range []struct {
		listener system.Listener
		forward  forward.Resolved
		taken    bool
	}{
		{listener("192.168.5.2:2121", ""), testForward("192.168.5.2:2121", "203.0.113.21"), true},
		{listener("192.168.5.2:2122", ""), testForward("192.168.5.2:2121", "203.0.113.21"), false},
		{listener("203.0.113.1:2121", ""), testForward("192.168.5.2:2121", "203.0.113.21"), false},
		{listener("0.0.0.0:2121", ""), testForward("192.168.5.2:2121", "203.0.113.21"), true},
		{listener("[::]:2121", ""), testForward("192.168.5.2:2121", "203.0.113.21"), false},
		{dual(2121, ""), testForward("192.168.5.2:2121", "203.0.113.21"), true},
		{dual(2121, ""), testForward("[2001:db8:5::2]:2121", "2001:db8:113::21"), true},
		{listener("[::]:2121", ""), testForward("[2001:db8:5::2]:2121", "2001:db8:113::21"), true},
		{listener("0.0.0.0:2121", ""), testForward("[2001:db8:5::2]:2121", "2001:db8:113::21"), false},
		{listener("[fe80::2%lan0]:2121", ""), testForward("[2001:db8:5::2]:2121", "2001:db8:113::21"), false},
		{listener("127.0.0.1:2121", ""), testForward(":2121", "203.0.113.21"), false},
		{listener("[::1]:2121", ""), testForward(":2121", "2001:db8:113::21"), false},
		// A forward at every address takes those of the families that it has a server for.
		{listener("192.168.5.2:2121", ""), testForward(":2121", "203.0.113.21"), true},
		{listener("192.168.5.2:2121", ""), testForward(":2121", "2001:db8:113::21"), false},
		{listener("[2001:db8:5::2]:2121", ""), testForward(":2121", "203.0.113.21"), false},
		{listener("[2001:db8:5::2]:2121", ""),
			testForward(":2121", "203.0.113.21", reaches("2001:db8:113::21")), true},
		{dual(2121, ""), testForward(":2121", "203.0.113.21"), true},
	} {
		found := soundHost()
		found.Listeners = []system.Listener{tt.listener}
		var want []string
		if tt.taken {
			want = []string{fmt.Sprintf(`forward "main": listen %s is in use by another program: `+
				`stop that program or let it listen elsewhere, or choose another port`, tt.forward.Listen)}
		}
		t.Run(fmt.Sprintf("%s against %s", tt.forward.Listen, tt.listener.Addr), func(t *testing.T) {
			wantFindings(t, Check(found, []forward.Resolved{tt.forward}), want...)
		})
	}
	found := soundHost()
	found.Listeners = []system.Listener{listener("192.168.5.2:2121", "vsftpd (pid 7)"),
		dual(2121, "other (pid 8)")}
	wantFindings(t, Check(found, []forward.Resolved{testForward("192.168.5.2:2121", "203.0.113.21")}),
		`forward "main": listen 192.168.5.2:2121 is in use by vsftpd (pid 7): stop that program or let it `+
			`listen elsewhere, or choose another port`)
}

func TestCheckOtherGateways(t *testing.T) {
	at := func(running bool, pid int, listen forward.Listen) facts.Facts {
		found := soundHost()
		found.Others = []facts.Other{{Table: "ftpgate-any-2121", Running: running, PID: pid,
			Listens: []forward.Listen{{Port: 990}, listen}}}
		return found
	}
	const remedy = "stop that one, or choose another address or port"
	wantFindings(t, Check(at(true, 4711, forward.Listen{Port: 2121}),
		[]forward.Resolved{testForward("192.168.5.2:2121", "203.0.113.21")}),
		`forward "main": listen 192.168.5.2:2121 is published by another running ftpgate (pid 4711, table `+
			`inet ftpgate-any-2121) as :2121: `+remedy)
	wantFindings(t, Check(at(true, 0, forward.Listen{Port: 2121, Interface: "lan0"}),
		[]forward.Resolved{testForward(":2121", "203.0.113.21")}),
		`forward "main": listen :2121 is published by another running ftpgate (table inet `+
			`ftpgate-any-2121) as :2121 on lan0: `+remedy)
	wantFindings(t, Check(at(false, 0, forward.Listen{Port: 2121}),
		[]forward.Resolved{testForward("192.168.5.2:2121", "203.0.113.21")}),
		`forward "main": listen 192.168.5.2:2121 is published by table inet ftpgate-any-2121 as :2121, `+
			`which an ftpgate has left: `+
			`start that one again, or remove its table: nft delete table inet ftpgate-any-2121`)
	wantFindings(t, Check(at(true, 1, forward.Listen{Port: 2121, Interface: "lan0"}),
		[]forward.Resolved{testForward(":2121", "203.0.113.21", on("wan0"))}))
}

func TestCheckLoop(t *testing.T) {
	const remedy = "name the FTP server; one that runs on the gateway needs no forward"
	byName := func(a ...string) forward.Resolved {
		f := testForward(":2121", "ftp.example.com")
		for _, addr := range a {
			reaches(addr)(&f)
		}
		return f
	}
	for _, tt := range []struct {
		forward forward.Resolved
		want    []string
	}{
		{testForward("192.168.5.2:2121", "192.168.5.2:21"),
			[]string{`forward "main": server 192.168.5.2:21 is this gateway itself (192.168.5.2): ` +
				remedy}},
		{byName("203.0.113.1", "2001:db8:113::21"),
			[]string{`forward "main": server ftp.example.com:21 is this gateway itself (203.0.113.1): ` +
				remedy}},
		{byName("203.0.113.21", "::1"),
			[]string{`forward "main": server ftp.example.com:21 is this gateway itself (::1): ` + remedy}},
		{byName("127.0.1.1"),
			[]string{`forward "main": server ftp.example.com:21 is this gateway itself (127.0.1.1): ` +
				remedy}},
		// What a resolver that blocks names answers; connecting there means this host.
		{byName("0.0.0.0"),
			[]string{`forward "main": server ftp.example.com:21 is this gateway itself (0.0.0.0): ` +
				remedy}},
		{byName("203.0.113.21"), nil},
	} {
		wantFindings(t, Check(soundHost(), []forward.Resolved{tt.forward}), tt.want...)
	}
}

func TestCheckTakeover(t *testing.T) {
	const remedy = ": if that is not meant, narrow server_ports to the server's passive range, or narrow " +
		"clients"
	found := soundHost()
	found.Listeners = []system.Listener{
		listener("0.0.0.0:22", "sshd (pid 1)"),
		listener("127.0.0.1:25", "master (pid 2)"),
		listener("203.0.113.1:80", "nginx (pid 3)"),
		dual(50001, ""),
	}
	for _, tt := range []struct {
		forward forward.Resolved
		want    []string
	}{
		{testForward("192.168.5.2:2121", "203.0.113.21", untracked("50002-50100")), nil},
		{testForward("192.168.5.2:2121", "203.0.113.21", untracked("50000-50100")), []string{
			`warning: forward "main": takes over TCP ports 50000-50100 of 192.168.5.2 for every client, ` +
				`and with them the gateway's own 50001 by another program` + remedy}},
		{testForward("192.168.5.2:2121", "203.0.113.21", untracked("all", "192.168.5.0/24", "10.0.0.0/8")),
			[]string{
				`warning: forward "main": takes over every TCP port of 192.168.5.2 for clients of ` +
					`192.168.5.0/24, 10.0.0.0/8, ` +
					`and with them the gateway's own 22 by sshd (pid 1), 50001 by another program` + remedy}},
		{testForward(":2121", "203.0.113.21", untracked("all", "192.168.5.0/24"), on("wan0")), []string{
			`warning: forward "main": takes over every TCP port of every address on wan0 for clients of ` +
				`192.168.5.0/24, ` +
				`and with them the gateway's own 22 by sshd (pid 1), 80 by nginx (pid 3), 50001 by another ` +
				`program` + remedy}},
	} {
		wantFindings(t, Check(found, []forward.Resolved{tt.forward}), tt.want...)
	}
	wantFindings(t, Check(soundHost(), []forward.Resolved{ // said even where nothing is there to be lost
		testForward("192.168.5.2:2121", "203.0.113.21", untracked("all", "192.168.5.0/24"))}),
		`warning: forward "main": takes over every TCP port of 192.168.5.2 for clients of 192.168.5.0/24`+
			remedy)
}

func TestCheckRefusingChains(t *testing.T) {
	found := soundHost()
	found.Refusing = []nftforeign.Chain{
		{Family: "ip", Table: "filter", Name: "FORWARD", Owner: "docker"},
		{Family: "ip6", Table: "filter", Name: "FORWARD", Owner: "docker"},
		{Family: "ip", Table: "filter", Name: "FORWARD", Owner: "ufw"},
		{Family: "inet", Table: "firewalld", Name: "filter_FORWARD", Owner: "firewalld"},
		{Family: "ip", Table: "filter", Name: "FORWARD"},
		{Family: "inet", Table: "fw", Name: "forward"},
		{Name: "FORWARD"},
	}
	const what = " refuses by default, and may refuse forwarded FTP connections: "
	want := func(server string) []string {
		return []string{
			"warning: Docker's chain FORWARD of table ip filter" + what +
				"iptables -I DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT",
			"warning: Docker's chain FORWARD of table ip6 filter" + what +
				"ip6tables -I DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT",
			"warning: ufw's chain FORWARD of table ip filter" + what + "ufw route allow proto tcp to " +
				server,
			"warning: firewalld's chain filter_FORWARD of table inet firewalld" + what +
				"add a policy that lets the clients' zone forward to the server's " +
				"(firewall-cmd --permanent --new-policy ...), or --add-forward in a zone that has both",
			"warning: chain FORWARD of table ip filter" + what +
				"iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
			"warning: chain forward of table inet fw" + what +
				"nft insert rule inet fw forward ct status dnat accept",
			"warning: chain FORWARD of iptables-legacy" + what +
				"iptables-legacy -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
		}
	}
	v4, v6 := testForward("192.168.5.2:2121", "203.0.113.21"),
		testForward("[2001:db8:5::2]:2121", "2001:db8:113::21")
	unresolved := testForward("192.168.5.2:2122", "ftp.example.com")
	wantFindings(t, Check(found, []forward.Resolved{v4, v6}), want("203.0.113.21")...)
	wantFindings(t, Check(found, []forward.Resolved{v6, v4}), want("2001:db8:113::21")...)
	wantFindings(t, Check(found, []forward.Resolved{unresolved, v4}), want("203.0.113.21")...)
	wantFindings(t, Check(found, []forward.Resolved{unresolved}), want("ftp.example.com")...)
	wantFindings(t, Check(found, nil))
}
