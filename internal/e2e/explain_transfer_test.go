package e2e

import (
	"net/netip"
	"strings"
	"testing"
)

// explain tells how transfers broke, and what ends sessions in the midst of them.
func TestExplainTransfer(t *testing.T) {
	t.Parallel()
	happen(t, transferMishaps)
}

// carrying begins a transfer of which some has come through.
func (s *scene) carrying() begun {
	s.stage.t.Helper()
	b := s.login().retrieve(netip.Addr{})
	b.carry(payload(100_000))
	return b
}

var transferMishaps = []mishap{
	{
		name: "the server has no such file", provoke: func(s *scene) {
			p := s.login()
			p.passive(netip.Addr{})
			p.ask("RETR nothing", "550 no such file")
		},
		code: "server_refused_transfer", text: "the server did not carry out RETR: 550 no such file", remedy: "see the path, and what the server's user may do",
		line: []string{passiveHole, "command RETR nothing", "reply 550 no such file"}, data: []string{"transfer RETR failed: 0 bytes"}, never: "data the",
	},
	{
		name: "the server's disk is full", provoke: func(s *scene) {
			p := s.login()
			data, at := p.passive(netip.Addr{})
			tries(s.stage.t, s.Client(), at)
			accept(s.stage.t, data)
			p.ask("STOR file", "452 no space left")
		},
		code: "server_refused_transfer", text: "the server did not carry out STOR: 452 no space left", remedy: "see the room on the server's disk, and the user's quota",
		line: []string{passiveHole, "command STOR file", "reply 452"}, data: []string{clientCame},
	},
	{
		name: "the server breaks it", only: "relay", provoke: func(s *scene) {
			b := s.carrying()
			reset(s.stage.t, b.from)
			broken(s.stage.t, "the client", b.to)
			b.server.say("426 broken")
			b.client.hear("426")
		},
		code: "data_broken", text: "the data connection broke: the server broke it (connection reset by peer)", remedy: "see the log of the end that broke it",
		line: []string{passiveHole, "reply 150", "reply 426"}, data: []string{clientCame, "transfer RETR failed: 100000 bytes"},
	},
	{
		name: "the server breaks it", only: "kernel", provoke: func(s *scene) {
			b := s.carrying()
			reset(s.stage.t, b.from)
			broken(s.stage.t, "the client", b.to)
			b.server.say("426 broken")
			b.client.hear("426")
		},
		code: "server_refused_transfer", text: "the server broke RETR off: 426 broken", remedy: "see the logs of the server and of the client: one of them closed the data connection",
		line: []string{passiveHole, "reply 150", "reply 426"}, data: []string{clientCame, "transfer RETR failed: 10# bytes"},
	},
	{
		name: "the client breaks it", only: "relay", provoke: func(s *scene) {
			b := s.carrying()
			reset(s.stage.t, b.to)
			broken(s.stage.t, "the server", b.from)
			b.server.say("426 broken")
			b.client.hear("426")
		},
		code: "data_broken", text: "the data connection broke: the client broke it (connection reset by peer)", remedy: "see the log of the end that broke it",
		line: []string{passiveHole, "reply 150", "reply 426"}, data: []string{clientCame, "transfer RETR failed: 100000 bytes"},
	},
	{
		name: "the client calls it off", provoke: func(s *scene) {
			b := s.carrying()
			b.client.say("ABOR")
			b.server.hear("ABOR")
			b.from.Close()
			b.server.say("426 aborted")
			b.server.say("226 done")
			b.client.hear("426")
			b.client.hear("226")
		},
		code: "aborted", text: "the client aborted RETR with ABOR", line: []string{"reply 150", "command ABOR", "reply 426"}, data: []string{clientCame, "transfer RETR failed: 10# bytes"},
	},
	{
		name: "the client leaves", provoke: func(s *scene) { s.carrying().client.Close() },
		code: "client_left", text: "the client closed its control connection while RETR ran", remedy: "a firewall that forgets quiet connections",
		line: []string{"reply 150", "session ended after #"}, data: []string{clientCame},
	},
	{
		name: "the server leaves", provoke: func(s *scene) {
			b := s.carrying()
			b.server.Close()
			b.client.hear("421")
		},
		code: "server_left", text: "the server has closed the connection (during RETR)", remedy: "see in the server's log why",
		line: []string{"reply 150", "session ended after #: 421 the server has closed the connection"}, data: []string{clientCame},
	},
	{
		name: "an operator ends it", provoke: func(s *scene) {
			b := s.carrying()
			s.told("kill", "1")
			b.client.hear("421")
		},
		code: "killed", text: "ended by an operator", line: []string{"reply 150", "session ended after #: 421 the operator has ended the session"}, data: []string{clientCame},
	},
	{
		name: "the gateway's end ends it", provoke: func(s *scene) {
			b := s.carrying()
			s.leaveOff()
			b.client.hear("421")
		},
		code: "shut_down", text: "ended because the gateway is shutting down, or the forward was taken away",
		line: []string{"session ended after #: 421 the gateway is shutting down"}, data: []string{clientCame},
	},
	{
		name: "all is well in the end", provoke: func(s *scene) {
			p := s.login()
			p.passive(netip.Addr{})
			p.ask("RETR nothing", "550 no such file")
			until(s.stage.t, "a transfer that failed", func() bool { return strings.Contains(s.told("explain", "1"), "transfers  0, 1 failed") })
			p.retrieve(netip.Addr{}).complete()
		},
		code: "server_refused_transfer", text: "the server did not carry out RETR: 550 no such file; since then 1 transfer was completed", remedy: "see the path",
		line: []string{passiveHole, passiveHole}, data: []string{"transfer RETR failed", clientCame, "transfer RETR complete"},
	},
	{
		name: "what failed could be done without", provoke: func(s *scene) {
			p := s.login()
			p.client.say("AUTH TLS")
			p.client.hear("534")
			p.retrieve(netip.Addr{}).complete()
		},
		code: "fine", text: "transfers go well (1 transfer, 0 bytes up, # down); before, the client asked for encryption, which this forward cannot carry: this gateway cannot carry an encrypted session to this server",
		line: []string{"command AUTH TLS", "answer 534"}, data: []string{clientCame, "transfer RETR complete"},
	},
}

// leaveOff has the forward taken away, and another one in its place; transfers have a second to end.
func (s *scene) leaveOff() {
	s.stage.t.Helper()
	rewrite(s.stage.t, s.file, "drain = \"1s\"\n"+strings.NewReplacer("archive", "another", ":2121", ":2122").Replace(contents(s.stage.t, s.file)))
	if said := s.told("reload"); !strings.Contains(said, "read again") {
		s.stage.t.Fatalf("reload: got %q", said)
	}
}
