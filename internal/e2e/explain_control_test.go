package e2e

import (
	"io"
	"syscall"
	"testing"
)

// explain tells what is wrong with sessions before any data is spoken of.
func TestExplainControl(t *testing.T) {
	t.Parallel()
	happen(t, serverMishaps)
	happen(t, clientMishaps)
}

// unserved is a client that is told why it has no server, or none any more.
func (s *scene) unserved() {
	s.stage.t.Helper()
	c := s.extraClient()
	c.hear("421 ")
	c.ended()
}

// greeted is a session whose server has greeted.
func (s *scene) greeted() pair {
	s.stage.t.Helper()
	p := s.connect()
	p.server.say("220 ready")
	p.client.hear("220")
	return p
}

const unreachableRemedy = "see that the server runs, that its address and port are right"

var serverMishaps = []mishap{
	{
		name: "the server does not run", only: once, provoke: func(s *scene) {
			s.control.Close()
			s.unserved()
		},
		code: "server_unreachable", text: "the server cannot be reached: 203.0.113.21:21: connection refused", remedy: unreachableRemedy,
		line: []string{"session ended after #: 421 cannot reach the server"},
	},
	{
		name: "a firewall drops what goes to the server", only: once, forward: "dial_time = \"1s\"\n", provoke: func(s *scene) {
			deaf(s.stage.t, s.Server(), "tcp dport 21", "input")
			s.unserved()
		},
		code: "server_unreachable", text: "the server cannot be reached: 203.0.113.21:21: no answer", remedy: unreachableRemedy,
	},
	{
		name: "there is no way to the server", only: once, provoke: func(s *scene) {
			sh(s.stage.t, s.Gateway(), "ip route del 203.0.113.0/24")
			s.unserved()
		},
		code: "server_unreachable", text: "the server cannot be reached: 203.0.113.21:21: network is unreachable", remedy: unreachableRemedy,
	},
	{
		name: "the server says nothing", only: once, forward: "login_time = \"1s\"\n", provoke: func(s *scene) { s.connect().client.hear("421") },
		code: "server_silent", text: "the server has taken the connection and says nothing", remedy: `tls.server = "implicit"`,
		line: []string{"session connected to 203.0.113.21:21", "session ended after #: 421 the server does not answer"},
	},
	{
		name: "the server has too many clients", only: once, provoke: func(s *scene) {
			p := s.connect()
			p.server.say("421 There are too many connected users, please try later.")
			p.client.hear("421")
		},
		code: "server_turned_away", text: "the server greets with a refusal: 421 There are too many connected users, please try later.",
		remedy: "all clients of the gateway come from the gateway's", line: []string{"reply 421", "session ended"},
	},
	{
		name: "the server hangs up at once", only: once, provoke: func(s *scene) {
			p := s.connect()
			p.server.Close()
			p.client.hear("421")
		},
		code: "server_left", text: "the server has closed the connection", remedy: "see in the server's log why", line: []string{"session connected", "session ended"},
	},
	{
		name: "the server hangs up in the midst of a command", only: once, provoke: func(s *scene) {
			p := s.login()
			p.client.say("CWD /slow")
			p.server.hear("CWD")
			p.server.Close()
			p.client.hear("421")
		},
		code: "server_left", text: "the server has closed the connection (during CWD)", remedy: "see in the server's log why", line: []string{"command CWD /slow", "session ended"},
	},
	{
		name: "the server does not answer", only: once, forward: "idle_time = \"1s\"\n", provoke: func(s *scene) {
			p := s.login()
			p.client.say("CWD /slow")
			p.client.hear("421")
		},
		code: "server_left", text: "the server does not answer (during CWD)", remedy: "see in the server's log why", line: []string{"command CWD /slow", "session ended"},
	},
	{
		name: "SSH in place of FTP", only: once, provoke: func(s *scene) {
			p := s.connect()
			p.server.say("SSH-2.0-OpenSSH_9.2p1")
			p.client.hear("421")
		},
		code: "server_bad_reply", text: "the server's answer is not FTP", remedy: "another program than an FTP server may listen there", line: []string{"session connected", "session ended"},
	},
	{
		name: "an answer that does not fit", only: once, provoke: func(s *scene) {
			p := s.login()
			p.client.say("NOOP")
			p.server.hear("NOOP")
			p.server.say("227 Entering Passive Mode (203,0,113,21,200,200)")
			p.client.hear("451")
		},
		code: "server_bad_reply", text: "the server's answer does not fit the command (during NOOP)", remedy: "see with ftpgate doctor", line: []string{"command NOOP", "reply 227", "answer 451"},
	},
	{
		name: "an answer without a port", only: once, provoke: func(s *scene) {
			p := s.login()
			p.client.say("PASV")
			p.server.hear("PASV")
			p.server.say("227 Entering Passive Mode")
			p.client.hear("425")
		},
		code: "server_bad_reply", text: "the server's answer names no port (during PASV)", remedy: "see with ftpgate doctor", line: []string{"command PASV", "reply 227", "answer 425"},
	},
	{
		name: "an answer that nobody asked for", only: once, provoke: func(s *scene) {
			p := s.login()
			p.server.say("226 all done")
			s.await("kind=unasked_reply", 1)
			p.stillThere()
		},
		code: "server_unasked_reply", text: "the server sent a reply that nobody asked for", remedy: "the gateway has kept the reply from the client", line: []string{"reply 226", "command NOOP"},
	},
	{
		name: "a wrong password", only: once, provoke: func(s *scene) {
			p := s.greeted()
			p.ask("USER somebody", "331 and the password")
			p.ask("PASS "+scriptPassword, "530 Login incorrect.")
		},
		code: "login_failed", text: "the server did not take the login: 530 Login incorrect.", remedy: "see the user's name and password",
		line: []string{"command USER somebody", "command PASS (not shown)", "reply 530 Login incorrect."},
	},
	{
		name: "a wrong password, and then the right one", only: once, provoke: func(s *scene) {
			p := s.greeted()
			p.ask("USER somebody", "331 and the password")
			p.ask("PASS not-"+scriptPassword, "530 Login incorrect.")
			p.ask("USER somebody", "331 and the password")
			p.ask("PASS "+scriptPassword, "230 welcome")
		},
		code: "fine", text: "nothing went wrong since the login: no transfer yet; before, the server did not take the login: 530 Login incorrect.",
		line: []string{"reply 530 Login incorrect.", "command PASS (not shown)", "reply 230"},
	},
	{
		name: "wrong passwords", only: once, forward: "max_login_failures = 2\n", provoke: func(s *scene) {
			p := s.greeted()
			for range 2 {
				p.client.say("USER somebody")
				p.server.hear("USER")
				p.server.say("331 and the password")
				p.client.hear("331")
				p.client.say("PASS %s", scriptPassword)
				p.server.hear("PASS")
				p.server.say("530 %s is wrong", scriptPassword)
				p.client.hear("")
			}
		},
		code: "login_failed", text: "the server did not take the login: too many failed logins", remedy: "see the user's name and password",
		line: []string{"reply 530 (not shown) is wrong", "reply 530 (not shown) is wrong", "session ended"},
	},
}

var clientMishaps = []mishap{
	{
		name: "a client that is not meant", only: once, forward: "clients = [\"192.168.5.128/25\"]\n", provoke: func(s *scene) { s.unserved() },
		code: "client_not_allowed", text: "192.168.5.1 may not use this forward", remedy: "add its address to the forward's clients", never: "connected",
	},
	{
		name: "too many sessions of one client", only: once, forward: "max_sessions_per_client = 1\n", session: "2", provoke: func(s *scene) {
			s.login()
			s.unserved()
		},
		code: "too_many_sessions", text: "turned away: too many sessions from your address", remedy: "raise max_sessions_per_client", never: "connected",
	},
	{
		name: "too many sessions", only: once, forward: "max_sessions = 1\n", session: "2", provoke: func(s *scene) {
			s.login()
			s.unserved()
		},
		code: "too_many_sessions", text: "turned away: too many sessions, try again later", remedy: "raise max_sessions", never: "connected",
	},
	{
		name: "nobody logs in", only: once, forward: "login_time = \"1s\"\n", provoke: func(s *scene) { s.greeted().client.hear("421") },
		code: "login_time", text: "the client did not log in in time: no login within 1s", remedy: "raise login_time", line: []string{"reply 220", "session ended after #"},
	},
	{
		name: "nothing is said", only: once, forward: "idle_time = \"1s\"\n", provoke: func(s *scene) { s.login().client.hear("421") },
		code: "idle", text: "ended because nothing was said: idle for 1s", remedy: "raise idle_time", line: []string{"reply 230", "session ended after #: 421 idle for 1s"},
	},
	{
		name: "a reply from the client", only: once, provoke: func(s *scene) {
			p := s.login()
			p.client.say("227 Entering Passive Mode (203,0,113,21,200,200)")
			p.client.hear("421")
		},
		code: "client_bad_line", text: "the client sent something that is not an FTP command: a client sends commands, not replies", remedy: "see what program it is", line: []string{"command (", "session ended"},
	},
	{
		name: "NUL from the client", only: once, provoke: func(s *scene) {
			p := s.login()
			p.client.say("RETR a\x00b")
			p.client.hear("421")
		},
		code: "client_bad_line", text: "the client sent something that is not an FTP command: line has a NUL byte at offset 6", remedy: "see what program it is", line: []string{"session ended"},
	},
	{
		name: "data before login", only: once, provoke: func(s *scene) {
			p := s.greeted()
			p.client.say("PASV")
			p.client.hear("530")
		},
		code: "not_logged_in", text: "the client sent PASV before it had logged in", line: []string{"command PASV", "answer 530 log in first"}, never: "pinhole",
	},
	{
		name: "an operator ends it", only: once, provoke: func(s *scene) {
			p := s.login()
			s.told("kill", "1")
			p.client.hear("421")
		},
		code: "killed", text: "ended by an operator", line: []string{"reply 230", "session ended after #: 421 the operator has ended the session"},
	},
	{
		name: "the forward is taken away", only: once, provoke: func(s *scene) {
			p := s.login()
			s.leaveOff()
			p.client.hear("421")
		},
		code: "shut_down", text: "ended because the gateway is shutting down, or the forward was taken away", line: []string{"session ended after #: 421 the gateway is shutting down"},
	},
	{
		name: "the gateway is stopped", only: once, session: "2", provoke: func(s *scene) {
			s.carrying() // and the gateway waits for its end
			p := s.login()
			s.signal(syscall.SIGTERM)
			p.client.hear("421")
		},
		code: "shut_down", text: "ended because the gateway is shutting down, or the forward was taken away", line: []string{"session ended after #: 421 the gateway is shutting down"},
	},
	{
		name: "the client hangs up", only: once, provoke: func(s *scene) {
			p := s.login()
			p.client.Close()
			_, _ = io.ReadAll(p.server.lines)
		},
		code: "fine", text: "nothing went wrong: no transfer yet", line: []string{"reply 230", "session ended"},
	},
}
