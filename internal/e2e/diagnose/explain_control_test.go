package diagnose

import (
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
)

// explain names faults of sessions without data connections.
func TestExplainControl(t *testing.T) {
	t.Parallel()
	runFailureCases(t, serverFailures)
	runFailureCases(t, clientFailures)
}

// wantClientRejected connects a client that gets a 421.
func (s *env) wantClientRejected() {
	s.Testbed.T.Helper()
	c := s.ConnectClient()
	c.Expect("421 ")
	c.ExpectClose()
}

// connectGreeted is a session whose server has greeted.
func (s *env) connectGreeted() harness.Session {
	s.Testbed.T.Helper()
	p := s.Connect()
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	return p
}

const unreachableRemedy = "check that the server runs, that its address and port are right"

var serverFailures = []failureCase{
	{
		name: "the server does not run", path: anyPath, provoke: func(s *env) {
			harness.StopListening(s.T, s.Listener)
			s.wantClientRejected()
		},
		code: "server_unreachable", text: "the server cannot be reached: 203.0.113.21:21: connection refused",
		remedy:   unreachableRemedy,
		timeline: []string{"session ended after #: 421 cannot reach the server"},
	},
	{
		name: "a firewall drops what goes to the server", path: anyPath, forward: "dial_time = \"1s\"\n",
		provoke: func(s *env) {
			dropPackets(s.Testbed.T, s.Server(), "tcp dport 21", "input")
			s.wantClientRejected()
		},
		code: "server_unreachable", text: "the server cannot be reached: 203.0.113.21:21: no answer",
		remedy: unreachableRemedy,
	},
	{
		name: "there is no way to the server", path: anyPath, provoke: func(s *env) {
			harness.Shell(s.Testbed.T, s.Gateway(), "ip route del 203.0.113.0/24")
			s.wantClientRejected()
		},
		code: "server_unreachable", text: "the server cannot be reached: 203.0.113.21:21: network is " +
			"unreachable", remedy: unreachableRemedy,
	},
	{
		name: "the server says nothing", path: anyPath, forward: "login_time = \"1s\"\n",
		provoke: func(s *env) { s.Connect().Client.Expect("421") },
		code:    "server_silent", text: "the server accepted the connection but sent no greeting",
		remedy: `tls.server = "implicit"`,
		timeline: []string{"session connected to 203.0.113.21:21",
			"session ended after #: 421 the server does not answer"},
	},
	{
		name: "the server has too many clients", path: anyPath, provoke: func(s *env) {
			p := s.Connect()
			p.Server.Send("421 There are too many connected users, please try later.")
			p.Client.Expect("421")
		},
		code: "server_turned_away", text: "the server greets with a refusal: 421 There are too many " +
			"connected " +
			"users, please try later.",
		remedy:   "all clients come from the gateway's address",
		timeline: []string{"reply 421", "session ended"},
	},
	{
		name: "the server hangs up at once", path: anyPath, provoke: func(s *env) {
			p := s.Connect()
			p.Server.Close()
			p.Client.Expect("421")
		},
		code: "server_left", text: "the server closed the connection",
		remedy: "check the server's log", timeline: []string{"session connected", "session ended"},
	},
	{
		name: "the server hangs up in the midst of a command", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("CWD /slow")
			p.Server.Expect("CWD")
			p.Server.Close()
			p.Client.Expect("421")
		},
		code: "server_left", text: "the server closed the connection (during CWD)",
		remedy: "check the server's log", timeline: []string{"command CWD /slow", "session ended"},
	},
	{
		name: "the server dies with a word", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			p.Exchange("CWD /", "500 OOPS: cannot change directory")
			p.Server.Close()
			p.Client.Expect("421")
		},
		code:   "server_left",
		text:   "the server closed the connection after it said: 500 OOPS: cannot change directory",
		remedy: "check the server's log", timeline: []string{"reply 500 OOPS"},
	},
	{
		name: "the server ends the session", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			p.Server.Send("421 Timeout.")
			p.Server.Close()
			p.Client.Expect("421 Timeout.")
		},
		code: "server_left", text: "the server closed the connection after it said: 421 Timeout.",
		remedy: "check the server's log", timeline: []string{"reply 421"},
	},
	{
		name: "the server does not answer", path: anyPath, forward: "idle_time = \"1s\"\n",
		provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("CWD /slow")
			p.Client.Expect("421")
		},
		code: "server_left", text: "the server does not answer (during CWD)",
		remedy: "check the server's log", timeline: []string{"command CWD /slow", "session ended"},
	},
	{
		name: "SSH in place of FTP", path: anyPath, forward: "login_time = \"1s\"\n", provoke: func(s *env) {
			p := s.Connect()
			p.Server.Send("SSH-2.0-OpenSSH_9.2p1")
			p.Client.Expect("SSH-2.0-OpenSSH_9.2p1")
			p.Client.Expect("421")
		},
		code: "server_bad_reply", text: "the server's answer is not FTP",
		remedy:   "it may not be an FTP server",
		timeline: []string{"session connected", "session ended"},
	},
	{
		name: "an answer that does not fit", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("NOOP")
			p.Server.Expect("NOOP")
			p.Server.Send("227 Entering Passive Mode (203,0,113,21,200,200)")
			p.Client.Expect("451")
		},
		code: "server_bad_reply", text: "the server's answer does not fit the command (during NOOP)",
		remedy: "run ftpgate doctor", timeline: []string{"command NOOP", "reply 227", "answer 451"},
	},
	{
		name: "an answer without a port", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("PASV")
			p.Server.Expect("PASV")
			p.Server.Send("227 Entering Passive Mode (203,0,113,21,200)")
			p.Client.Expect("425")
		},
		code: "server_bad_reply", text: "the server's answer names no port (during PASV)",
		remedy: "run ftpgate doctor", timeline: []string{"command PASV", "reply 227", "answer 425"},
	},
	{
		name: "an answer that was not asked for", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			p.Server.Send("226 all done")
			s.AwaitLog("kind=unasked_reply", 1)
			p.WantAlive()
		},
		code: "server_unasked_reply", text: "the server sent an unsolicited reply",
		remedy:   "the gateway did not pass the reply on",
		timeline: []string{"reply 226", "command NOOP"},
	},
	{
		name: "a wrong password", path: anyPath, provoke: func(s *env) {
			p := s.connectGreeted()
			p.Exchange("USER alice", "331 and the password")
			p.Exchange("PASS "+harness.Password, "530 Login incorrect.")
		},
		code: "login_failed", text: "the server rejected the login: 530 Login incorrect.",
		remedy:   "check the user name and the password",
		timeline: []string{"command USER alice", "command PASS (not shown)", "reply 530 Login incorrect."},
	},
	{
		name: "a wrong password, and then the right one", path: anyPath, provoke: func(s *env) {
			p := s.connectGreeted()
			p.Exchange("USER alice", "331 and the password")
			p.Exchange("PASS not-"+harness.Password, "530 Login incorrect.")
			p.Exchange("USER alice", "331 and the password")
			p.Exchange("PASS "+harness.Password, "230 welcome")
		},
		code: "fine", text: "nothing went wrong since the login: no transfer yet; before, the server " +
			"rejected the login: 530 Login incorrect.",
		timeline: []string{"reply 530 Login incorrect.", "command PASS (not shown)", "reply 230"},
	},
	{
		name: "wrong passwords", path: anyPath, forward: "max_login_failures = 2\n", provoke: func(s *env) {
			p := s.connectGreeted()
			for range 2 {
				p.Client.Send("USER alice")
				p.Server.Expect("USER")
				p.Server.Send("331 and the password")
				p.Client.Expect("331")
				p.Client.Send("PASS %s", harness.Password)
				p.Server.Expect("PASS")
				p.Server.Send("530 %s is wrong", harness.Password)
				p.Client.Expect("")
			}
		},
		code: "login_failed", text: "the server rejected the login: too many failed logins",
		remedy: "check the user name and the password",
		timeline: []string{"reply 530 (not shown) is wrong", "reply 530 (not shown) is wrong",
			"session ended"},
	},
}

var clientFailures = []failureCase{
	{
		name: "a client that is not meant", path: anyPath, forward: "clients = [\"192.168.5.128/25\"]\n",
		provoke: func(s *env) { s.wantClientRejected() },
		code:    "client_not_allowed", text: "192.168.5.1 may not use this forward",
		remedy: "add its address to the forward's clients", absent: "connected",
	},
	{
		name: "a balancer without a header", path: anyPath,
		forward: "accept_proxy_protocol = [\"192.168.5.1\"]\n",
		provoke: func(s *env) {
			c := s.ConnectClient()
			c.Send("USER anonymous")
			c.Expect("421")
		},
		code: "bad_proxy_header",
		text: "the balancer sent no valid PROXY protocol header (the connection does not begin with a " +
			"PROXY protocol header)",
		remedy: "have the balancer send the header", absent: "connected",
	},
	{
		name: "a header of nobody's balancer", path: anyPath,
		provoke: func(s *env) {
			c := s.connectGreeted().Client
			c.Send("PROXY TCP4 198.51.100.9 192.0.2.1 40001 21")
			c.Expect("421")
		},
		code:     "unexpected_proxy_header",
		text:     "192.168.5.1 began with a PROXY protocol header, which only a balancer may send",
		remedy:   "if it is a balancer, add its address to accept_proxy_protocol",
		timeline: []string{"reply 220"},
	},
	{
		name: "too many sessions of one client", path: anyPath, forward: "max_sessions_per_client = 1\n",
		session: "2", provoke: func(s *env) {
			s.Login()
			s.wantClientRejected()
		},
		code: "too_many_sessions", text: "rejected: too many sessions from your address",
		remedy: "raise max_sessions_per_client", absent: "connected",
	},
	{
		name: "too many sessions", path: anyPath, forward: "max_sessions = 1\n", session: "2",
		provoke: func(s *env) {
			s.Login()
			s.wantClientRejected()
		},
		code: "too_many_sessions", text: "rejected: too many sessions, try again later",
		remedy: "raise max_sessions", absent: "connected",
	},
	{
		name: "no login", path: anyPath, forward: "login_time = \"1s\"\n",
		provoke: func(s *env) { s.connectGreeted().Client.Expect("421") },
		code:    "login_time", text: "the client did not log in in time: no login within 1s",
		remedy: "raise login_time", timeline: []string{"reply 220", "session ended after #"},
	},
	{
		name: "nothing is said", path: anyPath, forward: "idle_time = \"1s\"\n",
		provoke: func(s *env) { s.Login().Client.Expect("421") },
		code:    "idle", text: "timed out: idle for 1s", remedy: "raise idle_time",
		timeline: []string{"reply 230", "session ended after #: 421 idle for 1s"},
	},
	{
		name: "a reply from the client", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("227 Entering Passive Mode (203,0,113,21,200,200)")
			p.Client.Expect("421")
		},
		code: "client_bad_line", text: "the client sent something that is not an FTP command: a client " +
			"sends commands, " +
			"not replies", remedy: "check which program it is", timeline: []string{"command (",
			"session ended"},
	},
	{
		name: "NUL from the client", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("RETR a\x00b")
			p.Client.Expect("421")
		},
		code: "client_bad_line", text: "the client sent something that is not an FTP command: line has a " +
			"NUL byte at " +
			"offset 6", remedy: "check which program it is", timeline: []string{"session ended"},
	},
	{
		name: "data before login", path: anyPath, provoke: func(s *env) {
			p := s.connectGreeted()
			p.Client.Send("PASV")
			p.Client.Expect("530")
		},
		code: "not_logged_in", text: "the client sent PASV before it had logged in",
		timeline: []string{"command PASV", "answer 530 log in first"}, absent: "pinhole",
	},
	{
		name: "an operator ends it", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			s.output("kill", "1")
			p.Client.Expect("421")
		},
		code: "killed", text: "ended by an operator", timeline: []string{"reply 230",
			"session ended after #: 421 an operator ended the session"},
	},
	{
		name: "the forward is removed", path: anyPath, provoke: func(s *env) {
			p := s.Login()
			s.removeForward()
			p.Client.Expect("421")
		},
		code: "shut_down", text: "ended because the gateway does not serve this address any more",
		timeline: []string{"session ended after #: 421 the gateway does not serve this address any more"},
	},
	{
		name: "the gateway is stopped", path: anyPath, session: "2", provoke: func(s *env) {
			s.startTransfer() // the gateway waits for its end
			p := s.Login()
			s.Signal(syscall.SIGTERM)
			p.Client.Expect("421")
		},
		code: "shut_down", text: "ended because the gateway is shutting down",
		timeline: []string{"session ended after #: 421 the gateway is shutting down"},
	},
	{
		name: "the client hangs up", path: anyPath, provoke: func(s *env) {
			s.Login().ClientLeaves()
		},
		code: "fine", text: "nothing went wrong: no transfer yet",
		timeline: []string{"reply 230", "session ended"},
	},
}
