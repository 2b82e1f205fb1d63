package listeners

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/dataplane/path"
	"ftpgate/internal/observe/sessions"
)

// patience is how long a test waits for what must happen. It bounds failures only.
const patience = 10 * time.Second

// ftpServer is a server that greets with its name, and sends a file when the test says so.
type ftpServer struct {
	listener *net.TCPListener
	name     string
	finish   chan struct{} // each receive ends a transfer
	sessions sync.WaitGroup
}

func newFTPServer(t *testing.T, name string) *ftpServer {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &ftpServer{listener: l, name: name, finish: make(chan struct{})}
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

func (s *ftpServer) serve(c *net.TCPConn) {
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

// forwardTo returns a forward with tracking proxy from a listen address to a server.
func forwardTo(name string, listen netip.AddrPort, s *ftpServer) forward.Resolved {
	to := s.listener.Addr().(*net.TCPAddr).AddrPort()
	f := forward.Resolved{Server4: to.Addr(), Servers: []netip.Addr{to.Addr()}}
	f.Name, f.Tracking, f.Data = name, forward.TrackingProxy, forward.DataRelay
	f.Listen.Addr, f.Listen.Port = listen.Addr(), listen.Port()
	f.Server.Host, f.Server.Port = to.Addr().String(), to.Port()
	return f
}

// freePort returns an address of loopback at whose port nobody listens. The port is below those that the
// kernel gives to connections, so that none takes it meanwhile.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		port := uint16(20000 + rand.N(10000))
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		l.Close()
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

// gateway is a set with what it logs and refuses.
type gateway struct {
	*Set
	t   *testing.T
	log *strings.Builder

	mu      sync.Mutex
	refused []string // "forward kind"
}

// newGateway returns an empty set, which the test's end stops.
func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, log: &strings.Builder{}}
	log := slog.New(slog.NewTextHandler(g.log, nil))
	paths := path.NewPaths("ftpgate-test", log)
	if err := paths.Update(nil, false); err != nil { // the relay only, which takes no privilege
		t.Fatal(err)
	}
	g.Set = New(Shared{
		Log:      log,
		Counts:   &dialogue.Counts{},
		Journal:  sessions.New(time.Now()),
		DataPath: paths.Of,
		Refused: func(f forward.Resolved, kind dialogue.Refusal) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.refused = append(g.refused, f.Name+" "+kind.String())
		},
	})
	t.Cleanup(func() {
		g.Stop(0)
		paths.Close()
	})
	return g
}

// serve opens and serves the forwards, and expects no finding.
func (g *gateway) serve(drain time.Duration, forwards ...forward.Resolved) {
	g.t.Helper()
	opened, findings := g.Open(context.Background(), forwards)
	if len(findings) > 0 {
		g.t.Fatalf("got findings %v; want none", findings)
	}
	g.Serve(context.Background(), forwards, opened, drain)
	if len(opened) > 0 {
		g.t.Errorf("got %d sockets left over; want all served", len(opened))
	}
}

// client is a control connection of the test.
type client struct {
	net.Conn
	t     *testing.T
	lines *bufio.Reader
	data  net.Conn // of the transfer in progress
}

func dial(t *testing.T, at netip.AddrPort) *client {
	t.Helper()
	c, err := net.DialTimeout("tcp", at.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{Conn: c, t: t, lines: bufio.NewReader(c)}
}

// want reads a line, and compares it with the beginning that is wanted.
func (c *client) want(prefix string) {
	c.t.Helper()
	line, err := c.lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		c.t.Fatalf("got %q, error %v; want %q", line, err, prefix)
	}
}

// wantEnd reads the reply that ends a session, and closes the connection, for which the gateway waits a
// second.
func (c *client) wantEnd() {
	c.t.Helper()
	c.want("421 ")
	c.Close()
}

// transfer logs in, and starts a transfer, which the server ends.
func (c *client) transfer() {
	c.t.Helper()
	c.want("220 ")
	c.send("USER anonymous")
	c.want("230 ")
	c.send("PASV")
	var high, low uint16
	line, err := c.lines.ReadString('\n')
	if _, address, ok := strings.Cut(line, "(127,0,0,1,"); ok {
		_, err = fmt.Sscanf(address, "%d,%d)", &high, &low)
	}
	if err != nil || high == 0 {
		c.t.Fatalf("got %q, error %v; want the address of a data connection", line, err)
	}
	c.send("RETR file")
	c.data = dial(c.t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), high<<8|low))
	c.want("150 ")
}

// finish lets the server end the transfer.
func (c *client) finish(s *ftpServer) {
	c.t.Helper()
	s.finish <- struct{}{}
	if file, err := io.ReadAll(c.data); len(file) > 0 || err != nil {
		c.t.Errorf("got file %q, error %v; want an empty file", file, err)
	}
	c.data.Close()
	c.want("226 ")
}

func (c *client) send(line string) {
	c.t.Helper()
	if _, err := fmt.Fprint(c, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
}
