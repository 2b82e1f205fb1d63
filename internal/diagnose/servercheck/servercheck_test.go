package servercheck

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

func TestSoundServer(t *testing.T) {
	p := &peer{}
	found := run(t, p.start(t), options())
	expect(t, found,
		wanted{CodeConnect, finding.OK, "accepted the connection after"},
		wanted{CodeGreeting, finding.OK, `220 "ready"`},
		wanted{CodeFeatures, finding.OK, "EPSV"},
		wanted{CodeLogin, finding.OK, `login as "kim" works`},
		wanted{CodePasvAddress, finding.OK, "clients will get the 227 with the gateway's address"},
		wanted{CodePasv, finding.OK, "a listing of 46 bytes came over PASV"},
		wanted{CodeEpsv, finding.OK, "a listing of 46 bytes came over EPSV"},
		wanted{CodePorts, finding.OK, "the 8 passive ports"},
		wanted{CodePort, finding.OK, "a listing of 46 bytes came over PORT from 127.0.0.1:"},
		wanted{CodeEprt, finding.OK, "a listing of 46 bytes came over EPRT from 127.0.0.1:"},
		wanted{CodeAuth, finding.OK, "does not accept AUTH TLS"},
	)
	allowed := []string{"USER", "PASS", "FEAT", "AUTH", "PASV", "EPSV", "PORT", "EPRT", "LIST", "QUIT"}
	for _, c := range p.commands() {
		if verb, _, _ := strings.Cut(c, " "); !slices.Contains(allowed, verb) {
			t.Errorf("the server heard %q", c)
		}
	}
	if c := p.commands(); c[len(c)-1] != "QUIT" {
		t.Errorf("the last command is %q; want QUIT", c[len(c)-1])
	}
}

func TestAnonymous(t *testing.T) {
	p := &peer{}
	o := options()
	o.User, o.Password, o.Active = "", "", false
	expect(t, run(t, p.start(t), o), wanted{CodeLogin, finding.OK, "login as anonymous works"},
		wanted{CodePort, finding.Info, "active mode not tested"})
	for _, c := range p.commands() {
		if strings.HasPrefix(c, "PORT") || strings.HasPrefix(c, "EPRT") {
			t.Errorf("the server heard %q, and no address for it was given", c)
		}
	}
	if !slices.Contains(p.commands(), "PASS "+anonymousPassword) {
		t.Errorf("got %q; want PASS with an address of mail", p.commands())
	}
}

// behaviour is a server in clear that differs from a sound one, and the findings.
type behaviour struct {
	peer *peer
	want []wanted
}

func runBehaviours(t *testing.T, cases map[string]behaviour) {
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, run(t, c.peer.start(t), options()), c.want...)
		})
	}
}

func TestControlBehaviour(t *testing.T) {
	t.Parallel()
	runBehaviours(t, map[string]behaviour{
		"login refused": {&peer{answer: answers{"PASS": always("530 Login incorrect.")}},
			[]wanted{{CodeLogin, finding.Fault,
				`refuses the user "kim" with this password: 530 "Login incorrect."`}}},
		"user refused": {&peer{answer: answers{"USER": always("530 Permission denied.")}},
			[]wanted{{CodeLogin, finding.Fault, `does not accept the user "kim"`}}},
		"login now not": {&peer{answer: answers{"PASS": always("451 database is down")}},
			[]wanted{{CodeLogin, finding.Fault, "now"}}},
		"no password wanted": {&peer{answer: answers{"USER": always("230 come in")}},
			[]wanted{{CodeLogin, finding.OK, "come in"}}},
		"password echoed": {&peer{answer: answers{"PASS": func(_ *client, arg string) string {
			return "530 not \"" + arg + "\""
		}}},
			[]wanted{{CodeLogin, finding.Fault, "530 (a text with the password in it)"}}},
		"terminal sequences": {&peer{greeting: "220 \x1b[2J\x07 \"hi\""},
			[]wanted{{CodeGreeting, finding.OK, `220 "?[2J? 'hi'"`}}},
	})
}

func TestDataBehaviour(t *testing.T) {
	t.Parallel()
	runBehaviours(t, map[string]behaviour{
		"no EPSV": {&peer{answer: answers{"EPSV": always("500 what?")}},
			[]wanted{{CodeEpsv, finding.OK, "the gateway sends it PASV instead"}}},
		"no PASV": {&peer{answer: answers{"PASV": always("502 no")}},
			[]wanted{{CodePasv, finding.OK, "the gateway sends it EPSV instead"}}},
		"foreign address": {&peer{named: netip.MustParseAddr("10.0.0.5")},
			[]wanted{{CodePasvAddress, finding.Info,
				"clients will get the 227 with the gateway's address; the one that the server names, " +
					"10.0.0.5 (another private address), is not used"}}},
		"no address": {&peer{named: netip.IPv4Unspecified()},
			[]wanted{{CodePasvAddress, finding.Info, "0.0.0.0 (no address at all)"}}},
		"passive ports closed": {&peer{closed: true},
			[]wanted{{CodePasv, finding.Fault, "refused the connection"},
				{CodeEpsv, finding.Fault, "refused the connection"}}},
		"PASV without sense": {&peer{answer: answers{"PASV": always("227 somewhere")}},
			[]wanted{{CodePasv, finding.Warning, "cannot parse the reply"}}},
		"low passive port": {&peer{answer: answers{"PASV": always("227 ok (127,0,0,1,0,22)")}},
			[]wanted{{CodePasv, finding.Warning, "port 22"}}},
		"active refused": {&peer{answer: answers{"PORT": always("500 Illegal PORT command."),
			"EPRT": always("500 Illegal EPRT command.")}},
			[]wanted{{CodePort, finding.Warning, "refuses PORT to 127.0.0.1:"},
				{CodeEprt, finding.Warning, "refuses EPRT to 127.0.0.1:"}}},
		"no EPRT": {&peer{answer: answers{"EPRT": always("500 what?")}},
			[]wanted{{CodeEprt, finding.OK, "PORT does the same"}}},
		"active from another address": {&peer{from: netip.MustParseAddr("127.0.0.2")},
			[]wanted{{CodePort, finding.Warning,
				"a connection comes from 127.0.0.2 instead of 127.0.0.1"},
				{CodeEprt, finding.Warning, "127.0.0.2"}}},
		"listing refused": {&peer{answer: answers{"LIST": always("550 Permission denied.")}},
			[]wanted{{CodePasv, finding.Info, "was connected to"},
				{CodeEpsv, finding.Info, "refuses the listing"},
				{CodePort, finding.Info, "refuses the listing"}}},
		"listing broken": {&peer{answer: answers{"LIST": always("451 disk error")}},
			[]wanted{{CodePasv, finding.Fault, "broke off after 0 bytes"}, {CodeEpsv, finding.Fault, ""},
				{CodePort, finding.Warning, "broke off"}, {CodeEprt, finding.Warning, ""}}},
	})
}

func TestSessionBehaviour(t *testing.T) {
	t.Parallel()
	runBehaviours(t, map[string]behaviour{
		"FEAT after the login only": {&peer{answer: answers{"FEAT": afterLogin()}},
			[]wanted{{CodeFeatures, finding.OK, "MDTM"}}},
		"full": {&peer{greeting: "421 Too many users"},
			[]wanted{{CodeGreeting, finding.Fault, "accepts no more sessions"}}},
		"mail": {&peer{greeting: "220 mail.example.com ESMTP"},
			[]wanted{{CodeGreeting, finding.Fault, "mail server"}}},
		"third code": {&peer{greeting: "530 go away"},
			[]wanted{{CodeGreeting, finding.Fault, "does not accept this host"}}},
		"greeting after 120": {&peer{greeting: "120 wait\r\n220 now"},
			[]wanted{{CodeGreeting, finding.OK, "now"}}},
		"closes after LIST": {&peer{answer: answers{"LIST": func(c *client, _ string) string {
			c.conn.Close()
			return ""
		}}},
			[]wanted{{CodePasv, finding.Fault, "closes the control connection"},
				{CodeEpsv, finding.Fault, ""}, {CodePort, finding.Warning, ""},
				{CodeEprt, finding.Warning, ""}}},
	})
}

// afterLogin answers FEAT with 530 the first time.
func afterLogin() func(*client, string) string {
	asked := map[*client]bool{}
	return func(c *client, _ string) string {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !asked[c] {
			asked[c] = true
			return "530 log in first"
		}
		return "211-Features:\r\n MDTM\r\n211 End"
	}
}

func TestRefusedConnection(t *testing.T) {
	p := &peer{}
	f := p.start(t)
	p.listener.Close()
	expect(t, run(t, f, options()), wanted{CodeConnect, finding.Fault, "refused the connection after"})
}

// TestSeveralAddresses has an address where no program listens besides a sound one.
func TestSeveralAddresses(t *testing.T) {
	p := &peer{}
	f := p.start(t)
	f.Servers = []netip.Addr{netip.MustParseAddr("127.0.0.9"), f.Servers[0]}
	found := run(t, f, options())
	expect(t, found, wanted{CodeConnect, finding.Warning, "127.0.0.9:"}, wanted{CodeLogin, finding.OK, ""})
	for _, f := range found {
		if !strings.HasPrefix(f.Text, "127.0.0.") {
			t.Errorf("got %q; want the address first", f.Text)
		}
	}
}

// TestIPv6 has no use for PASV and PORT.
func TestIPv6(t *testing.T) {
	server, trust := sound(t)
	p := &peer{tls: server}
	f := p.startAt(t, "[::1]:0")
	f.TLS.Server = forward.ServerTLSRequired
	o := options()
	o.Trust = trust
	expect(t, run(t, f, o), wanted{CodeEpsv, finding.OK, "a listing of 46 bytes"},
		wanted{CodeEprt, finding.OK, "EPRT from [::1]:"}, wanted{CodePorts, finding.OK, ""})
	for _, c := range p.commands() {
		if c == "PASV" || strings.HasPrefix(c, "PORT") {
			t.Errorf("the server heard %q", c)
		}
	}
}

func wholeRange(f *forward.Forward) { f.ServerPorts = forward.PortRange{First: 1024, Last: 65535} }

// TestForwards has forwards that leave a server's data connections to the client.
func TestForwards(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(*forward.Forward)
		want    []wanted
		demands bool // the server demands that data connections resume the session
	}{
		"none": {change: func(f *forward.Forward) {
			f.Tracking, f.ServerPorts = forward.TrackingNone, forward.PortRange{First: 1024, Last: 1025}
		},
			want: []wanted{{CodePasvAddress, finding.Warning, "as it is"},
				{CodePorts, finding.Fault, "outside server_ports (1024-1025)"},
				{CodePort, finding.Info, "only passive"},
				{CodeReuse, finding.Warning, "can take the files of another"}}},
		"through": {change: wholeRange,
			want: []wanted{{CodePorts, finding.OK, "within server_ports"}, {CodePort, finding.OK, ""},
				{CodeAuth, finding.OK, "clients that encrypt reach it"},
				{CodeReuse, finding.Warning, "can take the files of another"}}},
		"through, reuse demanded": {change: wholeRange, demands: true,
			want: []wanted{{CodeReuse, finding.Info, "requires data connections to resume"}}},
		"kernel": {change: func(f *forward.Forward) { f.Tracking = forward.TrackingKernel },
			want: []wanted{{CodePasvAddress, finding.OK, "kernel's helper"}}},
	} {
		t.Run(name, func(t *testing.T) {
			server, trust := sound(t)
			p := &peer{tls: server}
			if c.demands {
				server.SetSessionTicketKeys([][32]byte{{1}})
				p.data = demanding(server)
			}
			f := p.start(t)
			c.change(&f.Forward)
			if f.Tracking != forward.TrackingProxy {
				f.Server4, f.Servers = f.Servers[0], nil
			}
			o := options()
			o.Trust = trust
			expect(t, run(t, f, o), c.want...)
		})
	}
}
