package leg

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/socket"
)

// received returns an end of a connection that has received text.
func received(t *testing.T, text string) *socket.Conn {
	t.Helper()
	own, peer := connected(t)
	if _, err := io.WriteString(peer, text); err != nil {
		t.Fatal(err)
	}
	r, err := NewReadable(own)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.Available(); n != len(text) || err != nil {
		t.Fatalf("got %d bytes, %v; want %d", n, err, len(text))
	}
	return own
}

// wantSpliced checks that what src has received goes to a new connection.
func wantSpliced(t *testing.T, src *socket.Conn, want string) {
	t.Helper()
	dst, peer := connected(t)
	wantSplicedTo(t, dst, peer, src, want)
}

func wantSplicedTo(t *testing.T, dst *socket.Conn, peer *net.TCPConn, src *socket.Conn, want string) {
	t.Helper()
	if n, errSrc, errDst := Splice(dst, src, len(want)); n != int64(len(want)) || errSrc != nil ||
		errDst != nil {
		t.Fatalf("got %d bytes, %v, %v; want %d", n, errSrc, errDst, len(want))
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(peer, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// What a broken connection left in a pipe reaches no other one, and the pipe is closed.
func TestSpliceToABrokenEnd(t *testing.T) {
	wantSpliced(t, received(t, "first"), "first") // there is a pipe
	src := received(t, "for another")
	dst, _ := connected(t)
	dst.Close()
	before := openFiles(t)
	if n, errSrc, errDst := Splice(dst, src, 11); n != 0 || errSrc != nil || errDst == nil {
		t.Fatalf("got %d bytes, %v, %v; want the failure of the destination", n, errSrc, errDst)
	}
	if after := openFiles(t); after > before {
		t.Errorf("got %d open files, before %d", after, before)
	}
	wantSpliced(t, received(t, "mine"), "mine")
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// Without another file descriptor data is copied all the same.
func TestSpliceWithoutAPipe(t *testing.T) {
	src := received(t, "all of it")
	dst, peer := connected(t)
	runtime.GC() // the pool of pipes is empty after two
	runtime.GC()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: 3, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	if p, err := newPipe(); err == nil {
		t.Fatalf("got the pipe %v; want none to be had", p)
	}
	wantSplicedTo(t, dst, peer, src, "all of it")
}
