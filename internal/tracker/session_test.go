package tracker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/dnat"
)

// fakePath hands out data connections that the test ends as it likes.
type fakePath struct {
	mu    sync.Mutex
	holes []*fakeData
	err   error
}

type fakeData struct {
	hole      dnat.Pinhole
	connected bool
	armed     chan struct{}
	closed    chan struct{}
	done      chan struct{}
	result    error
	once      sync.Once
}

func (p *fakePath) Open(_ context.Context, hole dnat.Pinhole) (Data, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	hole.At = netip.AddrPortFrom(hole.At.Addr(), uint16(50000+len(p.holes)))
	d := &fakeData{hole: hole, connected: true, armed: make(chan struct{}), closed: make(chan struct{}), done: make(chan struct{})}
	p.holes = append(p.holes, d)
	return d, nil
}

func (p *fakePath) last() *fakeData {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.holes[len(p.holes)-1]
}

func (d *fakeData) At() netip.AddrPort    { return d.hole.At }
func (d *fakeData) Arm()                  { close(d.armed) }
func (d *fakeData) Close()                { d.once.Do(func() { close(d.closed) }) }
func (d *fakeData) Connected() bool       { return d.connected }
func (d *fakeData) Done() <-chan struct{} { return d.done }
func (d *fakeData) Result() error         { return d.result }

// bench is a proxy on loopback with a scripted client and a scripted server.
type bench struct {
	t              *testing.T
	path           *fakePath
	address        string
	servers        *net.TCPListener
	client, server *peer
	stop, drain    context.CancelFunc
}

// peer is one end of a control connection in a test's hands.
type peer struct {
	t *testing.T
	*net.TCPConn
	lines *bufio.Reader
}

func newPeer(t *testing.T, c net.Conn) *peer {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil { // a hang fails the test
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &peer{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

func (p *peer) say(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p, format, args...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) hear(want string) {
	p.t.Helper()
	got, err := p.lines.ReadString('\n')
	if err != nil || strings.TrimSuffix(got, "\r\n") != want {
		p.t.Fatalf("got %q, error %v; want %q", got, err, want)
	}
}

// heardAll expects the end of the connection: in order, and after everything else was read.
func (p *peer) heardAll() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.lines); err != nil || len(rest) > 0 {
		p.t.Fatalf("got %q, error %v; want the end", rest, err)
	}
}

func loopback(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// newBench starts a proxy; configure may change it before.
func newBench(t *testing.T, configure func(*Proxy)) *bench {
	t.Helper()
	b := &bench{t: t, path: &fakePath{}, servers: loopback(t)}
	proxy := &Proxy{Path: b.path, Log: slog.New(slog.DiscardHandler)}
	if configure != nil {
		configure(proxy)
	}
	l := loopback(t)
	b.address = l.Addr().String()
	f := dnat.Resolved{Forward: dnat.Forward{Name: "test"}}
	at := b.servers.Addr().(*net.TCPAddr).AddrPort()
	f.Server4, f.Server.Port = at.Addr(), at.Port()
	ctx, stop := context.WithCancel(context.Background())
	drained, drain := context.WithCancel(context.Background())
	b.stop, b.drain = stop, drain
	done := make(chan error, 1)
	go func() { done <- proxy.Serve(ctx, drained, l, func() dnat.Resolved { return f }) }()
	t.Cleanup(func() {
		stop()
		drain()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// connect begins a session.
func (b *bench) connect() *bench {
	b.t.Helper()
	b.client = b.dial()
	c, err := b.servers.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.server = newPeer(b.t, c)
	b.server.say("220 hello\r\n")
	b.client.hear("220 hello")
	return b
}

func (b *bench) dial() *peer {
	b.t.Helper()
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	return newPeer(b.t, c)
}

func (b *bench) login() *bench {
	b.t.Helper()
	b.client.say("USER x\r\n")
	b.server.hear("USER x")
	b.server.say("230 welcome\r\n")
	b.client.hear("230 welcome")
	return b
}

// transfer begins a download: its data connection is in the test's hands.
func (b *bench) transfer() *fakeData {
	b.t.Helper()
	b.client.say("PASV\r\n")
	b.server.hear("PASV")
	n := len(b.path.holes) // nobody else has the path now: the server waits for PASV's reply
	b.server.say("227 ok (10,0,0,1,195,80)\r\n")
	b.client.hear(fmt.Sprintf("227 Entering Passive Mode (127,0,0,1,195,%d)", 80+n))
	b.client.say("RETR x\r\n")
	b.server.hear("RETR x")
	b.server.say("150 here\r\n")
	b.client.hear("150 here")
	<-b.path.last().armed
	return b.path.last()
}

// However the stream is split, and however much is pipelined, lines arrive whole and in order.
func TestSessionSplitsAndPipelines(t *testing.T) {
	b := newBench(t, nil).connect().login()
	for _, piece := range []string{"P", "AS", "V\r", "\nSYST\r\nNOOP\r\nFE"} {
		b.client.say("%s", piece)
	}
	b.server.hear("PASV")
	for _, piece := range []string{"2", "27 ok (1,1,1,1,195", ",80)\r", "\n"} {
		b.server.say("%s", piece)
	}
	b.client.hear("227 Entering Passive Mode (127,0,0,1,195,80)")
	b.server.hear("SYST")
	b.server.say("200 ok\r\n227 spoofed (127,0,0,1,0,22)\r\n") // the second answers nothing
	b.client.hear("200 ok")
	b.server.hear("NOOP")
	b.server.say("200 noop\r\n")
	b.client.hear("200 noop")
	b.client.say("AT\r\n")
	b.server.hear("FEAT")
}

// The reply that a transfer is complete waits for the data, and tells the truth about it.
func TestSessionHoldsTheLastReply(t *testing.T) {
	b := newBench(t, nil).connect().login()
	data := b.transfer()
	b.server.say("226 done\r\n")
	b.client.say("NOOP\r\n") // must not overtake
	close(data.done)
	b.client.hear("226 done")
	b.server.hear("NOOP")
	b.server.say("200 ok\r\n")
	b.client.hear("200 ok")

	data = b.transfer()
	data.result = errors.New("reset by the server")
	close(data.done)
	b.server.say("226 done\r\n")
	b.client.hear("426 the data connection broke off: reset by the server")
}

func TestSessionEndsWithEitherSide(t *testing.T) {
	b := newBench(t, nil).connect().login()
	data := b.transfer()
	b.server.Close()
	b.client.hear("421 the server has closed the connection")
	b.client.heardAll()
	<-data.closed

	b = newBench(t, nil).connect().login()
	data = b.transfer()
	b.client.Close()
	b.server.heardAll()
	<-data.closed

	b = newBench(t, nil).connect()
	b.client.say("QUIT\r\n")
	b.server.hear("QUIT")
	b.server.say("221 bye\r\n")
	b.client.hear("221 bye")
	b.client.heardAll()
	b.server.heardAll()
}

func TestSessionBadLines(t *testing.T) {
	for name, tt := range map[string]struct{ line, want string }{
		"without end": {strings.Repeat("x", 20_000), "421 line is longer than 16384 bytes"},
		"NUL":         {"USER a\x00b\r\n", "421 line has a NUL byte at offset 6"},
		"a reply":     {"227 ok (127,0,0,1,0,22)\r\n", "421 a client sends commands, not replies"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil).connect()
			b.client.say("%s", tt.line)
			b.client.hear(tt.want)
			b.client.heardAll()
			b.server.heardAll()
		})
	}
}

// Ten thousand pipelined PASV: each is answered, none opens more than one pinhole at a time.
func TestSessionFlood(t *testing.T) {
	b := newBench(t, nil).connect().login()
	const flood = 10_000
	go func() {
		_, _ = io.WriteString(b.client, strings.Repeat("PASV\r\n", flood)) // ends with the connection
	}()
	for i := range flood {
		b.server.hear("PASV")
		b.server.say("227 ok (10,0,0,1,195,80)\r\n")
		if got, err := b.client.lines.ReadString('\n'); err != nil || !strings.HasPrefix(got, "227 ") {
			t.Fatalf("reply %d: got %q, error %v", i, got, err)
		}
		if i > 0 {
			<-b.path.holes[i-1].closed
		}
	}
}

func TestSessionServerDown(t *testing.T) {
	b := newBench(t, nil)
	b.servers.Close()
	c := b.dial()
	c.hear("421 cannot reach the server")
	c.heardAll()
}

func TestSessionLimits(t *testing.T) {
	b := newBench(t, func(p *Proxy) { p.MaxPerClient = 1 }).connect()
	c := b.dial()
	c.hear("421 too many sessions from your address")
	c.heardAll()
	b.client.Close()
	b.server.heardAll()

	b = newBench(t, func(p *Proxy) { p.MaxSessions = 1 }).connect()
	c = b.dial()
	c.hear("421 too many sessions, try again later")
	c.heardAll()
}

func TestSessionTimes(t *testing.T) {
	b := newBench(t, func(p *Proxy) { p.Limits.Login = 20 * time.Millisecond }).connect()
	b.client.hear("421 no login within 20ms")
	b.client.heardAll()

	b = newBench(t, func(p *Proxy) { p.Limits.Idle = 20 * time.Millisecond }).connect().login()
	b.client.hear("421 idle for 20ms")
	b.client.heardAll()

	// A transfer that takes longer than the idle time goes on.
	b = newBench(t, func(p *Proxy) { p.Limits.Idle = time.Millisecond }).connect()
	b.client.say("USER x\r\nPASV\r\nRETR x\r\n")
	b.server.hear("USER x")
	b.server.say("230 welcome\r\n")
	b.server.hear("PASV")
	b.server.say("227 ok (10,0,0,1,195,80)\r\n")
	b.server.hear("RETR x")
	b.client.hear("230 welcome")
	b.client.hear("227 Entering Passive Mode (127,0,0,1,195,80)")
	for i := range 20 { // many times the idle time, by the server's own progress
		b.server.say("150-still %d\r\n", i)
		b.client.hear(fmt.Sprintf("150-still %d", i))
	}
	close(b.path.last().done)
	b.server.say("150 here\r\n226 done\r\n")
	b.client.hear("150 here")
	b.client.hear("226 done")
}

// To stop: idle sessions end with a reason, a transfer may finish, and drain ends what does not.
func TestSessionDrains(t *testing.T) {
	b := newBench(t, nil).connect().login()
	b.stop()
	b.client.hear("421 the gateway is shutting down")
	b.client.heardAll()

	b = newBench(t, nil).connect().login()
	data := b.transfer()
	b.stop()
	b.server.say("226 done\r\n")
	close(data.done)
	b.client.hear("226 done")
	b.client.hear("421 the gateway is shutting down")

	b = newBench(t, nil).connect().login()
	b.transfer()
	b.stop()
	b.drain()
	b.client.hear("421 the gateway is shutting down")
}
