package ftps

import (
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// passthroughTestbed is a testbed whose forward passes encrypted sessions through. The server listens
// at one of its passive ports.
type passthroughTestbed struct {
	*harness.Testbed
	dataListener net.Listener
	dataAddress  netip.AddrPort // the same port at the gateway
}

// newPassthroughTestbed runs ftpgate forward. command prepares it with its arguments.
func newPassthroughTestbed(t *testing.T, with func(...string) *exec.Cmd,
	flags ...string) *passthroughTestbed {
	t.Helper()
	l := labtest.New(t)
	s := &passthroughTestbed{
		Testbed: &harness.Testbed{Lab: l, T: t, Address: harness.Gateway4,
			Listener: harness.Listen(t, l.Server(), harness.Server4)},
		dataListener: harness.Listen(t, l.Server(), netip.AddrPortFrom(lab.ServerAddr4,
			peers.PassiveMin).String()),
		dataAddress: netip.AddrPortFrom(lab.GatewayLAN4, peers.PassiveMin),
	}
	args := append(append([]string{"forward", "--server-ports", peers.PassiveRange}, flags...),
		harness.Gateway4, harness.Server4)
	s.Program = harness.StartCommand(t, l.Gateway(), with(args...)).AwaitReady()
	return s
}

// connectFrom starts a session from a client's address, up to the server's 234.
func (s *passthroughTestbed) connectFrom(client netip.Addr) harness.Session {
	s.T.Helper()
	c, err := harness.DialFrom(s.T, s.Client(), client, netip.MustParseAddrPort(s.Address))
	if err != nil {
		s.T.Fatal(err)
	}
	p := harness.Session{Testbed: s.Testbed, Client: harness.NewControlConn(s.T, "the client", c),
		Server: harness.NewControlConn(s.T, "the server", harness.Accept(s.T, s.Listener))}
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	p.Exchange("AUTH TLS", "234 go on")
	return p
}

func (s *passthroughTestbed) wantReachable(want bool, client netip.Addr, when string) {
	s.T.Helper()
	if got := reachable(s.T, s.Client(), client, s.dataAddress, s.dataListener); got != want {
		s.T.Errorf("%s: %s reaches the server's passive ports: got %t; want %t", when, client, got, want)
	}
}

// TestPassthroughPorts checks which client reaches the server's passive ports, and how long: one with
// an encrypted session, no other, and none after its last session.
func TestPassthroughPorts(t *testing.T) {
	t.Parallel()
	unexpected, other := netip.MustParseAddr("192.168.5.66"), netip.MustParseAddr("192.168.5.67")
	for name, tt := range map[string]struct {
		with  func(*testing.T) func(...string) *exec.Cmd
		flags []string
	}{
		"kernel": {privileged, harness.DataPaths["kernel"]},
		"relay":  {privileged, harness.DataPaths["relay"]},
		"ordinary user": {func(t *testing.T) func(...string) *exec.Cmd {
			return func(args ...string) *exec.Cmd { return harness.UnprivilegedCommand(t, args...) }
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newPassthroughTestbed(t, tt.with(t), append([]string{"--drain", "1s"}, tt.flags...)...)
			for _, a := range []netip.Addr{unexpected, other} {
				harness.AddAddress(t, s.Client(), lab.ClientLink, a.String()+"/24")
			}
			s.wantReachable(false, lab.ClientAddr4, "before any session")
			first, second := s.connectFrom(lab.ClientAddr4), s.connectFrom(lab.ClientAddr4)
			third := s.connectFrom(other)
			s.wantReachable(false, lab.ClientAddr4, "after AUTH alone")
			for _, p := range []harness.Session{first, second, third} {
				endHandshake(p)
			}
			s.wantReachable(true, lab.ClientAddr4, "in a session")
			s.wantReachable(true, other, "in a session")
			s.wantReachable(false, unexpected, "without a session")
			first.Client.Close()
			first.Server.ExpectClose()
			s.wantReachable(true, lab.ClientAddr4, "in the other session")
			second.Server.Close()
			second.Client.ExpectClose()
			harness.Await(t, "the range is closed after the client's last session", func() bool {
				return !reachable(t, s.Client(), lab.ClientAddr4, s.dataAddress, s.dataListener)
			})
			s.wantReachable(true, other, "in a session that goes on")
			third.Client.Close()
			third.Server.ExpectClose()
			harness.Await(t, "the range is closed after the last session", func() bool {
				return !reachable(t, s.Client(), other, s.dataAddress, s.dataListener)
			})
			s.Program.Interrupt()
		})
	}
}

// endHandshake exchanges the records with which a TLS handshake ends, and first ones of data. Each is as long
// as a line that ends with CRLF.
func endHandshake(p harness.Session) {
	p.T.Helper()
	record := func(typ byte) string { // what is in it is not read; the line's end is its last two bytes
		return string([]byte{typ, 3, 3, 0, 40}) + strings.Repeat("x", 38)
	}
	p.Exchange(record(22), record(22))
	p.Exchange(record(22), record(20))
	p.Exchange(record(23), record(23))
}

func privileged(*testing.T) func(...string) *exec.Cmd { return harness.Command }

// A server that refuses AUTH changes nothing.
func TestPassthroughRefusedByServer(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newPassthroughTestbed(t, harness.Command, flags...)
			p := s.Connect()
			p.Server.Send("220 ready")
			p.Client.Expect("220")
			p.Exchange("AUTH TLS", "502 never heard of it")
			s.wantReachable(false, lab.ClientAddr4, "after a no")
			p.Exchange("USER alice", "331 and the password")
			p.Exchange("PASS "+harness.Password, "230 welcome")
			p.Retrieve(netip.Addr{}).Complete()
			p.Quit()
		})
	}
}

// What a client sends together with AUTH reaches the server complete and unparsed.
func TestPassthroughKeepsOrder(t *testing.T) {
	t.Parallel()
	s := newPassthroughTestbed(t, harness.Command)
	p := s.Connect()
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	p.Client.Send("AUTH TLS\r\n\x16\x03\x01 begins at once")
	p.Server.Expect("AUTH TLS")
	p.Server.Send("234 go on")
	p.Client.Expect("234")
	p.Server.Expect("\x16\x03\x01 begins at once")
}

// reachable reports whether a byte from an address reaches the server's listener, and one comes back. A
// connection alone proves nothing: the relay accepts before it checks the client's address.
func reachable(t *testing.T, h *lab.Host, from netip.Addr, to netip.AddrPort, server net.Listener) bool {
	t.Helper()
	c, err := harness.DialFrom(t, h, from, to)
	if err != nil {
		return false
	}
	defer c.Close()
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		if conn, err := server.Accept(); err == nil {
			defer conn.Close()
			_, _ = io.CopyN(conn, conn, 1)
		}
	}()
	_, _ = c.Write([]byte("?")) // a reset shows in the read below
	_, err = io.ReadFull(c, make([]byte, 1))
	_ = server.(*net.TCPListener).SetDeadline(time.Now())
	<-echoed
	_ = server.(*net.TCPListener).SetDeadline(time.Time{})
	return err == nil
}
