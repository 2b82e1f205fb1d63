package e2e

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
)

// explain tells of sessions that the kernel tracks what connection tracking knows: nobody reads what is said there.
func TestExplainKernelTracked(t *testing.T) {
	t.Parallel()
	for _, m := range trackedMishaps {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, "kernel", "tracking = \"kernel\"\n")
			m.provoke(s)
			s.explains(m)
		})
	}
}

// helped begins a session that the kernel's helper follows, and has the server announce a port.
func (s *scene) helped(port uint16) (p pair, at netip.AddrPort) {
	s.stage.t.Helper()
	p = s.login()
	p.client.say("PASV")
	p.server.hear("PASV")
	p.server.say("227 Entering Passive Mode (%s)", commas(netip.AddrPortFrom(netip.MustParseAddr("203.0.113.21"), port)))
	return p, hostPort(s.stage.t, p.client.hear("227"))
}

var trackedMishaps = []mishap{
	{
		name: "nothing at all", provoke: func(s *scene) {
			p := s.login()
			p.retrieve(netip.Addr{}).complete()
			p.quit()
		},
		code: "fine", text: "nothing went wrong: 1 transfer, 0 bytes up, 10# down",
		line:  []string{"session connected to 203.0.113.21:21", "pinhole opened by the kernel"},
		data:  []string{"data the client came", "transfer a transfer complete: 10# bytes"},
		never: "fault",
	},
	{
		name: "the server does not run", provoke: func(s *scene) {
			s.control.Close()
			until(s.stage.t, "a server that does not run", func() bool { // a process that begins may have its socket for a moment
				c, err := s.Server().Dial(s.stage.t.Context(), "tcp", server4)
				if err == nil {
					c.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			wantRefused(s.stage.t, s.Client(), gateway4)
		},
		code: "server_unreachable", text: "the server cannot be reached: 203.0.113.21:21: connection refused", remedy: unreachableRemedy, line: []string{"session ended"},
	},
	{
		name: "the server's passive port is closed", provoke: func(s *scene) {
			p, at := s.helped(50999)
			wantRefused(s.stage.t, s.Client(), at.String())
			p.ask("LIST", "425 nobody has come")
		},
		code: "server_data_unreachable", text: "the server does not take data connections at 203.0.113.21:50999: connection refused",
		remedy: "open the server's passive ports for the gateway in the server's firewall",
		line:   []string{"session connected", "pinhole opened by the kernel", "data the client came", "fault the server does not take"},
	},
	{
		name: "nobody comes for data", provoke: func(s *scene) {
			p, _ := s.helped(50999)
			p.ask("LIST", "425 nobody has come")
		},
		code: "fine", text: "nothing went wrong: no transfer yet", line: []string{"session connected"}, never: "pinhole",
	},
}
