package scenario

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/try/demo/ftpserver"
)

// fault is something that a gateway with TLS may do wrong.
type fault string

const (
	listsAUTH     fault = "it lists AUTH without supporting it"
	wrongRefusal  fault = "it does not know AUTH"
	noRemedy      fault = "its explanation has no remedy"
	unknownCA     fault = "its certificate is another authority's"
	neverResumes  fault = "it never resumes a session"
	leaksPassword fault = "the password is on the wire too"
	tapFails      fault = "the wiretap does not work"
	corruptsData  fault = "it changes a byte of a file"
)

// certificate returns the configuration of a TLS server at an address.
func (s *fakeTestbed) certificate(name, address string) *tls.Config {
	certificate, key, err := s.ca.Issue(name, netip.MustParseAddr(address))
	if err != nil {
		s.t.Error(err)
		return nil
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		s.t.Error(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: s.fault == neverResumes}
}

// recorder keeps what went over the wire on one side.
type recorder struct {
	mu   sync.Mutex // guards wire
	wire []byte
}

func (r *recorder) keep(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wire = append(r.wire, p...)
}

// take returns what is recorded, and clears it.
func (r *recorder) take() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	wire := r.wire
	r.wire = nil
	return wire
}

// tappedConn is a connection with a wiretap.
type tappedConn struct {
	net.Conn
	tap *recorder
}

func (c tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.tap.keep(p[:n])
	return n, err
}

func (c tappedConn) Write(p []byte) (int, error) {
	c.tap.keep(p)
	return c.Conn.Write(p)
}

func (s *fakeTestbed) Tap() (Tap, error) {
	for _, tap := range s.taps {
		_ = tap.take()
	}
	return func() (client, server []byte, err error) {
		client, server = s.taps[0].take(), s.taps[1].take()
		switch s.fault {
		case leaksPassword:
			client = append(client, "PASS "+ftpserver.Password...)
		case tapFails:
			server = nil
		}
		return client, server, nil
	}, nil
}

func (s *fakeTestbed) explain(context.Context, string) (string, error) {
	const verdict = "verdict    AUTH was refused: no TLS\n"
	if s.fault == noRemedy {
		return verdict, nil
	}
	return verdict + "remedy     name the server's passive ports\n", nil
}

// tlsGateway is a session of a gateway in front of the servers of act 4.
type tlsGateway struct {
	testbed        *fakeTestbed
	ctx            context.Context
	client, server net.Conn
	clientTLS      *tls.Config // towards the client; nil: in clear
	serverTLS      *tls.Config // towards the server; nil: in clear
	carried        sync.WaitGroup
}

// passTLS serves one session as the gateway's flags say.
func (s *fakeTestbed) passTLS(client net.Conn, args []string) {
	server, err := fakeHost{s, true}.Dial(context.Background(), "tcp", fakeSetup.tlsServer)
	if err != nil {
		s.t.Error(err)
		return
	}
	g := &tlsGateway{testbed: s, client: tappedConn{client, s.taps[0]}, server: tappedConn{server, s.taps[1]}}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g.ctx = ctx
	answer := func(string) string { return "" }
	switch args[0] {
	case "--server-ports":
		g.carried.Go(func() { join(g.client, g.server) })
		g.carried.Wait()
		return
	case "--tls-client":
		g.clientTLS = s.certificate("the gateway", "192.168.5.2")
		if s.fault == unknownCA {
			g.clientTLS = newFakeTestbed(s.t).certificate("the gateway", "192.168.5.2")
		}
		answer = g.security
	case "--tls-server":
		g.serverTLS = s.ca.Client("203.0.113.21")
		if s.fault == neverResumes {
			g.serverTLS.ClientSessionCache = nil
		}
	default:
		answer = s.refusal
	}
	g.dialogue(answer)
	cancel()
	g.carried.Wait()
}

// refusal returns the gateway's own answer to a command that a gateway without TLS refuses, or nothing.
func (s *fakeTestbed) refusal(line string) string {
	switch {
	case line == "AUTH TLS\r\n" && s.fault == wrongRefusal:
		return "502 what is that\r\n"
	case line == "AUTH TLS\r\n":
		return "534 this gateway cannot\r\n"
	}
	return ""
}

// dialogue passes lines on until one end closes. answer returns the gateway's own answer to a command, or
// nothing.
func (g *tlsGateway) dialogue(answer func(line string) string) {
	defer g.client.Close()
	defer g.server.Close()
	replies := bufio.NewReader(g.server)
	greeting, err := replies.ReadString('\n')
	if err != nil {
		g.testbed.t.Error(err)
		return
	}
	if g.serverTLS != nil {
		if replies, err = g.encryptServer(replies); err != nil {
			return // the client fails, and with it the test
		}
	}
	_, _ = io.WriteString(g.client, greeting)
	commands := bufio.NewReader(g.client)
	for {
		line, err := commands.ReadString('\n')
		if err != nil {
			return
		}
		if reply := answer(line); reply != "" {
			_, _ = io.WriteString(g.client, reply)
			if strings.HasPrefix(reply, "234 ") {
				g.client = tls.Server(g.client, g.clientTLS)
				commands = bufio.NewReader(g.client)
			}
			continue
		}
		_, _ = io.WriteString(g.server, g.active(line))
		if err := g.passReplies(replies, line); err != nil {
			return
		}
	}
}

// tlsFeature matches the lines of the answer to FEAT that belong to FTPS.
var tlsFeature = regexp.MustCompile(`AUTH|PBSZ|PROT`)

// passReplies passes on the server's replies to a command, up to the final one.
func (g *tlsGateway) passReplies(replies *bufio.Reader, command string) error {
	hidden := false // within the answer to FEAT
	for {
		line, err := replies.ReadString('\n')
		if err != nil {
			return err
		}
		hidden = command == "FEAT\r\n" && g.testbed.fault != listsAUTH
		if !hidden || !tlsFeature.MatchString(line) {
			_, _ = io.WriteString(g.client, g.passive(line))
		}
		if final := len(line) > 3 && line[3] == ' ' && line[0] >= '2' && line[0] <= '5'; final {
			return nil
		}
	}
}

// security answers the commands of FTPS (RFC 4217).
func (g *tlsGateway) security(line string) string {
	switch line {
	case "AUTH TLS\r\n":
		return "234 now\r\n"
	case "PBSZ 0\r\n", "PROT P\r\n":
		return "200 yes\r\n"
	}
	return ""
}

// encryptServer starts TLS with the server.
func (g *tlsGateway) encryptServer(replies *bufio.Reader) (*bufio.Reader, error) {
	ask := func(line string) error {
		if _, err := io.WriteString(g.server, line); err != nil {
			return err
		}
		_, err := replies.ReadString('\n')
		return err
	}
	if err := ask("AUTH TLS\r\n"); err != nil {
		return nil, err
	}
	g.server = tls.Client(g.server, g.serverTLS)
	replies = bufio.NewReader(g.server)
	if err := ask("PBSZ 0\r\n"); err != nil {
		return nil, err
	}
	return replies, ask("PROT P\r\n")
}

// passive puts a port of the gateway into a 227 or 229.
func (g *tlsGateway) passive(line string) string {
	rest := strings.TrimSpace(line[min(4, len(line)):])
	switch {
	case strings.HasPrefix(line, "227 "):
		at, err := ftp.Parse227([]byte(rest))
		if err != nil {
			g.testbed.t.Error(err)
		}
		own := netip.AddrPortFrom(netip.MustParseAddr("192.168.5.2"), g.listen(g.toServer(at.Port())))
		return fmt.Sprintf("227 Entering Passive Mode (%s)\r\n", ftp.AppendHostPort(nil, own))
	case strings.HasPrefix(line, "229 "):
		port, err := ftp.Parse229([]byte(rest))
		if err != nil {
			g.testbed.t.Error(err)
		}
		return fmt.Sprintf("229 Entering Extended Passive Mode (|||%d|)\r\n", g.listen(g.toServer(port)))
	}
	return line
}

// active puts a port of the gateway into a PORT command.
func (g *tlsGateway) active(line string) string {
	arg, ok := strings.CutPrefix(strings.TrimSpace(line), "PORT ")
	if !ok {
		return line
	}
	at, err := ftp.ParseHostPort([]byte(arg))
	if err != nil {
		g.testbed.t.Error(err)
	}
	port := g.listen(func(server net.Conn) {
		if client := g.dial(at.Port()); client != nil {
			g.carry(client, server)
		}
	})
	own := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	return fmt.Sprintf("PORT %s\r\n", ftp.AppendHostPort(nil, own))
}

func (g *tlsGateway) toServer(port uint16) func(net.Conn) {
	return func(client net.Conn) {
		if server := g.dial(port); server != nil {
			g.carry(client, server)
		}
	}
}

func (g *tlsGateway) dial(port uint16) net.Conn {
	conn, err := localHost{}.Dial(g.ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		g.testbed.t.Error(err)
	}
	return conn
}

// listen accepts one connection, and calls use with it.
func (g *tlsGateway) listen(use func(net.Conn)) (port uint16) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.testbed.t.Error(err)
		return 0
	}
	context.AfterFunc(g.ctx, func() { _ = l.Close() })
	g.carried.Go(func() {
		defer l.Close()
		if conn, err := l.Accept(); err == nil {
			use(conn)
		}
	})
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// carry joins the two ends of a data connection, each with or without TLS.
func (g *tlsGateway) carry(client, server net.Conn) {
	client, server = tappedConn{client, g.testbed.taps[0]}, tappedConn{server, g.testbed.taps[1]}
	if g.clientTLS != nil {
		client = tls.Server(client, g.clientTLS)
	}
	if g.serverTLS != nil {
		server = tls.Client(server, g.serverTLS)
	}
	if g.testbed.fault == corruptsData {
		server = corruptingConn{server}
	}
	join(client, server)
}

// corruptingConn is a connection that changes a byte of each large read.
type corruptingConn struct{ net.Conn }

func (c corruptingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 1000 {
		p[n/2] ^= 1
	}
	return n, err
}

// join copies both ways until both ends have closed.
func join(a, b net.Conn) {
	defer a.Close()
	defer b.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(a, b)
		closeWrite(a)
	})
	_, _ = io.Copy(b, a)
	closeWrite(b)
	back.Wait()
}

// closeWrite closes the sending side, in TLS and in TCP.
func closeWrite(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	switch c := c.(type) {
	case *tls.Conn:
		closeWrite(c.NetConn())
	case tappedConn:
		closeWrite(c.Conn)
	case fakeConn:
		closeWrite(c.Conn)
	case corruptingConn:
		closeWrite(c.Conn)
	}
}
