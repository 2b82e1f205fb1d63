package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// A client that does not log in is ended after login_time, even if it keeps sending.
func TestLoginTime(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t, "--login-time", "2s")
	p := s.Connect()
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	ctx, cancel := context.WithCancel(t.Context())
	var dribble sync.WaitGroup
	dribble.Go(func() { sendSlowly(p.Client, ctx) })
	p.Client.Expect("421")
	cancel()
	dribble.Wait()
	p.Server.ExpectClose()
	s.Program.AwaitLog("kind=time", 1)
	s.WantService()
}

// sendSlowly sends a byte now and then, and no line.
func sendSlowly(w *harness.ControlConn, ctx context.Context) {
	pace := time.NewTicker(100 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
			if _, err := w.Write([]byte("U")); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// The limit of sessions per client counts sessions that have not logged in, and frees a place when one
// ends.
func TestSessionsPerClient(t *testing.T) {
	t.Parallel()
	const most = 3
	s := harness.NewTestbed(t, "--max-sessions-per-client", fmt.Sprint(most))
	var open []harness.Session
	for range most {
		open = append(open, s.Connect())
	}
	extra := s.ConnectClient()
	extra.Expect("421")
	extra.ExpectClose()
	s.Program.AwaitLog("kind=limit", 1)
	otherClient := netip.MustParseAddr("192.168.5.66")
	harness.AddAddress(t, s.Client(), lab.ClientLink, otherClient.String()+"/24")
	if _, err := harness.DialFrom(t, s.Client(), otherClient, harness.Forward4.Listen); err != nil {
		t.Fatal(err)
	}
	// Another address has a limit of its own.
	other := harness.NewControlConn(t, "the server", harness.Accept(t, s.Listener))
	other.Close()
	s.Program.AwaitLog("session ends", 1)
	open[0].ClientLeaves()
	s.Program.AwaitLog("session ends", 2)
	s.WantService()
}

// The limit of all sessions counts every client.
func TestSessionsInAll(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t, "--max-sessions", "1")
	p := s.Login()
	extra := s.ConnectClient()
	extra.Expect("421")
	extra.ExpectClose()
	s.Program.AwaitLog("kind=limit", 1)
	p.WantAlive()
	p.Quit()
	s.Program.AwaitLog("session ends", 1)
	s.WantService()
}

// Wrong passwords end the session.
func TestLoginFailures(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t, "--max-login-failures", "2")
	p := s.Connect()
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	p.Exchange("USER alice", "331 and the password")
	p.Exchange("PASS "+harness.Password+"1", "530 wrong")
	p.Client.Send("USER alice")
	p.Server.Expect("USER")
	p.Server.Send("331 and the password")
	p.Client.Expect("331")
	p.Client.Send("PASS %s2", harness.Password)
	p.Server.Expect("PASS")
	p.Server.Send("530 wrong")
	if reply := p.Client.ExpectClose(); !strings.Contains(reply, "421") {
		t.Errorf("got %q; want a 421 in it", reply)
	}
	s.Program.AwaitLog("kind=login", 2)
	s.WantService()
}

// A client that never connects leaves no pinhole, and gets the server's reply.
func TestClientNeverConnects(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, flags...)
			p := s.Login()
			_, at := p.Passive(netip.Addr{})
			p.Exchange("LIST", "425 no connection")
			p.Exchange("NOOP", "200 done")
			if path == "kernel" {
				s.WantPinholes(0, "after 425")
			}
			s.WantNoData(lab.ClientAddr4, at)
			_, at = p.Active()
			p.Exchange("LIST", "425 cannot connect")
			p.Exchange("NOOP", "200 done")
			if path == "kernel" {
				s.WantPinholes(0, "after 425 in active mode")
			}
			if c, err := harness.DialFrom(t, s.Server(), lab.ServerAddr4, at); err == nil {
				if _, err := c.Read(make([]byte, 1)); err == nil || err.(net.Error).Timeout() {
					t.Errorf("the server to %s: %v; want it ended", at, err)
				}
			}
			s.WantService()
		})
	}
}

// A client hears that no port is left, and is served as soon as one is free.
func TestPassivePortsExhausted(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, append(flags, "--passive-ports", "50000-50001")...)
			first, second, third := s.Login(), s.Login(), s.Login()
			_, a := first.Passive(netip.Addr{})
			_, b := second.Passive(netip.Addr{})
			if int(a.Port())+int(b.Port()) != 50000+50001 {
				t.Errorf("got ports %d and %d; want 50000 and 50001", a.Port(), b.Port())
			}
			third.Client.Send("PASV")
			third.Server.Expect("PASV")
			third.Server.Send("227 ok (203,0,113,21,200,200)")
			third.Client.Expect("425")
			s.Program.AwaitLog("kind=no_port", 1)
			harness.WantContains(t, s.Program.Log(), "50000-50001")
			first.Quit()
			s.Program.AwaitLog("session ends", 1)
			third.Retrieve(netip.Addr{}).Complete()
			second.Quit()
			s.WantService()
		})
	}
}
