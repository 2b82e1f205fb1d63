package relay

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// inlet looks what has come in from an end.
type inlet struct {
	raw  syscall.RawConn
	look func(fd uintptr) bool // peek, bound once and not for each look
	n    int
	err  error
}

func newInlet(src *net.TCPConn) (*inlet, error) {
	raw, err := src.SyscallConn()
	in := &inlet{raw: raw}
	in.look = in.peek
	return in, err
}

// available waits until the end has sent data, and returns how many bytes of it are there, at most a
// chunk; 0 when it has ended.
func (in *inlet) available() (int, error) {
	if err := in.raw.Read(in.look); err != nil {
		return 0, err
	}
	return in.n, in.err
}

// peek tells whether there is something to be told. Of a TCP socket MSG_TRUNC takes no bytes but their
// number, and MSG_PEEK leaves them where they are (tcp(7), tcp_recvmsg_locked in net/ipv4/tcp.c):
// no buffer is needed.
func (in *inlet) peek(fd uintptr) bool {
	for {
		r, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, 0, chunk,
			unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			in.n = int(r)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			in.err = errno
			return true
		}
	}
}

// room waits until dst's send buffer has room, and returns how many bytes it takes at once, about. It
// asks with poll(2), because that has the socket tell when there is some again (SOCK_NOSPACE, tcp_poll
// in net/ipv4/tcp.c): one that was not asked is silent.
func room(dst *net.TCPConn) (n int, err error) {
	raw, err := dst.SyscallConn()
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
			n, err = takes(int(fd))
		}
		return err != nil || ready > 0
	})
	if errWait != nil {
		return 0, errWait
	}
	return n, err
}

// takes returns how many bytes a writable socket takes without waiting: a quarter of its send buffer, for
// it is writable while a third is free (sk_stream_is_writeable in include/net/sock.h), and the rest is
// for what the kernel keeps about them. A broken connection tells so when it is written to.
func takes(fd int) (int, error) {
	size, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	return min(max(size/4, 1), chunk), err
}
