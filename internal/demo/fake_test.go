package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// fakeStage plays the story on loopback: with the real embedded server, and with a gateway that
// rewrites lines like the kernel's helper or leaves them alone. It implements stage.
type fakeStage struct {
	t       *testing.T
	server  net.Addr
	gateway net.Addr
	spoil   func(line string) string // what the gateway does to lines from the server besides
	refuse  error                    // why no gateway can start
}

var fakeCast = cast{
	listen:   "192.168.5.2:2121",
	server:   "203.0.113.21:21",
	download: content(downloadSeed, 1<<20),
	upload:   content(uploadSeed, 1<<16),
}

func (s *fakeStage) clientHost() host { return fakeHost{s, false} }
func (s *fakeStage) serverHost() host { return fakeHost{s, true} }

func (s *fakeStage) startServer(ctx context.Context, _ string) (*witness, error) {
	l := listen(s.t)
	s.server = l.Addr()
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serve(ctx, l, newEvents(in), config{
			publicIP: "203.0.113.21",
			files:    map[string][]byte{"/" + downloadName: fakeCast.download, "/" + readmeName: []byte(readmeText)},
		})
		_ = in.Close()
		ended <- err
	}()
	w := newWitness(out)
	s.t.Cleanup(func() {
		cancel()
		w.close()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
	_, err := w.next(ctx, ready)
	return w, err
}

// startGateway copies lines between client and server, and rewrites them with kernel tracking.
func (s *fakeStage) startGateway(_ context.Context, args []string) (func() error, error) {
	if s.refuse != nil {
		return nil, s.refuse
	}
	l := listen(s.t)
	s.gateway = l.Addr()
	rewrite := strings.Contains(strings.Join(args, " "), "--tracking kernel")
	var copies sync.WaitGroup
	copies.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			copies.Go(func() { s.pass(conn, rewrite) })
		}
	})
	return func() error {
		err := l.Close()
		copies.Wait()
		return err
	}, nil
}

// pass is one session of the gateway.
func (s *fakeStage) pass(client net.Conn, rewrite bool) {
	server, err := net.Dial("tcp", s.server.String())
	if err != nil {
		s.t.Error(err)
		return
	}
	change := func(line string) string { return line }
	if rewrite {
		change = func(line string) string {
			line = strings.Replace(line, "(203,0,113,21,", "(192,168,5,2,", 1)
			return strings.Replace(line, "PORT 192,168,5,1,", "PORT 127,0,0,1,", 1) // where the client really listens
		}
	}
	toClient := change
	if s.spoil != nil {
		toClient = func(line string) string { return s.spoil(change(line)) }
	}
	var both sync.WaitGroup
	both.Go(func() { copyLines(server, client, change) })
	both.Go(func() { copyLines(client, server, toClient) })
	both.Wait()
}

// copyLines passes lines on until one end is closed, and closes the other.
func copyLines(to, from net.Conn, change func(string) string) {
	defer to.Close()
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(to, change(line)); err != nil {
			return
		}
	}
}

// fakeHost is the client, or the server's own host: what it dials is on loopback, under the
// addresses of the lab.
type fakeHost struct {
	stage    *fakeStage
	atServer bool
}

func (h fakeHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ap := netip.MustParseAddrPort(address)
	real := fmt.Sprintf("127.0.0.1:%d", ap.Port())
	local := "203.0.113.21:40000"
	switch {
	case h.atServer && ap.Port() == 21:
		real = h.stage.server.String()
	case h.atServer:
	case ap.Addr().String() != "192.168.5.2":
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	case ap.Port() == 2121:
		real = h.stage.gateway.String()
		fallthrough
	default:
		local = "192.168.5.1:40000"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, real)
	if err != nil {
		return nil, err
	}
	return fakeConn{conn, tcpAddr(local), tcpAddr(address)}, nil
}

func (h fakeHost) Listen(network, _ string) (net.Listener, error) {
	l, err := net.Listen(network, "127.0.0.1:0")
	return fakeListener{l}, err
}

func tcpAddr(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

type fakeConn struct {
	net.Conn
	local, remote net.Addr
}

func (c fakeConn) LocalAddr() net.Addr  { return c.local }
func (c fakeConn) RemoteAddr() net.Addr { return c.remote }

type fakeListener struct{ net.Listener }

func (l fakeListener) port() int      { return l.Listener.Addr().(*net.TCPAddr).Port }
func (l fakeListener) Addr() net.Addr { return tcpAddr(fmt.Sprintf("192.168.5.1:%d", l.port())) }

func (l fakeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return fakeConn{conn, l.Addr(), tcpAddr("192.168.5.2:41000")}, nil
}
