package harness

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// Testbed is a lab with a running ftpgate between a scripted server and scripted clients.
type Testbed struct {
	*lab.Lab
	T        *testing.T
	Program  *Program
	Listener net.Listener // the server's
	Address  string       // where clients connect
}

// Password is what clients log in with. No log may have it.
const Password = "never-to-be-logged"

// NewTestbed runs ftpgate forward with flags, in front of a scripted server.
func NewTestbed(t *testing.T, flags ...string) *Testbed {
	t.Helper()
	l := labtest.New(t)
	s := &Testbed{Lab: l, T: t, Address: Gateway4, Listener: Listen(t, l.Server(), Server4)}
	s.StartProgram(append(append([]string{"forward"}, flags...), Gateway4, Server4)...)
	return s
}

// For returns the same testbed for a subtest.
func (s *Testbed) For(t *testing.T) *Testbed {
	return &Testbed{Lab: s.Lab, T: t, Program: s.Program.For(t), Listener: s.Listener, Address: s.Address}
}

// StartProgram runs ftpgate on the gateway.
func (s *Testbed) StartProgram(args ...string) {
	s.T.Helper()
	s.Program = Start(s.T, s.Gateway(), args...).AwaitReady()
	program := s.Program
	s.T.Cleanup(func() {
		if strings.Contains(program.Log(), Password) {
			s.T.Error("the log has a password in it")
		}
	})
}

// Connect starts a session. The server has accepted it and has not greeted.
func (s *Testbed) Connect() Session {
	s.T.Helper()
	return Session{s, s.ConnectClient(), NewControlConn(s.T, "the server", Accept(s.T, s.Listener))}
}

// Login starts a session and logs in.
func (s *Testbed) Login() Session {
	s.T.Helper()
	p := s.ConnectGreeted()
	p.login()
	return p
}

// WantService expects that a well-behaved client is served, in passive and active mode.
func (s *Testbed) WantService() {
	s.T.Helper()
	p := s.Login()
	p.Retrieve(netip.Addr{}).Complete()
	p.RetrieveActive().Complete()
	p.Quit()
}

// ConnectClient connects a client that gets no server.
func (s *Testbed) ConnectClient() *ControlConn {
	s.T.Helper()
	c, err := s.Client().Dial(s.T.Context(), "tcp", s.Address)
	if err != nil {
		s.T.Fatal(err)
	}
	return NewControlConn(s.T, "the client", c)
}

// WantNoData expects that a connection to address is refused, or ended without a byte.
func (s *Testbed) WantNoData(from netip.Addr, at netip.AddrPort) {
	s.T.Helper()
	c, err := DialFrom(s.T, s.Client(), from, at)
	if err != nil {
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			s.T.Errorf("%s to %s: got %v; want it refused", from, at, err)
		}
		return
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
		s.T.Errorf("%s to %s: got %d bytes, error %v; want the connection ended", from, at, n, err)
	}
}

// ConnectGreeted starts a session in clear, up to the server's greeting.
func (s *Testbed) ConnectGreeted() Session {
	s.T.Helper()
	p := s.Connect()
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	return p
}
