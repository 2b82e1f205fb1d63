package relay

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pieceSize is how much a sealed transfer reads, encrypts and writes at once, in bytes: of TLS's records of
// 16 KiB each costs a system call else.
const pieceSize = 128 << 10

// headroom is what TLS adds to the eight records of a piece, in bytes, and more: 5 of header and at most 256
// of the rest each in TLS 1.3 (RFC 8446 section 5.2), and less than 5+16+48 in what TLS 1.2 still negotiates.
const headroom = 4 << 10

type piece [pieceSize + headroom]byte

// pieces are lent while data is on its way, and never while an end is waited for to send some.
var pieces = sync.Pool{New: func() any { return new(piece) }}

// bufferedConn is the connection below a tls.Conn: it reads large pieces, and writes many records at once. After the
// handshake Read never waits: where nothing has come it returns os.ErrDeadlineExceeded, which a
// tls.Conn survives, and wait is for waiting. One goroutine reads; any may write.
type bufferedConn struct {
	*net.TCPConn
	raw           syscall.RawConn
	handshakeTime time.Duration

	shaking bool                  // the handshake is not done: Read waits
	heard   bool                  // something has come
	take    func(fd uintptr) bool // receive, bound once
	in      *piece                // what has come and was not read; nil: nothing
	r, w    int                   // the place of it in in
	dry     bool                  // Read has found nothing
	err     error                 // after in nothing comes any more
	ended   bool                  // and Read has said so: the reader wanted more than came

	mu     sync.Mutex
	corked bool
	out    *piece // held back until flush; nil: nothing
	n      int    // how much of it
}

// newBufferedConn returns a wire whose handshake is to come: from its first byte on the peer has handshakeTime.
func newBufferedConn(c *net.TCPConn, handshakeTime time.Duration) (*bufferedConn, error) {
	raw, err := c.SyscallConn()
	w := &bufferedConn{TCPConn: c, raw: raw, handshakeTime: handshakeTime, shaking: true}
	w.take = w.receive
	return w, err
}

// Read returns what has come.
func (w *bufferedConn) Read(p []byte) (int, error) {
	if w.in == nil && w.shaking {
		w.wait()
		if w.in != nil && !w.heard {
			w.heard = true
			_ = w.TCPConn.SetDeadline(time.Now().Add(w.handshakeTime)) // fails only on a closed one
		}
	}
	switch {
	case w.in != nil:
	case w.err != nil:
		w.ended = true
		return 0, w.err
	default:
		w.dry = true
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, w.in[w.r:w.w])
	if w.r += n; w.r == w.w {
		pieces.Put(w.in)
		w.in = nil
	}
	return n, nil
}

// wait waits until Read has something to return, without a buffer. At the beginning and after all else than
// a Read that found nothing the reader may still have something itself, and it does not wait.
func (w *bufferedConn) wait() {
	if !w.dry && !w.shaking || w.in != nil || w.err != nil {
		return
	}
	w.dry = false
	if err := w.raw.Read(w.take); err != nil {
		w.err = err
	}
}

// receive tells whether there was something to be read.
func (w *bufferedConn) receive(fd uintptr) bool {
	in := pieces.Get().(*piece)
	n, err := unix.Read(int(fd), in[:])
	for err == unix.EINTR {
		n, err = unix.Read(int(fd), in[:])
	}
	if err == nil && n > 0 {
		w.in, w.r, w.w = in, 0, n
		return true
	}
	pieces.Put(in)
	switch err {
	case nil:
		w.err = io.EOF
	case unix.EAGAIN:
		return false
	default:
		w.err = err
	}
	return true
}

// Write writes p, or holds it back while the wire is corked.
func (w *bufferedConn) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.corked {
		return w.TCPConn.Write(p)
	}
	if w.out == nil {
		w.out = pieces.Get().(*piece)
	}
	done := 0
	for {
		n := copy(w.out[w.n:], p[done:])
		w.n += n
		if done += n; done == len(p) {
			return done, nil
		}
		if err := w.drain(); err != nil {
			return done, err
		}
	}
}

// cork has what is written wait for flush.
func (w *bufferedConn) cork() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = true
}

// flush writes what was held back.
func (w *bufferedConn) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = false
	if w.out == nil {
		return nil
	}
	err := w.drain()
	pieces.Put(w.out)
	w.out = nil
	return err
}

// drain writes what is in out. It is for who holds the lock.
func (w *bufferedConn) drain() error {
	_, err := w.TCPConn.Write(w.out[:w.n])
	w.n = 0
	return err
}

// SetDeadline, SetReadDeadline and SetWriteDeadline do nothing: a tls.Conn gives its close_notify five seconds, and
// what stands before it in the send buffer may need longer to get to a slow end.
func (w *bufferedConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: see SetDeadline.
func (w *bufferedConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: see SetDeadline.
func (w *bufferedConn) SetWriteDeadline(time.Time) error { return nil }
