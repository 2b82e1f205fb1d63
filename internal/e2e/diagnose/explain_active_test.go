package diagnose

import (
	"net/netip"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// explain names why the server brought no data.
func TestExplainActive(t *testing.T) {
	t.Parallel()
	runFailureCases(t, activeFailures)
}

var activeFailures = []failureCase{
	{
		name: "the server's firewall keeps it from coming", forward: passivePortsKey, provoke: func(s *env) {
			p := s.Login()
			_, at := p.Active()
			dropPackets(s.Testbed.T, s.Server(), "tcp dport 20000-20100", "output")
			dialInBackground(s.Testbed.T, s.Server(), at)
			awaitDropped(s.Testbed.T, s.Server(), 2)
			listWithoutData(p, "425 Can't build data connection: Connection timed out.")
		},
		code: "server_never_connected", text: "the server never connected to 203.0.113.1:# within # s",
		remedy: `drops ports 20000-20100, or set server_mode = "passive"`,
		timeline: []string{"command PORT 192,168,5,1,", activePinhole, "ask PORT 203,0,113,1,", "reply 200",
			"reply 425"}, absent: "data the",
	},
	{
		name: "the server refuses PORT", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("PORT 192,168,5,1,200,200")
			p.Server.Expect("PORT 203,0,113,1,")
			p.Server.Send("500 Illegal PORT command.")
			p.Client.Expect("500")
			p.Exchange("NOOP", "200 done")
		},
		code: "server_refused_port", text: "the server refused PORT, so that active mode is not possible: " +
			"500 Illegal PORT command.",
		remedy: `set server_mode = "passive"`, timeline: []string{"command PORT 192,168,5,1,200,200",
			"ask PORT 203,0,113,1,", "reply 500"}, absent: "data the",
	},
	{
		name: "the server refuses EPRT", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("EPRT |1|192.168.5.1|51400|")
			p.Server.Expect("EPRT |1|203.0.113.1|")
			p.Server.Send("500 what")
			p.Server.Expect("PORT 203,0,113,1,")
			p.Server.Send("550 no active mode for you")
			p.Client.Expect("550")
			p.Exchange("NOOP", "200 done")
		},
		code: "server_refused_port", text: "the server refused EPRT, so that active mode is not possible: " +
			"550 no active mode for you",
		remedy: `set server_mode = "passive"`, timeline: []string{"ask EPRT |1|203.0.113.1|", "reply 500",
			"ask PORT 203,0,113,1,", "reply 550"}, absent: "data the",
	},
	{
		name: "another address of the server comes", provoke: func(s *env) {
			harness.AddAddress(s.Testbed.T, s.Server(), lab.ServerLink, "203.0.113.66/24")
			p := s.Login()
			_, at := p.Active()
			if c, err := harness.DialFrom(s.Testbed.T, s.Server(), netip.MustParseAddr("203.0.113.66"),
				at); err == nil {
				harness.WantBroken(s.Testbed.T, "the server's other address", c)
			}
			listWithoutData(p, "425 connection refused")
		},
		code: "server_from_elsewhere", remedy: `or set server_mode = "passive"`,
		text: "203.0.113.66 connected to 203.0.113.1:#, which is reserved for 203.0.113.21: the server's " +
			"data " +
			"connection comes from another address than the gateway connects to",
		timeline: []string{activePinhole}, absent: "data the",
	},
	{
		name: "the client does not listen", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("PORT 192,168,5,1,200,200")
			s.clientPortUnreachable(p)
		},
		code:   "client_data_unreachable",
		text:   "the client does not accept data connections at 192.168.5.1:51400: connection refused",
		remedy: "have the client use passive mode", timeline: []string{activePinhole, "ask PORT 203,0,113,1,",
			"reply 425"}, anywhere: []string{serverConnected},
	},
	{
		name: "the client's firewall drops what comes", provoke: func(s *env) {
			dropPackets(s.Testbed.T, s.Client(), "tcp dport 51400", "input")
			p := s.Login()
			p.Client.Send("PORT 192,168,5,1,200,200")
			s.clientPortUnreachable(p)
		},
		code:   "client_data_unreachable",
		text:   "the client does not accept data connections at 192.168.5.1:51400: no answer*",
		remedy: "have the client use passive mode", timeline: []string{activePinhole, "reply 425"},
	},
	{
		name:    "the gateway connects to both, and the client does not listen",
		forward: "server_mode = \"passive\"\n", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("PORT 192,168,5,1,200,200")
			p.Server.Expect("PASV")
			data := harness.Listen(s.Testbed.T, s.Server(), "203.0.113.21:50998")
			p.Server.Send("227 ok (203,0,113,21,199,54)")
			p.Client.Expect("200")
			p.Client.Send("LIST")
			p.Server.Expect("LIST")
			harness.WantBroken(s.Testbed.T, "the server", harness.Accept(s.Testbed.T, data))
			p.Server.Send("426 broken")
			p.Client.Expect("426")
		},
		code:   "client_data_unreachable",
		text:   "the client does not accept data connections at 192.168.5.1:51400: connection refused",
		remedy: "have the client use passive mode",
		timeline: []string{"command PORT", "ask PASV", "reply 227", "command LIST",
			"pinhole the gateway connects to the server at 203.0.113.21:50998 " +
				"and to the client at 192.168.5.1 (relay)"}, absent: "data both",
	},
	{
		name: "PORT to a third host", provoke: refusing("PORT 192,168,5,77,200,200", "504"),
		code: "third_party_port", text: "the client's PORT names another address than its own, " +
			"192.168.5.1: refused",
		remedy: "have the client use passive mode", timeline: []string{"command PORT 192,168,5,77,200,200",
			"answer 504"}, absent: "pinhole",
	},
	{
		name: "EPRT to a third host", provoke: refusing("EPRT |1|203.0.113.21|51400|", "504"),
		code: "third_party_port", text: "the client's EPRT names another address than its own, " +
			"192.168.5.1: refused",
		remedy: "have the client use passive mode", timeline: []string{"command EPRT |1|203.0.113.21|51400|",
			"answer 504"}, absent: "pinhole",
	},
	{
		name: "PORT to a service", provoke: refusing("PORT 192,168,5,1,0,80", "504"),
		code: "low_port", text: "PORT was refused: data ports below 1024 are not allowed",
		remedy:   "have the client listen on ports from 1024 up",
		timeline: []string{"command PORT 192,168,5,1,0,80", "answer 504"}, absent: "pinhole",
	},
	{
		name: "EPRT of the other family", provoke: refusing("EPRT |2|2001:db8:5::1|51400|", "522"),
		code: "family", text: "EPRT was refused: network protocol not supported, use (1)",
		remedy:   "most clients try the other way by themselves",
		timeline: []string{"command EPRT |2|2001:db8:5::1|51400|", "answer 522"}, absent: "pinhole",
	},
	{
		name: "EPSV ALL is not kept to", forward: "server_mode = \"passive\"\n", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("EPSV ALL")
			p.Server.Expect("EPSV ALL")
			p.Server.Send("200 ok")
			p.Client.Expect("200")
			p.Client.Send("EPRT |1|192.168.5.1|51400|")
			p.Client.Expect("501")
		},
		code: "command_refused", text: "EPRT was refused: EPRT is not allowed after EPSV ALL",
		timeline: []string{"command EPSV ALL", "reply 200", "command EPRT", "answer 501"}, absent: "pinhole",
	},
	{
		name: "a transfer without a data connection", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("RETR file")
			p.Server.Expect("RETR file")
			p.Server.Send("425 use PASV first")
			p.Client.Expect("425")
		},
		code: "server_refused_transfer", text: "the server could not use the data connection for RETR: " +
			"425 use PASV first",
		remedy:   "check the logs of the server and of the client",
		timeline: []string{"command RETR file", "reply 425 use PASV first"}, absent: "pinhole",
	},
	{
		name: "IPv6 that the kernel cannot translate", path: "kernel",
		forward: "data = \"kernel\"\nlisten = \":2121\"\n", provoke: func(s *env) {
			s.Address = harness.Gateway6
			p := s.Login()
			p.Client.Send("EPSV")
			p.Server.Expect("PASV")
			p.Server.Send("227 ok (203,0,113,21,200,200)")
			p.Client.Expect("425")
		},
		code: "no_data_path", text: "the gateway could not open a data connection: data path: the kernel " +
			"cannot carry * " +
			"one end has IPv4 and the other IPv6", remedy: `data = "auto"`,
		timeline: []string{"command EPSV", "ask PASV", "reply 227", "answer 425"}, absent: "pinhole",
	},
}

// clientPortUnreachable connects from the server for data that the gateway cannot deliver to the
// client's port. The server waits until the gateway knows that.
func (s *env) clientPortUnreachable(p harness.Session) {
	s.Testbed.T.Helper()
	at := harness.ParseHostPort(s.Testbed.T, p.Server.Expect("PORT"))
	p.Server.Send("200 fine")
	p.Client.Expect("200")
	dialInBackground(s.Testbed.T, s.Server(), at)
	s.AwaitSession("what keeps the data",
		func(one harness.SessionInfo) bool { return one.Verdict.Code == "waiting" })
	listWithoutData(p, "425 not taken")
}

// refusing sends a command from the client that does not reach the server.
func refusing(command, code string) func(*env) {
	return func(s *env) {
		p := s.Login()
		p.Client.Send("%s", command)
		p.Client.Expect(code)
		p.WantAlive()
	}
}
