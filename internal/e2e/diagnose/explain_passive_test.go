package diagnose

import (
	"net/netip"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// explain names why the client got no data connection.
func TestExplainData(t *testing.T) {
	t.Parallel()
	runFailureCases(t, passiveFailures)
}

// listWithoutData asks for a listing. No data connection is made.
func listWithoutData(p harness.Session, reply string) {
	p.T.Helper()
	p.Exchange("LIST", reply)
	p.Exchange("NOOP", "200 done")
}

// gatewayDropsData makes the gateway's own filter drop data connections, on either data path.
func gatewayDropsData(s *env) {
	p := s.Login()
	dropPackets(s.Testbed.T, s.Gateway(), "tcp dport 20000-20100", "input")
	dropPackets(s.Testbed.T, s.Gateway(), "ct status dnat", "forward")
	_, at := p.Passive(netip.Addr{})
	dialInBackground(s.Testbed.T, s.Client(), at)
	awaitDropped(s.Testbed.T, s.Gateway(), 2)
	listWithoutData(p, "425 Failed to establish connection.")
}

var passiveFailures = []failureCase{
	{
		name: "nothing at all", provoke: func(s *env) {
			p := s.Login()
			p.Retrieve(netip.Addr{}).Complete()
			p.Quit()
		},
		code: "fine", text: "nothing went wrong: 1 transfer, 0 bytes up, # down",
		timeline: []string{"session connected to 203.0.113.21:21 after #", "reply 220 ready",
			"command USER alice", "reply 331", "command PASS (not shown)", "command PASV",
			"reply 227 Entering Passive Mode (203,0,113,21,", passivePinhole,
			"answer 227 Entering Passive Mode (192,168,5,2,", "reply 150", "command QUIT",
			"session ended after #"}, anywhere: []string{clientConnected,
			"transfer RETR complete: 10#"},
		absent: "fault",
	},
	{
		name: "the client's firewall drops passive ports", forward: passivePortsKey, provoke: func(s *env) {
			p := s.Login()
			dropPackets(s.Testbed.T, s.Client(), "tcp dport 20000-20100", "output")
			_, at := p.Passive(netip.Addr{})
			dialInBackground(s.Testbed.T, s.Client(), at)
			awaitDropped(s.Testbed.T, s.Client(), 1)
			listWithoutData(p, "425 Failed to establish connection.")
		},
		code: "client_never_connected", text: "the client never connected to 192.168.5.2:# within #*",
		remedy: "check whether a firewall between the client and the gateway, or the gateway's own " +
			"firewall, drops ports 20000-20100, and whether",
		timeline: []string{passivePinhole, "answer 227", "command LIST", "reply 425", "command NOOP"},
		absent:   "data the",
	},
	{
		name: "the client gives up", forward: passivePortsKey, provoke: func(s *env) {
			p := s.Login()
			dropPackets(s.Testbed.T, s.Client(), "tcp dport 20000-20100", "output")
			_, at := p.Passive(netip.Addr{})
			dialInBackground(s.Testbed.T, s.Client(), at)
			awaitDropped(s.Testbed.T, s.Client(), 2) // the second one comes after a second
			p.ClientLeaves()
		},
		code: "client_never_connected", text: "the client never connected to 192.168.5.2:20# within # s",
		remedy:   "drops ports 20000-20100",
		timeline: []string{passivePinhole, "session ended after #"}, absent: "data the",
	},
	{
		name: "the gateway's own filter drops in all hooks", path: "relay", forward: passivePortsKey,
		provoke: gatewayDropsData,
		code:    "client_never_connected", text: "the client never connected to 192.168.5.2:# within # s",
		remedy:   "or the gateway's own firewall",
		timeline: []string{passivePinhole}, absent: "data the",
	},
	{
		name: "the gateway's own filter drops in all hooks", path: "kernel", forward: passivePortsKey,
		provoke: gatewayDropsData,
		code:    "gateway_filter", text: "192.168.5.1 connected to 192.168.5.2:#, and the gateway's " +
			"own firewall did not let the connection through",
		remedy: "ct status dnat accept", timeline: []string{passivePinhole}, absent: "data the",
	},
	{
		name: "the gateway's own filter drops what is forwarded", path: "kernel", provoke: func(s *env) {
			p := s.Login()
			dropPackets(s.Testbed.T, s.Gateway(), "ct status dnat", "forward")
			_, at := p.Passive(netip.Addr{})
			dialInBackground(s.Testbed.T, s.Client(), at)
			awaitDropped(s.Testbed.T, s.Gateway(), 2)
			listWithoutData(p, "425 Failed to establish connection.")
		},
		code: "gateway_filter", text: "192.168.5.1 connected to 192.168.5.2:#, and the gateway's " +
			"own firewall did not let the connection through",
		remedy: "ct status dnat accept", timeline: []string{passivePinhole}, absent: "data the",
	},
	{
		name: "a filter of the gateway refuses by default", path: "kernel", provoke: func(s *env) {
			labtest.Need(s.Testbed.T, "nft")
			p := s.Login()
			harness.Shell(s.Testbed.T, s.Gateway(), "nft 'table ip filter { chain FORWARD { "+
				"type filter hook forward priority 0; policy drop; tcp dport 21 accept; tcp sport 21 "+
				"accept; }; }'")
			harness.Shell(s.Testbed.T, s.Gateway(), "nft 'table inet deaf { chain forward { "+
				"type filter hook forward priority -1; ct status dnat counter; }; }'")
			_, at := p.Passive(netip.Addr{})
			dialInBackground(s.Testbed.T, s.Client(), at)
			awaitDropped(s.Testbed.T, s.Gateway(), 2)
			listWithoutData(p, "425 Failed to establish connection.")
		},
		code: "gateway_filter", text: "192.168.5.1 connected to 192.168.5.2:#, and the gateway's " +
			"own firewall did not let the connection through",
		remedy: "chain FORWARD of table ip filter refuses by default: iptables -I FORWARD -m conntrack " +
			"--ctstate DNAT -j ACCEPT",
		timeline: []string{passivePinhole}, absent: "data the",
	},
	{
		name: "no peer so far", provoke: func(s *env) { s.Login().Passive(netip.Addr{}) },
		code: "waiting", text: "so far the client never connected to 192.168.5.2:# within # s",
		remedy:   "drops ports",
		timeline: []string{passivePinhole, "answer 227"}, absent: "fault",
	},
	{
		name: "no peer was expected", provoke: func(s *env) {
			p := s.Login()
			p.Passive(netip.Addr{})
			p.Exchange("ABOR", "226 nothing to abort")
			harness.Await(s.Testbed.T, "the pinhole's end", func() bool {
				return pattern("closed unused",
					false).MatchString(s.output("explain", "1"))
			})
		},
		code: "fine", text: "nothing went wrong: no transfer yet",
		timeline: []string{passivePinhole, "command ABOR", "reply 226"}, absent: "fault",
	},
	{
		name: "the client comes too late", path: "kernel", provoke: func(s *env) {
			p := s.Login()
			_, at := p.Passive(netip.Addr{})
			s.AwaitNoPinholes()
			s.WantNoData(lab.ClientAddr4, at)
			listWithoutData(p, "425 Failed to establish connection.")
		},
		code: "client_too_late", text: "192.168.5.1 connected to 192.168.5.2:# only 3# s after the " +
			"port was announced: the pinhole was closed by then",
		remedy: "find out what keeps the client from connecting at once", timeline: []string{passivePinhole},
		absent: "data the",
	},
	{
		name: "another address of the client comes", provoke: func(s *env) {
			harness.AddAddress(s.Testbed.T, s.Client(), lab.ClientLink, "192.168.5.66/24")
			p := s.Login()
			_, at := p.Passive(netip.Addr{})
			s.WantNoData(netip.MustParseAddr("192.168.5.66"), at)
			listWithoutData(p, "425 no connection")
		},
		code: "client_from_elsewhere", remedy: "use one address for all connections of a client",
		text: "192.168.5.66 connected to 192.168.5.2:#, which is reserved for 192.168.5.1: the client's " +
			"data connection comes from another address than its control connection",
		timeline: []string{passivePinhole}, absent: "data the",
	},
	{
		name:    "the server does not listen where it says",
		provoke: func(s *env) { s.serverPortUnreachable(s.Login(), "203.0.113.21:50999") },
		code:    "server_data_unreachable",
		text:    "the server does not accept data connections at 203.0.113.21:50999: connection refused",
		remedy:  "check the server's passive ports, and whether it listens as soon as it has announced one",
		timeline: []string{"pinhole opened by the @ in #: 192.168.5.1 can connect to 192.168.5.2:#; the " +
			"gateway forwards to 203.0.113.21:50999", "reply 425"},
	},
	{
		name: "the server's firewall drops its passive ports", provoke: func(s *env) {
			dropPackets(s.Testbed.T, s.Server(), "tcp dport 50999", "input")
			s.serverPortUnreachable(s.Login(), "203.0.113.21:50999")
		},
		code:   "server_data_unreachable",
		text:   "the server does not accept data connections at 203.0.113.21:50999: no answer*",
		remedy: "open the server's passive ports", timeline: []string{"pinhole opened", "reply 425"},
	},
	{
		name: "the server names another host, and does not listen",
		provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("PASV")
			p.Server.Expect("PASV")
			p.Server.Send("227 ok (10,0,0,5,199,55)")
			dialInBackground(s.Testbed.T, s.Client(), harness.ParseHostPort(s.Testbed.T,
				p.Client.Expect("227")))
			s.AwaitSession("what keeps the data",
				func(one harness.SessionInfo) bool { return one.Verdict.Code == "waiting" })
			listWithoutData(p, "425 no connection")
		},
		code: "server_data_unreachable", text: "the server does not accept data connections at " +
			"203.0.113.21:50999: connection refused (its reply named 10.0.0.5; the gateway connects to no " +
			"other host)",
		remedy:   "accept data connections at the address of its control connection, 203.0.113.21",
		timeline: []string{"reply 227 ok (10,0,0,5,199,55)", "reply 425"},
	},
	{
		name: "the client comes behind the server's 425", path: "kernel", provoke: func(s *env) {
			p := s.Login()
			_, at := p.Passive(netip.Addr{})
			p.Exchange("LIST", "425 no patience")
			s.WantNoData(lab.ClientAddr4, at)
		},
		code: "client_too_late", text: "192.168.5.1 connected to 192.168.5.2:# only #*s after the port was " +
			"announced: the pinhole was closed by then",
		remedy: "find out what keeps the client", timeline: []string{passivePinhole, "reply 425"},
		absent: "data the",
	},
	{
		name: "the server announces a service's port", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("PASV")
			p.Server.Expect("PASV")
			p.Server.Send("227 Entering Passive Mode (203,0,113,21,0,22)")
			p.Client.Expect("425")
		},
		code: "server_low_port", text: "the server offers port 22: data ports below 1024 are not " +
			"allowed",
		remedy: "configure the server's passive ports from 1024 up", timeline: []string{"command PASV",
			"reply 227",
			"answer 425"}, absent: "pinhole",
	},
	{
		name: "the server refuses PASV", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("PASV")
			p.Server.Expect("PASV")
			p.Server.Send("502 no passive mode here")
			p.Server.Expect("EPSV")
			p.Server.Send("502 nor that")
			p.Client.Expect("502")
		},
		code: "server_refused_pasv", text: "the server refused PASV, so that passive mode is not possible: " +
			"502 nor that", remedy: "use active mode",
		timeline: []string{"command PASV", "reply 502 no passive", "ask EPSV", "reply 502 nor"},
		absent:   "pinhole",
	},
	{
		name: "no port is left", forward: "passive_ports = \"50000\"\n", session: "2", provoke: func(s *env) {
			s.Login().Passive(netip.Addr{})
			p := s.Login()
			p.Client.Send("PASV")
			p.Server.Expect("PASV")
			p.Server.Send("227 ok (203,0,113,21,200,200)")
			p.Client.Expect("425")
		},
		code: "no_ports_left", text: "no passive port was free in 50000", remedy: "widen passive_ports",
		timeline: []string{"command PASV", "reply 227", "answer 425"}, absent: "pinhole",
	},
}

// serverPortUnreachable connects from the client for data that the gateway cannot get from the server's
// port. The server waits until the gateway knows that.
func (s *env) serverPortUnreachable(p harness.Session, to string) {
	s.Testbed.T.Helper()
	p.Client.Send("PASV")
	p.Server.Expect("PASV")
	p.Server.Send("227 ok (%s)", harness.FormatHostPort(netip.MustParseAddrPort(to)))
	dialInBackground(s.Testbed.T, s.Client(), harness.ParseHostPort(s.Testbed.T, p.Client.Expect("227")))
	s.AwaitSession("what keeps the data",
		func(one harness.SessionInfo) bool { return one.Verdict.Code == "waiting" })
	listWithoutData(p, "425 no connection")
}
