package proxy

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// A data connection ends when its ends end it: an upload continues where the client closes its control
// connection behind the data, also while the gateway drains.
func TestUploadOutlivesSession(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, append(flags, "--drain", "20s")...)
			p := s.Login()
			b := upload(p)
			first, second := harness.RandomBytes(300_000), harness.RandomBytes(300_000)
			if _, err := b.ClientData.Write(first); err != nil {
				t.Fatal(err)
			}
			p.Client.Close()
			p.Server.ExpectClose()
			p.Server.Close()
			if path == "relay" {
				s.Program.AwaitLog("data continues", 1)
			} else {
				s.Program.AwaitLog("session ends", 1)
			}
			s.Program.Signal(syscall.SIGTERM)
			if _, err := b.ClientData.Write(second); err != nil {
				t.Fatal(err)
			}
			b.ClientData.Close()
			got, err := io.ReadAll(b.ServerData)
			if err != nil || !bytes.Equal(got, append(first, second...)) {
				t.Errorf("the server got %d bytes, %v; want all %d", len(got), err, len(first)+len(second))
			}
			b.ServerData.Close()
			s.Program.AwaitLog("session ends", 1)
			if got := s.Program.Wait(); got != 0 {
				t.Errorf("got exit status %d; want 0", got)
			}
		})
	}
}

// upload starts an upload in passive mode.
func upload(p harness.Session) harness.Transfer {
	p.T.Helper()
	data, at := p.Passive(netip.Addr{})
	c, err := harness.DialFrom(p.T, p.Lab.Client(), lab.ClientAddr4, at)
	if err != nil {
		p.T.Fatal(err)
	}
	server := harness.Accept(p.T, data)
	p.Exchange("STOR file", "150 send it")
	return harness.Transfer{Session: p, ServerData: server, ClientData: c, Address: at}
}

// What continues after its session is ended when the time to drain is over.
func TestDrainEndsUpload(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t, "--data", "relay", "--drain", "1s")
	p := s.Login()
	b := upload(p)
	p.Close()
	s.Program.AwaitLog("data continues", 1)
	s.Program.Signal(syscall.SIGTERM)
	harness.WantBroken(t, "the server", b.ServerData)
	harness.WantBroken(t, "the client", b.ClientData)
	if got := s.Program.Wait(); got != 0 {
		t.Errorf("got exit status %d; want 0", got)
	}
}

// Two clients have the only passive port at the same time.
func TestPassivePortShared(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, append(flags, "--passive-ports", "50000-50000")...)
			second := netip.MustParseAddr("192.168.5.66")
			harness.AddAddress(t, s.Client(), lab.ClientLink, second.String()+"/24")
			first := s.Login()
			a := first.Retrieve(netip.Addr{})
			c, err := harness.DialFrom(t, s.Client(), second, netip.MustParseAddrPort(s.Address))
			if err != nil {
				t.Fatal(err)
			}
			other := harness.Session{Testbed: s, Client: harness.NewControlConn(t, "the second client", c),
				Server: harness.NewControlConn(t, "the server", harness.Accept(t, s.Listener))}
			other.Server.Send("220 ready")
			other.Client.Expect("220")
			other.Exchange("USER alice", "331 and the password")
			other.Exchange("PASS "+harness.Password, "230 welcome")
			b := other.Retrieve(netip.Addr{})
			if a.Address != b.Address {
				t.Errorf("got %s and %s; want one port", a.Address, b.Address)
			}
			b.Complete()
			a.Complete()
		})
	}
}

// An active client sees the server's source port, also where it uses one port for all transfers.
func TestActiveSourcePort(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, flags...)
			p := s.Login()
			client := harness.Listen(t, s.Client(), "192.168.5.1:45000").(*net.TCPListener)
			for range 3 {
				p.Client.Send("PORT %s", harness.FormatHostPort(netip.MustParseAddrPort("192.168.5.1:45000")))
				at := harness.ParseHostPort(t, p.Server.Expect("PORT"))
				p.Server.Send("200 fine")
				p.Client.Expect("200")
				p.Client.Send("RETR file")
				p.Server.Expect("RETR file")
				server := dialFromPort20(t, s, at)
				c := harness.Accept(t, client)
				if got := c.RemoteAddr().(*net.TCPAddr).Port; got != 20 {
					t.Errorf("the client sees port %d; want 20", got)
				}
				p.Server.Send("150 here it comes")
				p.Client.Expect("150")
				b := harness.Transfer{Session: p, ServerData: server, ClientData: c, Address: at}
				b.Complete()
			}
		})
	}
}

// dialFromPort20 connects as servers do that follow RFC 959 to the letter.
func dialFromPort20(t *testing.T, s *harness.Testbed, to netip.AddrPort) (c net.Conn) {
	t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second, Control: reuseAddr,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(lab.ServerAddr4, 20))}
	err := s.Server().Do(func() (err error) {
		c, err = d.DialContext(t.Context(), "tcp", to.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func reuseAddr(_, _ string, raw syscall.RawConn) error {
	var err error
	if errControl := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}); errControl != nil {
		return errControl
	}
	return err
}
