package e2e

import (
	"net/netip"
	"testing"

	"ftpgate/internal/try/lab"
)

// explain tells why data connections did not come about.
func TestExplainData(t *testing.T) {
	t.Parallel()
	happen(t, passiveMishaps)
}

// listNobody asks for a listing, for which nobody comes.
func (p pair) listNobody(reply string) {
	p.t.Helper()
	p.ask("LIST", reply)
	p.ask("NOOP", "200 done")
}

// deafGateway has a filter of the gateway's own that drops what comes for a data connection, however it is carried.
func deafGateway(s *scene) {
	p := s.login()
	deaf(s.stage.t, s.Gateway(), "tcp dport 20000-20100", "input")
	deaf(s.stage.t, s.Gateway(), "ct status dnat", "forward")
	_, at := p.passive(netip.Addr{})
	tries(s.stage.t, s.Client(), at)
	dropped(s.stage.t, s.Gateway(), 2)
	p.listNobody("425 Failed to establish connection.")
}

var passiveMishaps = []mishap{
	{
		name: "nothing at all", provoke: func(s *scene) {
			p := s.login()
			p.retrieve(netip.Addr{}).complete()
			p.quit()
		},
		code: "fine", text: "nothing went wrong: 1 transfer, 0 bytes up, # down",
		line: []string{"session connected to 203.0.113.21:21 after #", "reply 220 ready", "command USER somebody", "reply 331", "command PASS (not shown)", "command PASV", "reply 227 Entering Passive Mode (203,0,113,21,", passiveHole, "answer 227 Entering Passive Mode (192,168,5,2,", "reply 150", "command QUIT", "session ended after #"}, data: []string{clientCame, "transfer RETR complete: 10#"},
		never: "fault",
	},
	{
		name: "the client's firewall drops passive ports", forward: somePorts, provoke: func(s *scene) {
			p := s.login()
			deaf(s.stage.t, s.Client(), "tcp dport 20000-20100", "output")
			_, at := p.passive(netip.Addr{})
			tries(s.stage.t, s.Client(), at)
			dropped(s.stage.t, s.Client(), 1)
			p.listNobody("425 Failed to establish connection.")
		},
		code: "client_never_connected", text: "the client never connected to 192.168.5.2:# within #",
		remedy: "see whether a firewall between it and the gateway, or a filter of the gateway's own, drops ports 20000-20100, and whether",
		line:   []string{passiveHole, "answer 227", "command LIST", "reply 425", "command NOOP"}, never: "data the",
	},
	{
		name: "the client gives up", forward: somePorts, provoke: func(s *scene) {
			p := s.login()
			deaf(s.stage.t, s.Client(), "tcp dport 20000-20100", "output")
			_, at := p.passive(netip.Addr{})
			tries(s.stage.t, s.Client(), at)
			dropped(s.stage.t, s.Client(), 2) // the second one comes after a second
			p.client.Close()
		},
		code: "client_never_connected", text: "the client never connected to 192.168.5.2:20# within 1 s", remedy: "drops ports 20000-20100",
		line: []string{passiveHole, "session ended after #"}, never: "data the",
	},
	{
		name: "the gateway's own filter drops in all hooks", only: "relay", forward: somePorts, provoke: deafGateway,
		code: "client_never_connected", text: "the client never connected to 192.168.5.2:# within 1 s", remedy: "or a filter of the gateway's own",
		line: []string{passiveHole}, never: "data the",
	},
	{
		name: "the gateway's own filter drops in all hooks", only: "kernel", forward: somePorts, provoke: deafGateway,
		code: "gateway_filter", text: "192.168.5.1 connected to 192.168.5.2:#, and the gateway's own firewall did not let the connection through",
		remedy: "ct status dnat accept", line: []string{passiveHole}, never: "data the",
	},
	{
		name: "the gateway's own filter drops what is forwarded", only: "kernel", provoke: func(s *scene) {
			p := s.login()
			deaf(s.stage.t, s.Gateway(), "ct status dnat", "forward")
			_, at := p.passive(netip.Addr{})
			s.wantNothingThrough(lab.ClientAddr4, at) // refused, with the second packet
			p.listNobody("425 Failed to establish connection.")
		},
		code: "gateway_filter", text: "192.168.5.1 connected to 192.168.5.2:#, and the gateway's own firewall did not let the connection through",
		remedy: "ct status dnat accept", line: []string{passiveHole}, never: "data the",
	},
	{
		name: "nobody comes so far", provoke: func(s *scene) { s.login().passive(netip.Addr{}) },
		code: "waiting", text: "so far the client never connected to 192.168.5.2:# within # s", remedy: "drops ports",
		line: []string{passiveHole, "answer 227"}, never: "fault",
	},
	{
		name: "nobody was to come", provoke: func(s *scene) {
			p := s.login()
			p.passive(netip.Addr{})
			p.ask("ABOR", "226 nothing to abort")
			until(s.stage.t, "the pinhole's end", func() bool { return like("closed unused", false).MatchString(s.told("explain", "1")) })
		},
		code: "fine", text: "nothing went wrong: no transfer yet", line: []string{passiveHole, "command ABOR", "reply 226"}, never: "fault",
	},
	{
		name: "the client comes too late", only: "kernel", provoke: func(s *scene) {
			p := s.login()
			_, at := p.passive(netip.Addr{})
			s.awaitNoHoles()
			s.wantNothingThrough(lab.ClientAddr4, at)
			p.listNobody("425 Failed to establish connection.")
		},
		code: "client_too_late", text: "192.168.5.1 connected to 192.168.5.2:# only 2# s after the port was announced: the pinhole had expired",
		remedy: "see what keeps the client from connecting at once", line: []string{passiveHole}, never: "data the",
	},
	{
		name: "another address of the client comes", provoke: func(s *scene) {
			addAddress(s.stage.t, s.Client(), lab.ClientLink, "192.168.5.66/24")
			p := s.login()
			_, at := p.passive(netip.Addr{})
			s.wantNothingThrough(netip.MustParseAddr("192.168.5.66"), at)
			p.listNobody("425 nobody has come")
		},
		code: "client_from_elsewhere", remedy: "keep one address for all its connections",
		text: "192.168.5.66 connected to 192.168.5.2:#, where only 192.168.5.1 may: the client's data connection comes from another address than its control connection",
		line: []string{passiveHole}, never: "data the",
	},
	{
		name: "the server does not listen where it says", provoke: func(s *scene) { s.deadEnd(s.login(), "203.0.113.21:50999") },
		code: "server_data_unreachable", text: "the server does not take data connections at 203.0.113.21:50999: connection refused",
		remedy: "open the server's passive ports for the gateway in the server's firewall",
		line:   []string{"pinhole opened by the @ in #: 192.168.5.1 may connect to 192.168.5.2:#, leads to 203.0.113.21:50999", "reply 425"},
	},
	{
		name: "the server's firewall drops its passive ports", provoke: func(s *scene) {
			deaf(s.stage.t, s.Server(), "tcp dport 50999", "input")
			s.deadEnd(s.login(), "203.0.113.21:50999")
		},
		code: "server_data_unreachable", text: "the server does not take data connections at 203.0.113.21:50999: no answer*",
		remedy: "open the server's passive ports", line: []string{"pinhole opened", "reply 425"},
	},
	{
		name: "the server announces a service's port", provoke: func(s *scene) {
			p := s.login()
			p.client.say("PASV")
			p.server.hear("PASV")
			p.server.say("227 Entering Passive Mode (203,0,113,21,0,22)")
			p.client.hear("425")
		},
		code: "server_low_port", text: "the server offers port 22: data connections go to ports from 1024 on only",
		remedy: "give the server passive ports from 1024 on", line: []string{"command PASV", "reply 227", "answer 425"}, never: "pinhole",
	},
	{
		name: "the server refuses PASV", provoke: func(s *scene) {
			p := s.login()
			p.client.say("PASV")
			p.server.hear("PASV")
			p.server.say("502 no passive mode here")
			p.server.hear("EPSV")
			p.server.say("502 nor that")
			p.client.hear("502")
		},
		code: "server_refused_pasv", text: "the server refused PASV, so that passive mode is not possible: 502 nor that", remedy: "use active mode",
		line: []string{"command PASV", "reply 502 no passive", "ask EPSV", "reply 502 nor"}, never: "pinhole",
	},
	{
		name: "no port is left", forward: "passive_ports = \"50000\"\n", session: "2", provoke: func(s *scene) {
			s.login().passive(netip.Addr{})
			p := s.login()
			p.client.say("PASV")
			p.server.hear("PASV")
			p.server.say("227 ok (203,0,113,21,200,200)")
			p.client.hear("425")
		},
		code: "no_ports_left", text: "no passive port was free in 50000", remedy: "widen passive_ports",
		line: []string{"command PASV", "reply 227", "answer 425"}, never: "pinhole",
	},
}

// deadEnd has the client come for data, and the gateway not get it to where the server says; the server waits until
// that is known.
func (s *scene) deadEnd(p pair, to string) {
	s.stage.t.Helper()
	p.client.say("PASV")
	p.server.hear("PASV")
	p.server.say("227 ok (%s)", commas(netip.MustParseAddrPort(to)))
	tries(s.stage.t, s.Client(), hostPort(s.stage.t, p.client.hear("227")))
	s.awaitSession("what keeps the data", func(one seen) bool { return one.Verdict.Code == "waiting" })
	p.listNobody("425 nobody has come")
}
