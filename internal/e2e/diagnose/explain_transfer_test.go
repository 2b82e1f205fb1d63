package diagnose

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
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

// startUpload starts an upload that has carried some data.
func (s *env) startUpload() harness.Transfer {
	t := s.Testbed.T
	t.Helper()
	p := s.Login()
	data, at := p.Passive(netip.Addr{})
	c, err := harness.DialFrom(t, s.Client(), lab.ClientAddr4, at)
	if err != nil {
		t.Fatal(err)
	}
	b := harness.Transfer{Session: p, ServerData: harness.Accept(t, data), ClientData: c, Address: at}
	p.Exchange("STOR file", "150 go on")
	if _, err := c.Write(harness.RandomBytes(100_000)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b.ServerData, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
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
		name: "the server breaks it", provoke: func(s *env) {
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
		anywhere: []string{clientConnected, "transfer RETR failed: 10# bytes"},
	},
	{
		name: "the client breaks it", provoke: func(s *env) {
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
		anywhere: []string{clientConnected, "transfer RETR failed: 10# bytes"},
	},
	{
		name: "the client dies, and the server says 426", provoke: func(s *env) {
			b := s.startTransfer()
			harness.Reset(s.Testbed.T, b.ClientData)
			harness.WantBroken(s.Testbed.T, "the server", b.ServerData)
			b.Server.Send("426 Failure writing network stream.")
			b.Client.Expect("426")
		},
		code:   "data_broken",
		text:   "the data connection broke: the client broke it (connection reset by peer)",
		remedy: "check the log of the end that broke it", timeline: []string{"reply 150", "reply 426"},
	},
	{
		name: "the disk is full in the middle, and the client breaks what goes on", provoke: func(s *env) {
			b := s.startUpload()
			b.Server.Send("552 no space left")
			b.Client.Expect("552")
			b.ServerData.Close() // with data that it has not read: a reset
			b.ClientData.Close()
		},
		code: "server_refused_transfer", text: "the server did not carry out STOR: 552 no space left",
		remedy: "check the free space", timeline: []string{"reply 150", "reply 552"},
	},
	{
		name: "the client breaks an upload that the server calls complete", provoke: func(s *env) {
			b := s.startUpload()
			harness.Reset(s.Testbed.T, b.ClientData)
			harness.WantBroken(s.Testbed.T, "the server", b.ServerData)
			b.Server.Send("226 got what there was")
			b.Client.Expect("226")
		},
		code:     "data_broken",
		text:     "the data connection broke: the client broke it (connection reset by peer)",
		remedy:   "check the log of the end that broke it",
		timeline: []string{"reply 150", "reply 226"}, anywhere: []string{"transfer STOR failed: 10# bytes"},
	},
	{
		name: "the client resets behind the end of an upload", provoke: func(s *env) {
			b := s.startUpload()
			if err := b.ClientData.(*net.TCPConn).CloseWrite(); err != nil {
				s.Testbed.T.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, b.ServerData); err != nil {
				s.Testbed.T.Fatal(err)
			}
			b.Server.Send("226 complete")
			b.Client.Expect("226")
			harness.Reset(s.Testbed.T, b.ClientData)
			b.ServerData.Close()
		},
		code: "fine", text: "nothing went wrong: 1 transfer, 10# bytes up, 0 down",
		timeline: []string{"reply 150", "reply 226"}, anywhere: []string{"transfer STOR complete: 10# bytes"},
	},
	{
		name: "the server closes behind a complete transfer", provoke: func(s *env) {
			p := s.Login()
			p.Retrieve(netip.Addr{}).Complete()
			p.Server.Close()
			p.Client.Expect("421")
		},
		code: "server_left", text: "the server closed the connection; before, 1 transfer was completed",
		remedy: "check the server's log", timeline: []string{"reply 226", "session ended after #"},
	},
	{
		name: "the server has no size of the file", provoke: func(s *env) {
			p := s.Login()
			p.Exchange("SIZE nothing", "550 no such file")
			p.Quit()
		},
		code: "server_refused_command", text: "the server refused SIZE: 550 no such file",
		remedy: "check the path", timeline: []string{"command SIZE nothing", "reply 550"},
	},
	{
		name: "the server has no size, and sends the file", provoke: func(s *env) {
			p := s.Login()
			p.Exchange("SIZE nothing", "550 no such file")
			p.Retrieve(netip.Addr{}).Complete()
			p.Quit()
		},
		code: "fine", text: "nothing went wrong: 1 transfer, 0 bytes up, 100003 down",
		timeline: []string{"command SIZE nothing", "reply 226"},
	},
	{
		name: "the server hangs", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("CWD tape")
			p.Server.Expect("CWD tape")
		},
		code: "waiting", text: "so far the server did not answer CWD within # s",
		remedy: "check in the server's log what it waits for", timeline: []string{"command CWD tape"},
	},
	{
		name: "two faults", provoke: func(s *env) {
			p := s.Login()
			p.Client.Send("PORT 10,0,0,9,200,200")
			p.Client.Expect("504")
			p.Client.Send("PORT 192,168,5,1,3,255")
			p.Client.Expect("504")
		},
		code: "third_party_port",
		text: "the client's PORT names another address than its own, 192.168.5.1: " +
			"refused; after that, PORT was refused: *",
		remedy: "have the client use passive mode", timeline: []string{"command PORT", "command PORT"},
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
		code: "server_left", text: "the server closed the connection (during RETR)",
		remedy:   "check the server's log",
		timeline: []string{"reply 150", "session ended after #: 421 the server closed the connection"},
		anywhere: []string{clientConnected},
	},
	{
		name: "an operator ends it", provoke: func(s *env) {
			b := s.startTransfer()
			s.output("kill", "1")
			b.Client.Expect("421")
		},
		code: "killed", text: "ended by an operator", timeline: []string{"reply 150",
			"session ended after #: 421 an operator ended the session"},
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
