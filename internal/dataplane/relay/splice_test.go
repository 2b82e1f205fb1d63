package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relaytest"
	"ftpgate/internal/dataplane/socket"
	"ftpgate/internal/try/lab/labtest"
)

// TestStalled has the client stop reading: the server is held up, and the gateway keeps no more than the
// sockets hold: no pipe, and nothing on the heap. Then the client continues.
func TestStalled(t *testing.T) {
	dc, client, srv := connected(t)
	client.SetReadBuffer(64 << 10)
	<-dc.connected
	setWriteBuffer(t, dc.ends[Client], 64<<10) // so that it has never room for a whole chunk
	block := relaytest.Noise(1 << 20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var written int64
	for {
		srv.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // nothing moves: it is full
		n, err := srv.Write(block)
		written += int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if written > 256<<20 {
			t.Fatal("the server is never held up")
		}
	}
	runtime.ReadMemStats(&after)
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 512<<10 {
		t.Errorf("a stalled connection holds %d bytes of heap", got)
	}
	if n := piped(t); n != 0 {
		t.Errorf("a stalled connection holds %d bytes in pipes; want none", n)
	}
	// When there is a little room, only that much continues its way.
	early, err := io.CopyN(io.Discard, client, 512<<10)
	if err != nil {
		t.Fatal(err)
	}
	relaytest.Await(t, func() bool { return piped(t) == 0 },
		func() string { return fmt.Sprintf("%d bytes stay in pipes", piped(t)) })
	srv.CloseWrite()
	late, err := io.Copy(io.Discard, client)
	if got := early + late; got != written || err != nil {
		t.Errorf("got %d bytes, %v; want %d", got, err, written)
	}
	client.Close()
	srv.Close()
	if r := wait(t, dc); r.Err != nil || r.Down != written {
		t.Errorf("got %+v; want %d bytes", r, written)
	}
	if n := piped(t); n != 0 {
		t.Errorf("got %d bytes in pipes after the end; want none", n)
	}
}

// setWriteBuffer sets the size of a connection's send buffer.
func setWriteBuffer(t *testing.T, c *socket.Conn, size int) {
	t.Helper()
	if err := c.Control(func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
	}); err != nil {
		t.Fatal(err)
	}
}

// piped returns how many bytes wait in the pipes of this process, for splice(2).
func piped(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(fds) == 0 {
		t.Fatalf("got %d descriptors, %v", len(fds), err)
	}
	for _, name := range fds {
		fd, err := strconv.Atoi(filepath.Base(name))
		if target, errLink := os.Readlink(name); err != nil || errLink != nil ||
			!strings.HasPrefix(target, "pipe:") {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil ||
			flags&unix.O_ACCMODE != unix.O_WRONLY {
			continue // its other end counts
		}
		in, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		if err == nil {
			n += in
		}
	}
	return n
}

// TestIdle joins a thousand connections, many more than an ordinary user has pipes of full size, has one byte
// go through each, and then nothing: none holds a pipe or more than its two goroutines.
func TestIdle(t *testing.T) {
	const connections = 300
	pipes := func() (n int) {
		fds, _ := filepath.Glob("/proc/self/fd/*")
		for _, name := range fds {
			if target, err := os.Readlink(name); err == nil && strings.HasPrefix(target, "pipe:") {
				n++
			}
		}
		return n
	}
	l := relaytest.Listen(t, relaytest.Server)
	p := opener()
	pipesBefore, goroutinesBefore := pipes(), runtime.NumGoroutine()
	var all []*Connection
	for range connections {
		dc, err := p.Open(context.Background(), pinholeTo(l), dataplane.DataTLS{})
		if err == nil {
			err = dc.Arm()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(dc.Close)
		all = append(all, dc)
		client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
		relaytest.Accept(t, l).Write([]byte{1})
		if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	relaytest.Await(t, func() bool {
		runtime.GC() // a few pipes are kept for the next splice, until then
		return pipes() <= pipesBefore
	}, func() string {
		return fmt.Sprintf("%d idle connections hold %d ends of pipes", connections, pipes()-pipesBefore)
	})
	if got := runtime.NumGoroutine() - goroutinesBefore; got > 2*connections {
		t.Errorf("%d idle connections have %d goroutines; want two for each", connections, got)
	}
	for _, dc := range all {
		dc.Sever()
	}
	relaytest.Await(t, func() bool { return runtime.NumGoroutine() <= goroutinesBefore },
		func() string {
			return fmt.Sprintf("%d goroutines are left",
				runtime.NumGoroutine()-goroutinesBefore)
		})
}

// again has this very test binary run as another program: traced, or killed.
func again(t *testing.T, test string, wrap ...string) *exec.Cmd {
	t.Helper()
	args := append(wrap, os.Args[0], "-test.run=^"+test+"$", "-test.count=1")
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "RELAY_TEST_CHILD=1", relaytest.NetworkVariable+"="+relaytest.Network())
	return cmd
}

func isChild() bool { return os.Getenv("RELAY_TEST_CHILD") != "" }

// TestSpliceTraced counts system calls: data goes through splice(2), but for the first bytes.
func TestSpliceTraced(t *testing.T) {
	if isChild() {
		_, client, srv := connected(t)
		out := relaytest.Noise(2 << 20)
		sent := relaytest.Send(srv, out)
		relaytest.WantData(t, "client", client, out)
		<-sent
		return
	}
	labtest.Need(t, "strace")
	if err := exec.Command("strace", "-o", os.DevNull, "/bin/true").Run(); err != nil {
		labtest.Refused(t, fmt.Sprintf("strace may not trace here: %v", err))
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := again(t, "TestSpliceTraced", "strace", "-f", "-o", trace, "-e", "trace=splice")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var moved int
	for line := range strings.Lines(string(text)) {
		i := strings.LastIndex(line, "= ") // strace puts results into a column; a call that waits has none
		if i < 0 || !strings.Contains(line, "splice") {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(line[i+2:])); err == nil && n > 0 {
			moved += n
		}
	}
	if want := 2 * 2 << 20; moved > want || moved < want-2*firstBytes { // into the pipe and out of it
		t.Errorf("splice(2) moved %d bytes; want %d, but for the first %d", moved, want, firstBytes)
	}
}

// TestKilled kills a gateway in the middle of a connection: both ends see a reset, and not the FIN that
// the kernel sends for a program that is gone.
func TestKilled(t *testing.T) {
	if isChild() {
		to := netip.MustParseAddrPort(os.Getenv("RELAY_TEST_TO"))
		h := pinholeTo(relaytest.Listen(t, relaytest.Server))
		h.Target = to
		dc := open(t, opener(), h)
		fmt.Println("at", dc.Listen())
		<-dc.Done() // never: it is killed before
		return
	}
	l := relaytest.Listen(t, relaytest.Server)
	cmd := again(t, "TestKilled")
	cmd.Env = append(cmd.Env, "RELAY_TEST_TO="+l.Addr().String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var at string
	if _, err := fmt.Fscanf(out, "at %s\n", &at); err != nil {
		t.Fatal(errors.Join(err, cmd.Process.Kill(), cmd.Wait()))
	}
	client := relaytest.Dial(t, relaytest.Peer, netip.MustParseAddrPort(at))
	srv := relaytest.Accept(t, l)
	client.Write([]byte("half of a file"))
	io.ReadFull(srv, make([]byte, len("half of a file")))
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	relaytest.WantReset(t, "client", client)
	relaytest.WantReset(t, "server", srv)
	cmd.Wait() // it says that it was killed, which is known
}

// carry sends size bytes from srv to client b.N times over one connection.
func carry(b *testing.B, client, srv *net.TCPConn, size int64) {
	b.SetBytes(size)
	done := make(chan struct{})
	client.SetDeadline(time.Time{})
	srv.SetDeadline(time.Time{})
	go func() {
		defer close(done)
		block := make([]byte, 1<<20)
		for sent := int64(0); sent < size*int64(b.N); sent += int64(len(block)) {
			if _, err := srv.Write(block); err != nil {
				b.Error(err)
				return
			}
		}
		srv.CloseWrite()
	}()
	buf := make([]byte, 1<<20)
	for {
		if _, err := client.Read(buf); err != nil {
			break
		}
	}
	<-done
}

// BenchmarkStream carries one large stream: over nothing, by the relay, by one io.Copy that splices
// (what the relay's waiting and counting costs), and by one that cannot (what splice(2) saves).
// Both ends run on the same cores, and loopback copies once more than a wire.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	b.Run("direct", func(b *testing.B) {
		l := relaytest.Listen(b, relaytest.Server)
		client := relaytest.Dial(b, relaytest.Peer, relaytest.LocalAddrPort(l.Addr()))
		carry(b, client, relaytest.Accept(b, l), size)
	})
	b.Run("relay", func(b *testing.B) {
		_, client, srv := connected(b)
		carry(b, client, srv, size)
	})
	for name, pump := range map[string]func(dst, src *net.TCPConn){
		"spliced": func(dst, src *net.TCPConn) { io.Copy(dst, src) },
		"copied": func(dst, src *net.TCPConn) {
			io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 256<<10))
		},
	} {
		b.Run(name, func(b *testing.B) {
			front, back := relaytest.Listen(b, relaytest.Gateway), relaytest.Listen(b, relaytest.Server)
			client := relaytest.Dial(b, relaytest.Peer, relaytest.LocalAddrPort(front.Addr()))
			in := relaytest.Accept(b, front)
			out := relaytest.Dial(b, relaytest.Inside, relaytest.LocalAddrPort(back.Addr()))
			srv := relaytest.Accept(b, back)
			in.SetDeadline(time.Time{})
			out.SetDeadline(time.Time{})
			go func() {
				pump(in, out)
				in.CloseWrite()
			}()
			carry(b, client, srv, size)
		})
	}
}

// BenchmarkSmall opens, carries 1 KiB and closes: what a listing or a small file costs. It shows the
// whole on this machine: two connections for each connection, and both ends in this process.
func BenchmarkSmall(b *testing.B) {
	l := relaytest.Listen(b, relaytest.Server)
	l.SetDeadline(time.Time{})
	file := bytes.Repeat([]byte("x"), 1024)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			c.Write(file)
			c.Close()
		}
	}()
	opener := opener()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		d := net.Dialer{}
		for pb.Next() {
			dc, err := opener.Open(context.Background(), pinholeTo(l), dataplane.DataTLS{})
			if err != nil {
				b.Fatal(err)
			}
			if err := dc.Arm(); err != nil {
				b.Fatal(err)
			}
			c, err := d.DialTCP(context.Background(), "tcp", netip.AddrPortFrom(relaytest.Peer, 0),
				dc.Listen())
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.Copy(io.Discard, c)
			c.Close()
			if dc.Finish(nil); n != 1024 || err != nil || dc.Err() != nil {
				b.Fatal(n, err, dc.Err())
			}
			dc.Close()
		}
	})
	l.Close()
	<-served
}
