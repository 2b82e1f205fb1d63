// Package ftptest is an FTP server and a client for tests of what stands between the two. Both are on
// loopback and take no privilege. They know passive mode only, and trust their peer.
package ftptest

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
)

// Patience is how long a test waits for what must happen. It bounds failures only.
const Patience = time.Minute

// Server is a server that greets with its name, and sends an empty file when the test says so. Each command
// but USER, PASV and RETR gets 200.
type Server struct {
	addr     netip.AddrPort
	name     string
	finish   chan struct{} // each receive ends a transfer
	sessions sync.WaitGroup
}

// NewServer starts a server, which ends with the test.
func NewServer(t *testing.T, name string) *Server {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{addr: l.Addr().(*net.TCPAddr).AddrPort(), name: name, finish: make(chan struct{})}
	s.sessions.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			s.sessions.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(s.finish)
		s.sessions.Wait()
	})
	return s
}

func (s *Server) serve(c *net.TCPConn) {
	defer c.Close()
	fmt.Fprintf(c, "220 %s\r\n", s.name)
	data, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer data.Close()
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		switch verb, _, _ := strings.Cut(lines.Text(), " "); verb {
		case "USER":
			fmt.Fprint(c, "230 logged in\r\n")
		case "PASV":
			port := data.Addr().(*net.TCPAddr).Port
			fmt.Fprintf(c, "227 entering passive mode (127,0,0,1,%d,%d)\r\n", port>>8, port&0xff)
		case "RETR":
			fmt.Fprint(c, "150 here it comes\r\n")
			if file, err := data.Accept(); err == nil {
				<-s.finish
				file.Close()
			}
			fmt.Fprint(c, "226 done\r\n")
		default:
			fmt.Fprint(c, "200 fine\r\n")
		}
	}
}

// Forward returns a forward to the server, with tracking proxy and the relay.
func (s *Server) Forward(name string, listen netip.AddrPort) forward.Forward {
	return forward.Forward{Name: name, Tracking: forward.TrackingProxy, Data: forward.DataRelay,
		Listen: forward.Listen{Addr: listen.Addr(), Port: listen.Port()},
		Server: forward.Server{Host: s.addr.Addr().String(), Port: s.addr.Port()}}
}

// Resolved returns the same forward with the server's address.
func (s *Server) Resolved(name string, listen netip.AddrPort) forward.Resolved {
	addr := s.addr.Addr()
	return forward.Resolved{Forward: s.Forward(name, listen), Server4: addr, Servers: []netip.Addr{addr}}
}

// FreePort returns an address of loopback at whose port no program listens. The port is below those that the
// kernel gives to connections, so that none takes it meanwhile.
func FreePort(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		port := uint16(20000 + rand.N(10000))
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		l.Close()
		return netip.AddrPortFrom(loopback, port)
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Client is a control connection.
type Client struct {
	net.Conn
	t     *testing.T
	lines *bufio.Reader
	data  net.Conn // of the transfer in progress
}

// Dial connects to an address. The connection is closed with the test.
func Dial(t *testing.T, at netip.AddrPort) *Client {
	t.Helper()
	c, err := net.DialTimeout("tcp", at.String(), Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(Patience))
	return &Client{Conn: c, t: t, lines: bufio.NewReader(c)}
}

// Want reads a line, and compares its beginning.
func (c *Client) Want(prefix string) {
	c.t.Helper()
	line, err := c.lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		c.t.Fatalf("got %q, error %v; want %q", line, err, prefix)
	}
}

// WantEnd reads the reply that ends a session, with the beginning of its reason, and closes the connection,
// for which the gateway waits a second.
func (c *Client) WantEnd(reason string) {
	c.t.Helper()
	c.Want("421 " + reason)
	c.Close()
}

// Send sends a line.
func (c *Client) Send(line string) {
	c.t.Helper()
	if _, err := fmt.Fprint(c, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
}

// Transfer reads the greeting, logs in, and starts a transfer, which Finish ends.
func (c *Client) Transfer() {
	c.t.Helper()
	c.Want("220 ")
	c.Send("USER anonymous")
	c.Want("230 ")
	c.Send("PASV")
	var high, low uint16
	line, err := c.lines.ReadString('\n')
	if _, address, ok := strings.Cut(line, "(127,0,0,1,"); ok {
		_, err = fmt.Sscanf(address, "%d,%d)", &high, &low)
	}
	if err != nil || high == 0 {
		c.t.Fatalf("got %q, error %v; want the address of a data connection", line, err)
	}
	c.Send("RETR file")
	c.data = Dial(c.t, netip.AddrPortFrom(loopback, high<<8|low))
	c.Want("150 ")
}

// Finish lets the server end the transfer.
func (c *Client) Finish(s *Server) {
	c.t.Helper()
	s.finish <- struct{}{}
	if file, err := io.ReadAll(c.data); len(file) > 0 || err != nil {
		c.t.Errorf("got file %q, error %v; want an empty file", file, err)
	}
	c.data.Close()
	c.Want("226 ")
}
