package diagnose

import (
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
)

// explain names how a transfer broke, and what ended a session during a transfer.
func TestExplainTransfer(t *testing.T) {
	t.Parallel()
	runFailureCases(t, transferFailures)
}

// startTransfer starts a transfer that has carried some data.
func (s *env) startTransfer() harness.Transfer {
	s.Testbed.T.Helper()
	b := s.Login().Retrieve(netip.Addr{})
	b.Carry(harness.RandomBytes(100_000))
	return b
}

var transferFailures = []failureCase{
	{
		name: "the server has no such file", provoke: func(s *env) {
			p := s.Login()
			p.Passive(netip.Addr{})
			p.Exchange("RETR nothing", "550 no such file")
		},
		code: "server_refused_transfer", text: "the server did not carry out RETR: 550 no such file",
		remedy:   "check the path, and the user's permissions on the server",
		timeline: []string{passivePinhole, "command RETR nothing", "reply 550 no such file"},
		anywhere: []string{"transfer RETR failed: 0 bytes"}, absent: "data the",
	},
	{
		name: "the server's disk is full", provoke: func(s *env) {
			p := s.Login()
			data, at := p.Passive(netip.Addr{})
			dialInBackground(s.Testbed.T, s.Client(), at)
			harness.Accept(s.Testbed.T, data)
			p.Exchange("STOR file", "452 no space left")
		},
		code: "server_refused_transfer", text: "the server did not carry out STOR: 452 no space left",
		remedy:   "check the free space on the server's disk, and the user's quota",
		timeline: []string{passivePinhole, "command STOR file", "reply 452"},
		anywhere: []string{clientConnected},
	},
	{
		name: "the server breaks it", path: "relay", provoke: func(s *env) {
			b := s.startTransfer()
			harness.Reset(s.Testbed.T, b.ServerData)
			harness.WantBroken(s.Testbed.T, "the client", b.ClientData)
			b.Server.Send("426 broken")
			b.Client.Expect("426")
		},
		code:     "data_broken",
		text:     "the data connection broke: the server broke it (connection reset by peer)",
		remedy:   "check the log of the end that broke it",
		timeline: []string{passivePinhole, "reply 150", "reply 426"},
		anywhere: []string{clientConnected, "transfer RETR failed: 100000 bytes"},
	},
	{
		name: "the server breaks it", path: "kernel", provoke: func(s *env) {
			b := s.startTransfer()
			harness.Reset(s.Testbed.T, b.ServerData)
			harness.WantBroken(s.Testbed.T, "the client", b.ClientData)
			b.Server.Send("426 broken")
			b.Client.Expect("426")
		},
		code: "server_refused_transfer", text: "the server aborted RETR: 426 broken",
		remedy: "check the logs of the server and of the client: one of them closed or refused the " +
			"data connection",
		timeline: []string{passivePinhole, "reply 150", "reply 426"},
		anywhere: []string{clientConnected, "transfer RETR failed: 10# bytes"},
	},
	{
		name: "the client breaks it", path: "relay", provoke: func(s *env) {
			b := s.startTransfer()
			harness.Reset(s.Testbed.T, b.ClientData)
			harness.WantBroken(s.Testbed.T, "the server", b.ServerData)
			b.Server.Send("426 broken")
			b.Client.Expect("426")
		},
		code:     "data_broken",
		text:     "the data connection broke: the client broke it (connection reset by peer)",
		remedy:   "check the log of the end that broke it",
		timeline: []string{passivePinhole, "reply 150", "reply 426"},
		anywhere: []string{clientConnected, "transfer RETR failed: 100000 bytes"},
	},
	{
		name: "the client calls it off", provoke: func(s *env) {
			b := s.startTransfer()
			b.Client.Send("ABOR")
			b.Server.Expect("ABOR")
			b.ServerData.Close()
			b.Server.Send("426 aborted")
			b.Server.Send("226 done")
			b.Client.Expect("426")
			b.Client.Expect("226")
		},
		code: "aborted", text: "the client aborted RETR with ABOR",
		timeline: []string{"reply 150", "command ABOR", "reply 426"},
		anywhere: []string{clientConnected, "transfer RETR failed: 10# bytes"},
	},
	{
		name: "the client leaves", provoke: func(s *env) {
			b := s.startTransfer()
			b.ClientLeaves()
			b.ClientData.Close() // over the relay the session lasts as long as its data
			b.ServerData.Close()
		},
		code: "client_left", text: "the client closed its control connection while RETR ran",
		remedy:   "a firewall that drops idle connections",
		timeline: []string{"reply 150", "session ended after #"}, anywhere: []string{clientConnected},
	},
	{
		name: "the server leaves", provoke: func(s *env) {
			b := s.startTransfer()
			b.Server.Close()
			b.Client.Expect("421")
			b.ServerData.Close()
			b.ClientData.Close()
		},
		code: "server_left", text: "the server has closed the connection (during RETR)",
		remedy:   "check the server's log",
		timeline: []string{"reply 150", "session ended after #: 421 the server has closed the connection"},
		anywhere: []string{clientConnected},
	},
	{
		name: "an operator ends it", provoke: func(s *env) {
			b := s.startTransfer()
			s.output("kill", "1")
			b.Client.Expect("421")
		},
		code: "killed", text: "ended by an operator", timeline: []string{"reply 150",
			"session ended after #: 421 the operator has ended the session"},
		anywhere: []string{clientConnected},
	},
	{
		name: "the gateway's end ends it", provoke: func(s *env) {
			b := s.startTransfer()
			s.removeForward()
			b.Client.Expect("421")
		},
		code: "shut_down", text: "ended because the gateway does not serve this address any more",
		timeline: []string{"session ended after #: 421 the gateway does not serve this address any more"},
		anywhere: []string{clientConnected},
	},
	{
		name: "all is well in the end", provoke: func(s *env) {
			p := s.Login()
			p.Passive(netip.Addr{})
			p.Exchange("RETR nothing", "550 no such file")
			harness.Await(s.Testbed.T, "a transfer that failed",
				func() bool { return strings.Contains(s.output("explain", "1"), "transfers  0, 1 failed") })
			p.Retrieve(netip.Addr{}).Complete()
		},
		code:     "server_refused_transfer",
		text:     "the server did not carry out RETR: 550 no such file; since then 1 transfer was completed",
		remedy:   "check the path",
		timeline: []string{passivePinhole, passivePinhole}, anywhere: []string{"transfer RETR failed",
			clientConnected, "transfer RETR complete"},
	},
	{
		name: "what failed could be done without", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("AUTH TLS")
			p.Client.Expect("534")
			p.Retrieve(netip.Addr{}).Complete()
		},
		code: "fine", text: "transfers go well (1 transfer, 0 bytes up, # down); before, the client asked " +
			"for encryption, which this forward cannot carry: this gateway cannot carry an encrypted " +
			"session to this server",
		timeline: []string{"command AUTH TLS", "answer 534"}, anywhere: []string{clientConnected,
			"transfer RETR complete"},
	},
}

// removeForward replaces the forward by another one. Transfers have a second to finish.
func (s *env) removeForward() {
	s.Testbed.T.Helper()
	harness.OverwriteFile(s.Testbed.T, s.ConfigFile, "drain = \"1s\"\n"+strings.NewReplacer("archive",
		"another", ":2121", ":2122").Replace(harness.ReadFile(s.Testbed.T, s.ConfigFile)))
	if got := s.output("reload"); !strings.Contains(got, "read again") {
		s.Testbed.T.Fatalf("reload: got %q", got)
	}
}
