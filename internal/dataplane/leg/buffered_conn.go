package leg

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/socket"
)

// BufferSize is how much a TLS transfer reads, encrypts and writes at once, in bytes: with a smaller buffer,
// each TLS record of 16 KiB costs a system call.
const BufferSize = 128 << 10

// BufferHeadroom is more than TLS adds to the eight records of a buffer (nine in TLS 1.0, where crypto/tls
// begins with one of a single byte), in bytes: 5 of header and at most 256 of the rest each in TLS 1.3 (RFC
// 8446 section 5.2), and less than 5+16+48 in what TLS 1.2 and older ones still negotiate.
const BufferHeadroom = 4 << 10

// Buffer holds data in transit.
type Buffer [BufferSize + BufferHeadroom]byte

// buffers are in use while data is in transit, and never during a wait for a peer.
var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// Borrow returns a buffer, which the caller gives to Return.
func Borrow() *Buffer { return buffers.Get().(*Buffer) }

// Return takes a buffer back.
func Return(b *Buffer) { buffers.Put(b) }

// bufferedConn is the connection below a tls.Conn: it reads large pieces, and writes many records at once.
// After the handshake Read never waits: without data it returns os.ErrDeadlineExceeded, which a tls.Conn
// survives. Call wait to wait for data. One goroutine reads; any may write.
type bufferedConn struct {
	*socket.Conn
	raw           syscall.RawConn
	handshakeTime time.Duration

	handshaking bool                  // Read waits
	heard       bool                  // the peer has sent something
	receiving   func(fd uintptr) bool // receive, bound once
	in          *Buffer               // received and not yet read; nil: nothing
	start, end  int                   // the range of it in in
	dry         bool                  // Read found nothing
	err         error                 // follows the data in in
	ended       bool                  // Read returned err: the reader wanted more than had arrived

	// mu orders writes, as the lock of a tls.Conn does. A writer holds it while the peer is slow; only other
	// writers to the same peer wait for it.
	mu     sync.Mutex
	corked bool
	out    *Buffer // held back until flush; nil: nothing
	n      int     // how much of it
}

// newBufferedConn returns a bufferedConn before its handshake, for which the peer may take handshakeTime from
// its first byte on.
func newBufferedConn(tcp *socket.Conn, handshakeTime time.Duration) (*bufferedConn, error) {
	raw, err := tcp.SyscallConn()
	c := &bufferedConn{Conn: tcp, raw: raw, handshakeTime: handshakeTime, handshaking: true}
	c.receiving = c.receive
	return c, err
}

// Read returns what has arrived.
func (c *bufferedConn) Read(p []byte) (int, error) {
	if c.in == nil && c.handshaking {
		c.wait()
		if c.in != nil && !c.heard {
			c.heard = true
			_ = c.Conn.SetDeadline(time.Now().Add(c.handshakeTime)) // fails only on a closed one
		}
	}
	switch {
	case c.in != nil:
	case c.err != nil:
		c.ended = true
		return 0, c.err
	default:
		c.dry = true
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, c.in[c.start:c.end])
	if c.start += n; c.start == c.end {
		Return(c.in)
		c.in = nil
	}
	return n, nil
}

// wait waits until Read has data or an error to return, without a buffer. It waits only if the last Read
// found nothing, or during the handshake: else the reader may still have data of its own.
func (c *bufferedConn) wait() {
	if !c.dry && !c.handshaking || c.in != nil || c.err != nil {
		return
	}
	c.dry = false
	if err := c.raw.Read(c.receiving); err != nil {
		c.err = err
	}
}

// receive reads what has arrived, and reports whether there was data, an end or an error.
func (c *bufferedConn) receive(fd uintptr) bool {
	in := Borrow()
	n, err := unix.Read(int(fd), in[:])
	for err == unix.EINTR {
		n, err = unix.Read(int(fd), in[:])
	}
	if err == nil && n > 0 {
		c.in, c.start, c.end = in, 0, n
		return true
	}
	Return(in)
	switch err {
	case nil:
		c.err = io.EOF
	case unix.EAGAIN:
		return false
	default:
		c.err = err
	}
	return true
}

// Write writes p, or holds it back while the connection is corked.
func (c *bufferedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.corked {
		return c.Conn.Write(p)
	}
	if c.out == nil {
		c.out = Borrow()
	}
	done := 0
	for {
		n := copy(c.out[c.n:], p[done:])
		c.n += n
		if done += n; done == len(p) {
			return done, nil
		}
		if err := c.writeOut(); err != nil {
			return done, err
		}
	}
}

// cork holds back what is written, until flush.
func (c *bufferedConn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
}

// flush writes what was held back.
func (c *bufferedConn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	if c.out == nil {
		return nil
	}
	err := c.writeOut()
	Return(c.out)
	c.out = nil
	return err
}

// writeOut writes out. The caller holds the lock.
func (c *bufferedConn) writeOut() error {
	_, err := c.Conn.Write(c.out[:c.n])
	c.n = 0
	return err
}

// SetDeadline, SetReadDeadline and SetWriteDeadline do nothing: a tls.Conn gives its close_notify five
// seconds, and the data before it in the send buffer may need longer to reach a slow peer.
func (c *bufferedConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: see SetDeadline.
func (c *bufferedConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: see SetDeadline.
func (c *bufferedConn) SetWriteDeadline(time.Time) error { return nil }
