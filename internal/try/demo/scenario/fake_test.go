package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/sessionlog"
	"ftpgate/internal/try/testca"
)

// fakeTestbed runs a scenario on loopback, with the real FTP server, the real server with quirks, and
// gateways that rewrite lines as the real ones do. It implements Testbed.
type fakeTestbed struct {
	t                   *testing.T
	publicIP            string                   // address that the server announces
	rewrite             func(line string) string // what a gateway also does to lines from the server
	startErr            error                    // error of every StartGateway
	kernelFollowsQuirks bool                     // the kernel's helper can follow every server
	fault               fault                    // what a gateway with TLS does wrong

	ca   *testca.Authority
	taps [2]*recorder // at the client's side and at the server's

	mu       sync.Mutex // guards the fields below: the clients of the server with quirks run concurrently
	gateways map[string]net.Addr
	servers  map[string]net.Addr
	quirks   pipeListener
	closed   map[uint16]bool // ports of the server with quirks that no gateway forwards
}

var fakeSetup = Setup{
	gateway:        "192.168.5.2:2121",
	gateway6:       "[2001:db8:5::2]:2121",
	server:         "203.0.113.21:21",
	tlsServer:      "203.0.113.21:2101",
	quirkServer:    "203.0.113.21:2100",
	kernelToQuirks: "192.168.5.2:2122",
	proxyToQuirks:  "192.168.5.2:2123",
	replyTimeout:   50 * time.Millisecond,
	download:       content(downloadSeed, 1<<20),
	large:          content(largeSeed, 1<<20),
	upload:         content(uploadSeed, 1<<16),
}

func newFakeTestbed(t *testing.T) *fakeTestbed {
	t.Helper()
	a, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	return &fakeTestbed{
		t: t, publicIP: "203.0.113.21", ca: a, taps: [2]*recorder{new(recorder), new(recorder)},
		gateways: map[string]net.Addr{}, servers: map[string]net.Addr{}, closed: map[uint16]bool{},
	}
}

// runScenario runs the whole scenario on a testbed.
func runScenario(t *testing.T, ctx context.Context, out io.Writer, bed *fakeTestbed) error {
	t.Helper()
	setup := fakeSetup
	setup.ca = bed.ca
	return Run(ctx, out, bed, setup, 0)
}

func (s *fakeTestbed) ClientHost() Host { return fakeHost{s, false} }
func (s *fakeTestbed) ServerHost() Host { return fakeHost{s, true} }

func (s *fakeTestbed) StartServer(ctx context.Context, address string, mode TLSMode) (Server, error) {
	l := listen(s.t)
	s.mu.Lock()
	s.servers[address] = l.Addr()
	s.mu.Unlock()
	c := ftpserver.Config{PublicIP: s.publicIP, Files: files(ftpserver.NewFile(fakeSetup.download),
		ftpserver.NewFile(fakeSetup.large)),
		TLSOnly: mode == TLSRequired}
	if mode != TLSOff {
		c.TLS = s.certificate("the server", "203.0.113.21")
	}
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := ftpserver.Serve(ctx, l, sessionlog.NewLogger(in), c)
		_ = in.Close()
		ended <- err
	}()
	log := sessionlog.ReadServerLog(out)
	stop := func() error {
		cancel()
		log.Close()
		return <-ended
	}
	if _, err := log.Next(ctx, sessionlog.Ready); err != nil {
		return Server{}, errors.Join(err, stop())
	}
	return Server{Log: log, Address: address, Stop: stop}, nil
}

// StartGateway starts a gateway that passes lines between clients and a server as its tracking does.
func (s *fakeTestbed) StartGateway(_ context.Context, args []string) (Gateway, error) {
	if s.startErr != nil {
		return Gateway{}, s.startErr
	}
	l := listen(s.t)
	from, to := args[len(args)-2], args[len(args)-1]
	tracking := "proxy"
	if args[0] == "--tracking" {
		tracking = args[1]
	}
	s.mu.Lock()
	s.gateways[from] = l.Addr()
	s.mu.Unlock()
	var copies sync.WaitGroup
	copies.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if to == fakeSetup.tlsServer {
				copies.Go(func() { s.passTLS(conn, args) })
			} else {
				copies.Go(func() { s.pass(conn, tracking, to) })
			}
		}
	})
	stop := func() error {
		err := l.Close()
		copies.Wait()
		return err
	}
	return Gateway{Stop: stop, Explain: s.explain}, nil
}

// pass serves one session of a gateway.
func (s *fakeTestbed) pass(client net.Conn, tracking, to string) {
	server, err := fakeHost{s, true}.Dial(context.Background(), "tcp", to)
	if err != nil {
		s.t.Error(err)
		return
	}
	var both sync.WaitGroup
	if tracking == "kernel" && to == fakeSetup.quirkServer && !s.kernelFollowsQuirks {
		both.Go(func() { copyLines(server, client, unchanged) })
		both.Go(func() { copySegments(client, server) })
		both.Wait()
		return
	}
	toServer, toClient := unchanged, unchanged
	if tracking != "none" {
		toServer, toClient = active, s.passive
	}
	change := toClient
	if s.rewrite != nil {
		change = func(line string) string { return s.rewrite(toClient(line)) }
	}
	both.Go(func() { copyLines(server, client, toServer) })
	both.Go(func() { copyLines(client, server, change) })
	both.Wait()
}

func unchanged(line string) string { return line }

// active leads the server to where the client really listens.
func active(line string) string {
	line = strings.Replace(line, "PORT 192,168,5,1,", "PORT 127,0,0,1,", 1)
	line = strings.Replace(line, "EPRT |1|192.168.5.1|", "EPRT |1|127.0.0.1|", 1)
	return strings.Replace(line, "EPRT |2|2001:db8:5::1|", "EPRT |1|127.0.0.1|", 1)
}

// passive has the client come to the gateway, and lets it through from there.
func (s *fakeTestbed) passive(line string) string {
	rest, ok := strings.CutPrefix(line, "227 ")
	if !ok {
		return line
	}
	at, err := ftp.Parse227([]byte(strings.TrimSpace(rest)))
	if err != nil {
		s.t.Errorf("%q: %v", line, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.closed, at.Port())
	return regexp.MustCompile(`\d+,\d+,\d+,\d+,`).ReplaceAllString(line, "192,168,5,2,")
}

// copySegments passes a server's segments on as the kernel's helper does: it drops one that begins
// with half a 227, and all that follow wait for that one for good. A whole 227 in an address's own
// segment would be rewritten, and none of the quirks with the server's own address sends one.
func copySegments(to, from net.Conn) {
	defer to.Close()
	segment, stalled := make([]byte, 4096), false
	for {
		n, err := from.Read(segment)
		if err != nil {
			return
		}
		text := string(segment[:n])
		if strings.HasPrefix(text, "227 ") && !strings.HasSuffix(text, "\n") {
			stalled = true
		}
		if stalled {
			continue
		}
		if _, err := io.WriteString(to, text); err != nil {
			return
		}
	}
}

// copyLines passes lines on until one end closes, and then closes the other.
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

// fakeHost is the client's host or the server's. It dials addresses of the lab, which lead to loopback.
type fakeHost struct {
	testbed  *fakeTestbed
	atServer bool
}

func (h fakeHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	s, to := h.testbed, netip.MustParseAddrPort(address)
	real, local := fmt.Sprintf("127.0.0.1:%d", to.Port()), "203.0.113.21:40000"
	s.mu.Lock()
	gateway, server, closed := s.gateways[address], s.servers[address], s.closed[to.Port()]
	s.mu.Unlock()
	switch {
	case address == fakeSetup.quirkServer && h.atServer:
		return s.quirks.dial(ctx)
	case server != nil && h.atServer:
		real = server.String()
	case h.atServer:
	case to.Addr().IsUnspecified(), closed && to.Addr().String() == "192.168.5.2":
		return nil, dialError(network, syscall.ECONNREFUSED)
	case to.Addr().String() == "192.168.5.2":
		local = "192.168.5.1:40000"
	case to.Addr().String() == "2001:db8:5::2":
		local = "[2001:db8:5::1]:40000"
	default:
		return nil, dialError(network, syscall.ENETUNREACH)
	}
	if gateway != nil {
		real = gateway.String()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, real)
	if err != nil {
		return nil, err
	}
	return fakeConn{conn, tcpAddr(local), tcpAddr(address)}, nil
}

func dialError(network string, why syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", why)}
}

func (h fakeHost) Listen(network, address string) (net.Listener, error) {
	if address == fakeSetup.quirkServer {
		h.testbed.quirks = pipeListener{conns: make(chan net.Conn), done: make(chan struct{}),
			once: new(sync.Once)}
		return h.testbed.quirks, nil
	}
	l, err := net.Listen(network, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	at := netip.AddrPortFrom(netip.MustParseAddrPort(address).Addr(), port)
	listener := fakeListener{l, net.TCPAddrFromAddrPort(at)}
	if !h.atServer {
		return listener, nil
	}
	h.testbed.mu.Lock()
	defer h.testbed.mu.Unlock()
	h.testbed.closed[port] = true
	return serverListener{listener, h.testbed, port}, nil
}

// pipeListener accepts connections that keep the segments as they were written.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  *sync.Once
}

func (l pipeListener) Addr() net.Addr { return tcpAddr(fakeSetup.quirkServer) }

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return fakeConn{c, l.Addr(), tcpAddr("203.0.113.1:40000")}, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l pipeListener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func tcpAddr(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

type fakeConn struct {
	net.Conn
	local, remote net.Addr
}

func (c fakeConn) LocalAddr() net.Addr  { return c.local }
func (c fakeConn) RemoteAddr() net.Addr { return c.remote }

type fakeListener struct {
	net.Listener
	at net.Addr
}

func (l fakeListener) Addr() net.Addr { return l.at }

// Accept accepts a connection from the gateway, at the address that the client knows.
func (l fakeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	from := "192.168.5.2:41000"
	if strings.HasPrefix(l.at.String(), "[") {
		from = "[2001:db8:5::2]:41000"
	}
	return fakeConn{conn, l.Addr(), tcpAddr(from)}, nil
}

// serverListener is a data port of a server. While it is open only a gateway can connect to it. After Close
// the system may give the port to another listener.
type serverListener struct {
	fakeListener
	testbed *fakeTestbed
	port    uint16
}

func (l serverListener) Close() error {
	l.testbed.mu.Lock()
	defer l.testbed.mu.Unlock()
	delete(l.testbed.closed, l.port)
	return l.fakeListener.Close()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// testContext ends a test that hangs.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
