package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// Both peers of a session in the hands of a test: what no well-behaved client or server would say can
// be said here, at the moment that suits it least.

// wire is one end of a control connection.
type wire struct {
	net.Conn
	t     *testing.T
	who   string
	lines *bufio.Reader
}

func newWire(t *testing.T, who string, c net.Conn) *wire {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &wire{c, t, who, bufio.NewReader(c)}
}

// say sends a line.
func (w *wire) say(format string, args ...any) {
	w.t.Helper()
	if _, err := fmt.Fprintf(w.Conn, format+"\r\n", args...); err != nil {
		w.t.Fatalf("%s says %q: %v", w.who, fmt.Sprintf(format, args...), err)
	}
}

// hear reads a line, which must begin as is wanted, and returns it.
func (w *wire) hear(want string) string {
	w.t.Helper()
	line, err := w.lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, want) {
		w.t.Fatalf("%s hears %q, error %v; want %q", w.who, line, err, want)
	}
	return strings.TrimRight(line, "\r\n")
}

// ended expects that the gateway has hung up, and returns what it said before.
func (w *wire) ended() string {
	w.t.Helper()
	rest, err := io.ReadAll(w.lines)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Errorf("%s: the connection still stands; want it ended", w.who)
	}
	return string(rest)
}

// stage is a lab with a forward between a server and clients of the test's own.
type stage struct {
	*lab.Lab
	t       *testing.T
	gate    *program
	control net.Listener // of the server
	dial    string       // where clients connect
}

// scriptPassword is what clients log in with; no log may have it.
const scriptPassword = "never-to-be-logged"

// newStage runs ftpgate forward with flags, before a server at the lab's address.
func newStage(t *testing.T, flags ...string) *stage {
	t.Helper()
	l := labtest.New(t)
	s := &stage{Lab: l, t: t, dial: gateway4, control: listen(t, l.Server(), server4)}
	s.begin(append(append([]string{"forward"}, flags...), gateway4, server4)...)
	return s
}

// begin runs ftpgate on the gateway.
func (s *stage) begin(args ...string) {
	s.t.Helper()
	s.gate = start(s.t, s.Gateway(), args...).ready()
	gate := s.gate
	s.t.Cleanup(func() {
		if strings.Contains(gate.text(), scriptPassword) {
			s.t.Error("the log has a password in it")
		}
	})
}

// listen takes connections on a host until the test ends.
func listen(t *testing.T, h *lab.Host, at string) net.Listener {
	t.Helper()
	l, err := h.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// accept takes one connection.
func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("nobody comes to %s: %v", l.Addr(), err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dialFrom connects from one of a host's addresses.
func dialFrom(t *testing.T, h *lab.Host, from netip.Addr, to netip.AddrPort) (c net.Conn, err error) {
	t.Helper()
	err = h.Do(func() error {
		d := net.Dialer{FallbackDelay: -1, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		c, err = d.DialContext(t.Context(), "tcp", to.String())
		return err
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
		err = c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// peerOf returns the address of a connection's other end.
func peerOf(c net.Conn) netip.Addr { return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() }

// pair is a session's two ends.
type pair struct {
	*stage
	client, server *wire
}

// connect begins a session: the server has the connection, and has not greeted.
func (s *stage) connect() pair {
	s.t.Helper()
	c, err := s.Client().Dial(s.t.Context(), "tcp", s.dial)
	if err != nil {
		s.t.Fatal(err)
	}
	client := newWire(s.t, "the client", c)
	return pair{s, client, newWire(s.t, "the server", accept(s.t, s.control))}
}

// login begins a session and logs in.
func (s *stage) login() pair {
	s.t.Helper()
	p := s.connect()
	p.server.say("220 ready")
	p.client.hear("220")
	p.ask("USER somebody", "331 and the password")
	p.ask("PASS "+scriptPassword, "230 welcome")
	return p
}

// ask has the client send a command, which the server gets as it is, and the server a reply, which
// the client gets as it is.
func (p pair) ask(command, reply string) {
	p.t.Helper()
	p.client.say("%s", command)
	p.server.hear(command)
	p.server.say("%s", reply)
	p.client.hear(reply)
}

var sixNumbers = regexp.MustCompile(`(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)`)

// hostPort reads the address in a 227 or a PORT.
func hostPort(t *testing.T, line string) netip.AddrPort {
	t.Helper()
	m := sixNumbers.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("got %q; want an address in it", line)
	}
	high, _ := strconv.Atoi(m[5])
	low, _ := strconv.Atoi(m[6])
	addr, err := netip.ParseAddr(strings.Join(m[1:5], "."))
	if err != nil {
		t.Fatalf("got %q: %v", line, err)
	}
	return netip.AddrPortFrom(addr, uint16(high<<8|low))
}

// commas writes an address as PORT and 227 have it.
func commas(a netip.AddrPort) string {
	return fmt.Sprintf("%s,%d,%d", strings.ReplaceAll(a.Addr().String(), ".", ","), a.Port()>>8, a.Port()&0xff)
}

// passive negotiates: the server listens at its address of the control connection, and names the
// address given in its place if there is one. It returns where, and what the client is told.
func (p pair) passive(named netip.Addr) (net.Listener, netip.AddrPort) {
	p.t.Helper()
	own := p.server.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	data := listen(p.t, p.Server(), netip.AddrPortFrom(own, 0).String())
	if !named.IsValid() {
		named = own
	}
	p.client.say("PASV")
	p.server.hear("PASV")
	p.server.say("227 Entering Passive Mode (%s)", commas(netip.AddrPortFrom(named, data.Addr().(*net.TCPAddr).AddrPort().Port())))
	return data, hostPort(p.t, p.client.hear("227"))
}

// active negotiates: the client listens at its address, and the server is told where to come.
func (p pair) active() (net.Listener, netip.AddrPort) {
	p.t.Helper()
	own := p.client.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	data := listen(p.t, p.Client(), netip.AddrPortFrom(own, 0).String())
	p.client.say("PORT %s", commas(data.Addr().(*net.TCPAddr).AddrPort()))
	at := hostPort(p.t, p.server.hear("PORT"))
	p.server.say("200 fine")
	p.client.hear("200")
	return data, at
}

// begun is a transfer whose data connection stands.
type begun struct {
	pair
	from, to net.Conn // the ends of the data connection: the server's and the client's
	at       netip.AddrPort
}

// retrieve begins a transfer in passive mode; the server names the address given, or its own.
func (p pair) retrieve(named netip.Addr) begun {
	p.t.Helper()
	data, at := p.passive(named)
	c, err := dialFrom(p.t, p.Client(), p.client.LocalAddr().(*net.TCPAddr).AddrPort().Addr(), at)
	if err != nil {
		p.t.Fatalf("data connection to %s: %v", at, err)
	}
	s := accept(p.t, data)
	p.ask("RETR file", "150 here it comes")
	return begun{p, s, c, at}
}

// retrieveActive begins a transfer in active mode.
func (p pair) retrieveActive() begun {
	p.t.Helper()
	data, at := p.active()
	p.client.say("RETR file")
	p.server.hear("RETR file")
	s, err := dialFrom(p.t, p.Server(), p.server.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), at)
	if err != nil {
		p.t.Fatalf("data connection to %s: %v", at, err)
	}
	c := accept(p.t, data)
	p.server.say("150 here it comes")
	p.client.hear("150")
	return begun{p, s, c, at}
}

// payload is what a transfer of the test's carries, other bytes for each.
func payload(n int) []byte {
	data := make([]byte, n)
	rand.Read(data)
	return data
}

// carry sends bytes from the server to the client, and expects them there.
func (b begun) carry(data []byte) {
	b.t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := b.from.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(b.to, got); err != nil {
		b.t.Fatalf("read the data: %v", err)
	}
	if err := <-sent; err != nil {
		b.t.Fatalf("send the data: %v", err)
	}
	if !bytes.Equal(got, data) {
		b.t.Fatal("got other bytes than were sent")
	}
}

// through ends the data connection from the server's side; the client must see its end as one.
func (b begun) through() {
	b.t.Helper()
	b.from.Close()
	if rest, err := io.ReadAll(b.to); err != nil || len(rest) > 0 {
		b.t.Fatalf("after the last byte got %d more and error %v; want the end", len(rest), err)
	}
	b.to.Close()
}

// complete carries something more, ends the transfer, and has the server say so.
func (b begun) complete() {
	b.t.Helper()
	b.carry(payload(100_003))
	b.through()
	b.server.say("226 complete")
	b.client.hear("226")
}

// serves expects that somebody who has done nothing wrong is served.
func (s *stage) serves() {
	s.t.Helper()
	p := s.login()
	p.retrieve(netip.Addr{}).complete()
	p.retrieveActive().complete()
	p.quit()
}

// quit ends a session.
func (p pair) quit() {
	p.t.Helper()
	p.ask("QUIT", "221 bye")
	p.server.Close()
	p.client.ended()
	p.client.Close()
}

var tableInLog = regexp.MustCompile(`msg=ready.* table="inet ([^"]+)"`)

// holes returns how many pinholes are in the kernel, by nft's account: the elements of the set or map
// that has most. Those in use count as long as they are somebody's.
func (s *stage) holes() int {
	s.t.Helper()
	labtest.Need(s.t, "nft")
	m := tableInLog.FindStringSubmatch(s.gate.text())
	if m == nil {
		s.t.Fatalf("got no table in the log:\n%s", s.gate.text())
	}
	var listing struct {
		Nftables []struct{ Set, Map struct{ Elem []any } }
	}
	text := sh(s.t, s.Gateway(), "nft -j list table inet %s", m[1])
	if err := json.Unmarshal([]byte(text), &listing); err != nil {
		s.t.Fatalf("%v in %s", err, text)
	}
	most := 0
	for _, o := range listing.Nftables {
		most = max(most, len(o.Set.Elem), len(o.Map.Elem))
	}
	return most
}

// wantHoles expects a number of pinholes.
func (s *stage) wantHoles(want int, when string) {
	s.t.Helper()
	if got := s.holes(); got != want {
		s.t.Errorf("%s: got %d pinholes; want %d", when, got, want)
	}
}

// reset ends a connection with a reset.
func reset(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}
