package leg

import (
	"syscall"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/socket"
)

// Chunk is how much is copied at once, in bytes: the size of a pipe for Splice.
const Chunk = 1 << 20

// Readable reports how much a connection has to read, without reading it.
type Readable struct {
	raw      syscall.RawConn
	peekFunc func(fd uintptr) bool // peek, bound once and not for each call
	n        int
	err      error
}

// NewReadable returns the Readable of a connection. One goroutine may use it.
func NewReadable(c syscall.Conn) (*Readable, error) {
	raw, err := c.SyscallConn()
	r := &Readable{raw: raw}
	r.peekFunc = r.peek
	return r, err
}

// Available waits until the peer has sent data, and returns how many bytes have arrived, at most a Chunk; 0
// when the peer has ended.
func (r *Readable) Available() (int, error) {
	if err := r.raw.Read(r.peekFunc); err != nil {
		return 0, err
	}
	return r.n, r.err
}

// peek reports whether data, an end or an error has arrived. On a TCP socket MSG_TRUNC returns the number of
// bytes and not the bytes, and MSG_PEEK leaves them in the socket (tcp(7), tcp_recvmsg_locked in
// net/ipv4/tcp.c): no buffer is needed.
func (r *Readable) peek(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, 0, Chunk,
			unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.n = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			r.err = errno
			return true
		}
	}
}

// Room waits until a connection's send buffer has room, and returns about how many bytes it accepts at once.
// It uses poll(2), because that makes the socket report when there is room again (SOCK_NOSPACE, tcp_poll in
// net/ipv4/tcp.c): without poll(2) it reports nothing.
func Room(c *socket.Conn) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	errWait := raw.Write(func(fd uintptr) bool {
		ask := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		var ready int
		for ready, err = unix.Poll(ask, 0); err == unix.EINTR; {
			ready, err = unix.Poll(ask, 0)
		}
		if err == nil && ready > 0 {
			n, err = roomWhenWritable(int(fd))
		}
		return err != nil || ready > 0
	})
	if errWait != nil {
		return 0, errWait
	}
	return n, err
}

// roomWhenWritable returns how many bytes a writable socket takes without waiting: a quarter of its send
// buffer, because it is writable while a third is free (sk_stream_is_writeable in include/net/sock.h), and
// the kernel's bookkeeping needs the rest. A broken connection reports its error on write.
func roomWhenWritable(fd int) (int, error) {
	size, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	return min(max(size/4, 1), Chunk), err
}
