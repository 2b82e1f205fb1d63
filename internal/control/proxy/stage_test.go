package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/control/session"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

// stage is a proxy on loopback with a scripted client and a scripted server.
type stage struct {
	t              *testing.T
	path           *fakePath
	counts         *Counts
	proxy          *Proxy
	logs           *logBuffer
	address        string
	servers        *net.TCPListener
	client, server *peer
	drain, abort   context.CancelFunc
	done           chan error
	forward        atomic.Pointer[forward.Resolved]
}

// change has the forward be another for the sessions to come.
func (b *stage) change(change func(*forward.Resolved)) {
	f := *b.forward.Load()
	change(&f)
	b.forward.Store(&f)
}

func (b *stage) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu  sync.Mutex
	all strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// peer is one end of a control connection in a test's hands.
type peer struct {
	t *testing.T
	*net.TCPConn
	secure *tls.Conn // nil: in clear
	lines  *bufio.Reader
}

// Write sends to the gateway, in TLS where it is spoken.
func (p *peer) Write(text []byte) (int, error) {
	if p.secure != nil {
		return p.secure.Write(text)
	}
	return p.TCPConn.Write(text)
}

func newPeer(t *testing.T, c net.Conn) *peer {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(60 * time.Second)); err != nil { // a hang fails the test
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &peer{t: t, TCPConn: c.(*net.TCPConn), lines: bufio.NewReader(c)}
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

// unread returns how many bytes of the gateway's have arrived and were not read.
func (p *peer) unread() (n int) {
	p.t.Helper()
	raw, err := p.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	errControl := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	if errControl != nil || err != nil {
		p.t.Fatal(errControl, err)
	}
	return p.lines.Buffered() + n
}

// heardAll expects the end of the connection: in order, and after everything else was read.
func (p *peer) heardAll() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.lines); err != nil || len(rest) > 0 {
		p.t.Fatalf("got %q, error %v; want the end", rest, err)
	}
	p.Close() // without waiting for it to read
}

func loopback(t testing.TB) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// a setup changes what a stage begins with.
type setup func(p *Proxy, f *forward.Resolved)

func limited(l forward.Limits) setup { return func(_ *Proxy, f *forward.Resolved) { f.Limits = l } }

// serverPassive has the server listen for all data connections.
func serverPassive(_ *Proxy, f *forward.Resolved) { f.ServerMode = forward.ServerModePassive }

// newStage starts a proxy.
func newStage(t *testing.T, setups ...setup) *stage {
	t.Helper()
	b := &stage{t: t, path: &fakePath{}, counts: &Counts{}, logs: &logBuffer{}, servers: loopback(t),
		done: make(chan error, 1)}
	f := forward.Resolved{Forward: forward.Forward{Name: "test"}}
	at := b.servers.Addr().(*net.TCPAddr).AddrPort()
	f.Server4, f.Server.Port = at.Addr(), at.Port()
	proxy := &Proxy{Path: b.path, Log: b.logger(), Counts: b.counts, loginDelay: time.Millisecond}
	for _, s := range setups {
		s(proxy, &f)
	}
	b.proxy = proxy
	b.forward.Store(&f)
	proxy.Forward = func() forward.Resolved { return *b.forward.Load() }
	l := loopback(t)
	b.address = l.Addr().String()
	draining, drainFor := context.WithCancelCause(context.Background())
	drain := func() { drainFor(session.ErrShuttingDown) }
	aborted, abort := context.WithCancel(context.Background())
	b.drain, b.abort = drain, abort
	go func() { b.done <- proxy.Serve(draining, aborted, l) }()
	t.Cleanup(func() {
		drain()
		abort()
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		b.done <- nil
		if now, _ := b.path.opened(); now != 0 {
			t.Errorf("at the end got %d pinholes; want none", now)
		}
		if n := b.path.passthroughs(); n != 0 {
			t.Errorf("at the end got %d passthroughs; want none", n)
		}
		if n := b.sessions(); n != 0 {
			t.Errorf("at the end got %d sessions; want none", n)
		}
	})
	return b
}

// connect begins a session.
func (b *stage) connect() *stage {
	b.t.Helper()
	b.client = b.dial()
	b.accept()
	b.server.say("220 hello\r\n")
	b.client.hear("220 hello")
	return b
}

func (b *stage) dial() *peer {
	b.t.Helper()
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	return newPeer(b.t, c)
}

func (b *stage) accept() {
	b.t.Helper()
	c, err := b.servers.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.server = newPeer(b.t, c)
}

// ask sends a command, the server's answer to it, and expects both to arrive.
func (b *stage) ask(command, reply string) *stage {
	b.t.Helper()
	b.client.say("%s\r\n", command)
	b.server.hear(command)
	b.server.say("%s\r\n", reply)
	b.client.hear(reply)
	return b
}

func (b *stage) login() *stage {
	b.t.Helper()
	return b.ask("USER x", "230 welcome")
}

// pasv agrees upon a data connection.
func (b *stage) pasv() *fakeData {
	b.t.Helper()
	b.client.say("PASV\r\n")
	b.server.hear("PASV")
	b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
	b.client.hear("227 Entering Passive Mode (127,0,0,1,195,80)")
	d := b.path.last()
	if !d.isArmed() || d.isClosed() {
		b.t.Fatal("the pinhole is announced and not armed")
	}
	return d
}

// transfer begins a download: its data connection is in the test's hands.
func (b *stage) transfer() *fakeData {
	b.t.Helper()
	d := b.pasv()
	b.ask("RETR x", "150 here")
	return d
}

// sessions returns how many sessions there are, also those that have no server yet.
func (b *stage) sessions() int {
	b.proxy.mu.Lock()
	defer b.proxy.mu.Unlock()
	return b.proxy.sessions
}

// refusals are the counters that are not zero, as "kind=n kind=n".
func (b *stage) refusals() string {
	var out []string
	for kind, n := range b.counts.Refused() {
		if n > 0 {
			out = append(out, fmt.Sprintf("%s=%d", kind, n))
		}
	}
	return strings.Join(out, " ")
}

// await waits for something that no line shows.
func (b *stage) await(what string, is func() bool) {
	b.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10_000 {
		if is() {
			return
		}
		<-tick.C
	}
	b.t.Fatalf("waited for %s in vain", what)
}

// awaitUnasked waits until so many replies that were not asked for were dropped.
func (b *stage) awaitUnasked(n uint64) {
	b.t.Helper()
	b.await("unasked replies",
		func() bool { return b.counts.refused[verdict.RefusedUnaskedReply].Load() == n })
}

// wantRefused expects what was refused so far: in the counters, and line by line in the log.
func (b *stage) wantRefused(want string) {
	b.t.Helper()
	if got := b.refusals(); got != want {
		b.t.Errorf("refused: got %q; want %q", got, want)
	}
	for _, w := range strings.Fields(want) {
		kind, n, _ := strings.Cut(w, "=")
		message := "request refused"
		if kind == verdict.RefusedLogin.String() {
			message = "login failed"
		}
		if got := fmt.Sprint(strings.Count(b.logs.String(),
			`level=WARN msg="`+message+`" forward=test`)); len(strings.Fields(want)) == 1 && got != n {
			b.t.Errorf("log: got %s refusals; want %s: %s", got, n, b.logs)
		}
		if !strings.Contains(b.logs.String(), "kind="+kind) {
			b.t.Errorf("log: no refusal of kind %s: %s", kind, b.logs)
		}
	}
}
