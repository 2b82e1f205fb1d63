package diagnose

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
)

// With tracking by the kernel, explain names what connection tracking knows: no process reads the dialogue.
func TestExplainKernelTracked(t *testing.T) {
	t.Parallel()
	for _, m := range trackedFailures {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t, "kernel", "tracking = \"kernel\"\n")
			m.provoke(s)
			s.wantExplained(m)
		})
	}
}

// passiveByHelper starts a session that the kernel's helper tracks. The server announces a port.
func (s *env) passiveByHelper(port uint16) (p harness.Session, at netip.AddrPort) {
	s.Testbed.T.Helper()
	p = s.Login()
	p.Client.Send("PASV")
	p.Server.Expect("PASV")
	p.Server.Send("227 Entering Passive Mode (%s)",
		harness.FormatHostPort(netip.AddrPortFrom(netip.MustParseAddr("203.0.113.21"), port)))
	return p, harness.ParseHostPort(s.Testbed.T, p.Client.Expect("227"))
}

var trackedFailures = []failureCase{
	{
		name: "nothing at all", provoke: func(s *env) {
			p := s.Login()
			p.Retrieve(netip.Addr{}).Complete()
			p.Quit()
		},
		code: "fine", text: "the kernel saw nothing go wrong: 1 transfer, 0 bytes up, 10# " +
			"down (it does not see what the server replies)",
		timeline: []string{"session connected to 203.0.113.21:21", "pinhole opened by the kernel"},
		anywhere: []string{"data the client connected", "transfer a transfer complete: 10# bytes"},
		absent:   "fault",
	},
	{
		name: "the server does not run", provoke: func(s *env) {
			harness.StopListening(s.T, s.Listener)
			// A child process that is starting may still have the socket.
			harness.Await(s.Testbed.T, "a server that does not run", func() bool {
				c, err := s.Server().Dial(s.Testbed.T.Context(), "tcp", harness.Server4)
				if err == nil {
					c.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			harness.WantRefused(s.Testbed.T, s.Client(), harness.Gateway4)
		},
		code: "server_unreachable", text: "the server cannot be reached: 203.0.113.21:21: connection refused",
		remedy: unreachableRemedy, timeline: []string{"session ended"},
	},
	{
		name: "the server's passive port is closed", provoke: func(s *env) {
			p, at := s.passiveByHelper(50999)
			harness.WantRefused(s.Testbed.T, s.Client(), at.String())
			p.Exchange("LIST", "425 no connection")
		},
		code:   "server_data_unreachable",
		text:   "the server does not accept data connections at 203.0.113.21:50999: connection refused",
		remedy: "check the server's passive ports, and whether it listens as soon as it has announced one",
		timeline: []string{"session connected", "pinhole opened by the kernel", "data the client connected",
			"fault the server does not accept"},
	},
	{
		name: "no client comes for data", provoke: func(s *env) {
			p, _ := s.passiveByHelper(50999)
			p.Exchange("LIST", "425 no connection")
		},
		code: "fine", text: "the kernel saw nothing go wrong: no transfer yet (it does not see what " +
			"the server replies)", timeline: []string{"session connected"},
		absent: "pinhole",
	},
}
