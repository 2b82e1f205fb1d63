package e2e

import (
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// passageStage is a stage whose forward passes encrypted sessions through; the server listens at one of
// its passive ports.
type passageStage struct {
	*stage
	data net.Listener
	at   netip.AddrPort // the same port of the gateway
}

// newPassage runs ftpgate by a command, which gets its arguments.
func newPassage(t *testing.T, with func(...string) *exec.Cmd, flags ...string) *passageStage {
	t.Helper()
	l := labtest.New(t)
	s := &passageStage{
		stage: &stage{Lab: l, t: t, dial: gateway4, control: listen(t, l.Server(), server4)},
		data:  listen(t, l.Server(), netip.AddrPortFrom(lab.ServerAddr4, passiveFrom).String()),
		at:    netip.AddrPortFrom(lab.GatewayLAN4, passiveFrom),
	}
	args := append(append([]string{"forward"}, append(passedThrough(), flags...)...), gateway4, server4)
	s.gate = launch(t, l.Gateway(), with(args...)).ready()
	return s
}

// from begins a session of a client's address, up to the server's yes to AUTH.
func (s *passageStage) from(client netip.Addr) pair {
	s.t.Helper()
	c, err := dialFrom(s.t, s.Client(), client, netip.MustParseAddrPort(s.dial))
	if err != nil {
		s.t.Fatal(err)
	}
	p := pair{s.stage, newWire(s.t, "the client", c), newWire(s.t, "the server", accept(s.t, s.control))}
	p.server.say("220 ready")
	p.client.hear("220")
	p.ask("AUTH TLS", "234 go on")
	return p
}

func (s *passageStage) wantReach(want bool, client netip.Addr, when string) {
	s.t.Helper()
	if got := reaches(s.t, s.Client(), client, s.at, s.data); got != want {
		s.t.Errorf("%s: %s reaches the server's passive ports: got %t; want %t", when, client, got, want)
	}
}

// TestFTPSPassage holds who reaches the server's passive ports, and for how long: the client of a session
// that has become unreadable, nobody else, and nobody after its last session.
func TestFTPSPassage(t *testing.T) {
	stranger, other := netip.MustParseAddr("192.168.5.66"), netip.MustParseAddr("192.168.5.67")
	for name, tt := range map[string]struct {
		with  func(*testing.T) func(...string) *exec.Cmd
		flags []string
	}{
		"kernel": {privileged, dataPaths["kernel"]},
		"relay":  {privileged, dataPaths["relay"]},
		"ordinary user": {func(t *testing.T) func(...string) *exec.Cmd {
			return func(args ...string) *exec.Cmd { return unprivileged(t, args...) }
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newPassage(t, tt.with(t), tt.flags...)
			for _, a := range []netip.Addr{stranger, other} {
				addAddress(t, s.Client(), lab.ClientLink, a.String()+"/24")
			}
			s.wantReach(false, lab.ClientAddr4, "before any session")
			first, second := s.from(lab.ClientAddr4), s.from(lab.ClientAddr4)
			third := s.from(other)
			for _, p := range []pair{first, second, third} {
				p.ask("\x16\x03\x01\x00\xffunread, and none of FTP", "\x15\x00\xfe") // nobody reads it
			}
			s.wantReach(true, lab.ClientAddr4, "in a session")
			s.wantReach(true, other, "in a session")
			s.wantReach(false, stranger, "without a session")
			first.client.Close()
			first.server.ended()
			s.wantReach(true, lab.ClientAddr4, "in the other session")
			second.server.Close()
			second.client.ended()
			becomes(t, "the range is closed after the client's last session", func() bool {
				return !reaches(t, s.Client(), lab.ClientAddr4, s.at, s.data)
			})
			s.wantReach(true, other, "in a session that goes on")
			third.client.Close()
			third.server.ended()
			becomes(t, "the range is closed after the last session", func() bool {
				return !reaches(t, s.Client(), other, s.at, s.data)
			})
			s.gate.interrupt()
		})
	}
}

func privileged(*testing.T) func(...string) *exec.Cmd { return command }

// A server that refuses AUTH leaves everything as it was.
func TestFTPSPassageRefusedByServer(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newPassage(t, command, flags...)
			p := s.connect()
			p.server.say("220 ready")
			p.client.hear("220")
			p.ask("AUTH TLS", "502 never heard of it")
			s.wantReach(false, lab.ClientAddr4, "after a no")
			p.ask("USER somebody", "331 and the password")
			p.ask("PASS "+scriptPassword, "230 welcome")
			p.retrieve(netip.Addr{}).complete()
			p.quit()
		})
	}
}

// What a client sends together with AUTH is not for the gateway, and nothing of it is lost or read.
func TestFTPSPassageKeepsOrder(t *testing.T) {
	t.Parallel()
	s := newPassage(t, command)
	p := s.connect()
	p.server.say("220 ready")
	p.client.hear("220")
	p.client.say("AUTH TLS\r\n\x16\x03\x01 begins at once")
	p.server.hear("AUTH TLS")
	p.server.say("234 go on")
	p.client.hear("234")
	p.server.hear("\x16\x03\x01 begins at once")
}
