package e2e

import (
	"testing"
)

// explain tells why the server could not bring data.
func TestExplainActive(t *testing.T) {
	t.Parallel()
	happen(t, activeMishaps)
}

var activeMishaps = []mishap{
	{
		name: "the server's firewall keeps it from coming", forward: somePorts, provoke: func(s *scene) {
			p := s.login()
			_, at := p.active()
			deaf(s.stage.t, s.Server(), "tcp dport 20000-20100", "output")
			tries(s.stage.t, s.Server(), at)
			dropped(s.stage.t, s.Server(), 2)
			p.listNobody("425 Can't build data connection: Connection timed out.")
		},
		code: "server_never_connected", text: "the server never connected to 203.0.113.1:# within 1 s", remedy: `drops ports 20000-20100, or set server_mode = "passive"`,
		line: []string{"command PORT 192,168,5,1,", activeHole, "ask PORT 203,0,113,1,", "reply 200", "reply 425"}, never: "data the",
	},
	{
		name: "the server refuses PORT", provoke: func(s *scene) {
			p := s.login()
			p.client.say("PORT 192,168,5,1,200,200")
			p.server.hear("PORT 203,0,113,1,")
			p.server.say("500 Illegal PORT command.")
			p.client.hear("500")
			p.ask("NOOP", "200 done")
		},
		code: "server_refused_port", text: "the server refused PORT, so that active mode is not possible: 500 Illegal PORT command.",
		remedy: `set server_mode = "passive"`, line: []string{"command PORT 192,168,5,1,200,200", "ask PORT 203,0,113,1,", "reply 500"}, never: "data the",
	},
	{
		name: "the server refuses EPRT", provoke: func(s *scene) {
			p := s.login()
			p.client.say("EPRT |1|192.168.5.1|51400|")
			p.server.hear("EPRT |1|203.0.113.1|")
			p.server.say("500 what")
			p.server.hear("PORT 203,0,113,1,")
			p.server.say("550 no active mode for you")
			p.client.hear("550")
			p.ask("NOOP", "200 done")
		},
		code: "server_refused_port", text: "the server refused EPRT, so that active mode is not possible: 550 no active mode for you",
		remedy: `set server_mode = "passive"`, line: []string{"ask EPRT |1|203.0.113.1|", "reply 500", "ask PORT 203,0,113,1,", "reply 550"}, never: "data the",
	},
	{
		name: "the client does not listen", provoke: func(s *scene) {
			p := s.login()
			p.client.say("PORT 192,168,5,1,200,200")
			s.unmet(p)
		},
		code: "client_data_unreachable", text: "the client does not take data connections at 192.168.5.1:51400: connection refused",
		remedy: "have the client use passive mode", line: []string{activeHole, "ask PORT 203,0,113,1,", "reply 425"}, data: []string{serverCame},
	},
	{
		name: "the client's firewall drops what comes", provoke: func(s *scene) {
			deaf(s.stage.t, s.Client(), "tcp dport 51400", "input")
			p := s.login()
			p.client.say("PORT 192,168,5,1,200,200")
			s.unmet(p)
		},
		code: "client_data_unreachable", text: "the client does not take data connections at 192.168.5.1:51400: no answer*",
		remedy: "have the client use passive mode", line: []string{activeHole, "reply 425"},
	},
	{
		name: "the gateway connects to both, and the client does not listen", forward: "server_mode = \"passive\"\n", provoke: func(s *scene) {
			p := s.login()
			p.client.say("PORT 192,168,5,1,200,200")
			p.server.hear("PASV")
			data := listen(s.stage.t, s.Server(), "203.0.113.21:50998")
			p.server.say("227 ok (203,0,113,21,199,54)")
			p.client.hear("200")
			p.client.say("LIST")
			p.server.hear("LIST")
			broken(s.stage.t, "the server", accept(s.stage.t, data))
			p.server.say("426 broken")
			p.client.hear("426")
		},
		code: "client_data_unreachable", text: "the client does not take data connections at 192.168.5.1:51400: connection refused",
		remedy: "have the client use passive mode",
		line:   []string{"command PORT", "ask PASV", "reply 227", "command LIST", "pinhole the gateway connects to 203.0.113.21:50998 for the server and to 192.168.5.1 for the client itself (relay)"}, never: "data both",
	},
	{
		name: "PORT to a third host", provoke: refusing("PORT 192,168,5,77,200,200", "504"),
		code: "third_party_port", text: "the client's PORT names another address than its own, 192.168.5.1: refused",
		remedy: "have the client use passive mode", line: []string{"command PORT 192,168,5,77,200,200", "answer 504"}, never: "pinhole",
	},
	{
		name: "EPRT to a third host", provoke: refusing("EPRT |1|203.0.113.21|51400|", "504"),
		code: "third_party_port", text: "the client's EPRT names another address than its own, 192.168.5.1: refused",
		remedy: "have the client use passive mode", line: []string{"command EPRT |1|203.0.113.21|51400|", "answer 504"}, never: "pinhole",
	},
	{
		name: "PORT to a service", provoke: refusing("PORT 192,168,5,1,0,80", "504"),
		code: "low_port", text: "PORT was refused: data connections go to ports from 1024 on only", remedy: "have the client listen at ports from 1024 on",
		line: []string{"command PORT 192,168,5,1,0,80", "answer 504"}, never: "pinhole",
	},
	{
		name: "EPRT of the other family", provoke: refusing("EPRT |2|2001:db8:5::1|51400|", "522"),
		code: "family", text: "EPRT was refused: network protocol not supported, use (1)", remedy: "most clients try the other way by themselves",
		line: []string{"command EPRT |2|2001:db8:5::1|51400|", "answer 522"}, never: "pinhole",
	},
	{
		name: "EPSV ALL is not kept to", provoke: func(s *scene) {
			p := s.login()
			p.client.say("EPSV ALL")
			p.client.hear("200")
			p.client.say("PASV")
			p.client.hear("501")
		},
		code: "command_refused", text: "PASV was refused: PASV is not allowed after EPSV ALL",
		line: []string{"command EPSV ALL", "answer 200", "command PASV", "answer 501"}, never: "pinhole",
	},
	{
		name: "a transfer without a data connection", provoke: refusing("RETR file", "425"),
		code: "command_refused", text: "RETR was refused: no data connection: send PASV, EPSV, PORT or EPRT first",
		line: []string{"command RETR file", "answer 425"}, never: "pinhole",
	},
	{
		name: "IPv6 that the kernel cannot translate", only: "kernel", forward: "data = \"kernel\"\nlisten = \":2121\"\n", provoke: func(s *scene) {
			s.dial = gateway6
			p := s.login()
			p.client.say("EPSV")
			p.server.hear("PASV")
			p.server.say("227 ok (203,0,113,21,200,200)")
			p.client.hear("425")
		},
		code: "no_data_path", text: "no data connection was possible: gateway: data kernel cannot carry * one end has IPv4 and the other IPv6", remedy: `data = "auto"`,
		line: []string{"command EPSV", "ask PASV", "reply 227", "answer 425"}, never: "pinhole",
	},
}

// unmet has the server come for data, and the gateway not get it to where the client says; the server waits until
// that is known.
func (s *scene) unmet(p pair) {
	s.stage.t.Helper()
	at := hostPort(s.stage.t, p.server.hear("PORT"))
	p.server.say("200 fine")
	p.client.hear("200")
	tries(s.stage.t, s.Server(), at)
	s.awaitSession("what keeps the data", func(one seen) bool { return one.Verdict.Code == "waiting" })
	p.listNobody("425 nobody has taken it")
}

// refusing has the client send a command that the server never hears of.
func refusing(command, code string) func(*scene) {
	return func(s *scene) {
		p := s.login()
		p.client.say("%s", command)
		p.client.hear(code)
		p.stillThere()
	}
}
