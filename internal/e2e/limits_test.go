package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
)

// Who does not log in has its time and no more, however busy it seems.
func TestLoginTime(t *testing.T) {
	t.Parallel()
	s := newStage(t, "--login-time", "2s")
	p := s.connect()
	p.server.say("220 ready")
	p.client.hear("220")
	ctx, cancel := context.WithCancel(t.Context())
	var dribble sync.WaitGroup
	dribble.Go(func() { p.client.dribbles(ctx) })
	p.client.hear("421")
	cancel()
	dribble.Wait()
	p.server.ended()
	s.gate.await("kind=time", 1)
	s.serves()
}

// dribbles writes a byte now and then, and no line.
func (w *wire) dribbles(ctx context.Context) {
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

// Sessions that are only begun count: who has too many is told so, and has the place back with the
// end of one.
func TestSessionsPerClient(t *testing.T) {
	t.Parallel()
	const most = 3
	s := newStage(t, "--max-sessions-per-client", fmt.Sprint(most))
	var open []pair
	for range most {
		open = append(open, s.connect())
	}
	extra := s.extraClient()
	extra.hear("421")
	extra.ended()
	s.gate.await("kind=limit", 1)
	stranger := netip.MustParseAddr("192.168.5.66")
	addAddress(t, s.Client(), lab.ClientLink, stranger.String()+"/24")
	if _, err := dialFrom(t, s.Client(), stranger, site4.listen); err != nil {
		t.Fatal(err)
	}
	other := newWire(t, "the server", accept(t, s.control)) // another address has places of its own
	other.Close()
	s.gate.await("session ends", 1)
	open[0].client.Close()
	s.gate.await("session ends", 2)
	s.serves()
}

// The limit on all sessions counts those of every client.
func TestSessionsInAll(t *testing.T) {
	t.Parallel()
	s := newStage(t, "--max-sessions", "1")
	p := s.login()
	extra := s.extraClient()
	extra.hear("421")
	extra.ended()
	s.gate.await("kind=limit", 1)
	p.stillThere()
	p.quit()
	s.gate.await("session ends", 1)
	s.serves()
}

// extraClient connects where the server will hear nothing of it.
func (s *stage) extraClient() *wire {
	s.t.Helper()
	c, err := s.Client().Dial(s.t.Context(), "tcp", s.dial)
	if err != nil {
		s.t.Fatal(err)
	}
	return newWire(s.t, "the client", c)
}

// Wrong passwords end the session.
func TestLoginFailures(t *testing.T) {
	t.Parallel()
	s := newStage(t, "--max-login-failures", "2")
	p := s.connect()
	p.server.say("220 ready")
	p.client.hear("220")
	p.ask("USER somebody", "331 and the password")
	p.ask("PASS "+scriptPassword+"1", "530 wrong")
	p.client.say("USER somebody")
	p.server.hear("USER")
	p.server.say("331 and the password")
	p.client.hear("331")
	p.client.say("PASS %s2", scriptPassword)
	p.server.hear("PASS")
	p.server.say("530 wrong")
	if said := p.client.ended(); !strings.Contains(said, "421") {
		t.Errorf("got %q; want a 421 in it", said)
	}
	s.gate.await("kind=login", 2)
	s.serves()
}

// A client that never comes to its pinhole leaves none behind, and hears what its server says of it.
func TestClientNeverConnects(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, flags...)
			p := s.login()
			_, at := p.passive(netip.Addr{})
			p.ask("LIST", "425 nobody has come")
			p.ask("NOOP", "200 done")
			if path == "kernel" {
				s.wantHoles(0, "after 425")
			}
			s.wantNothingThrough(lab.ClientAddr4, at)
			_, at = p.active()
			p.ask("LIST", "425 cannot connect")
			p.ask("NOOP", "200 done")
			if path == "kernel" {
				s.wantHoles(0, "after 425 in active mode")
			}
			if c, err := dialFrom(t, s.Server(), lab.ServerAddr4, at); err == nil {
				if _, err := c.Read(make([]byte, 1)); err == nil || err.(net.Error).Timeout() {
					t.Errorf("the server to %s: %v; want it ended", at, err)
				}
			}
			s.serves()
		})
	}
}

// Where no port is left the client is told so, and served as soon as there is one.
func TestPassivePortsExhausted(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, append(flags, "--passive-ports", "50000-50001")...)
			first, second, third := s.login(), s.login(), s.login()
			_, a := first.passive(netip.Addr{})
			_, b := second.passive(netip.Addr{})
			if int(a.Port())+int(b.Port()) != 50000+50001 {
				t.Errorf("got ports %d and %d; want 50000 and 50001", a.Port(), b.Port())
			}
			third.client.say("PASV")
			third.server.hear("PASV")
			third.server.say("227 ok (203,0,113,21,200,200)")
			third.client.hear("425")
			s.gate.await("kind=no_port", 1)
			wantLines(t, s.gate.text(), "50000-50001")
			first.quit()
			s.gate.await("session ends", 1)
			third.retrieve(netip.Addr{}).complete()
			second.quit()
			s.serves()
		})
	}
}
