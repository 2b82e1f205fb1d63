package relay

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// chunk is how much is passed on at once, in bytes: the size of the pipe that package net splices
// through (maxSpliceSize in internal/poll).
const chunk = 1 << 20

// splice carries data in both directions until both have ended or one has failed.
func (t *Transfer) splice() {
	t.result.Joined = time.Now()
	var back sync.WaitGroup
	back.Go(func() { t.flow(To) })
	t.flow(From)
	back.Wait()
}

// flow carries what the end side sends, and then stands guard over it until the other direction has
// ended too: an end that has sent its last byte can still break.
func (t *Transfer) flow(side Side) {
	if err := t.pass(side); err != nil {
		t.fail(err)
		return
	}
	if t.bothEnded() {
		// Only the guards, if any, still read.
		for _, c := range t.ends {
			_ = c.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed one, which nobody guards
		}
		return
	}
	if err := t.guard(side); err != nil {
		t.fail(err)
	}
}

// pass gives everything that the end side sends to the other one, and then its FIN. An error means
// that the transfer is broken, and says by whom.
//
// It waits for data without a pipe and takes one for what is there: an end that sends nothing holds
// none (an ordinary user has 64 of full size, pipe-user-pages-soft in proc_sys_fs(5)), the counters
// are exact at any moment, and a direction that carries nothing but its FIN is never spliced.
func (t *Transfer) pass(side Side) error {
	src, dst := t.ends[side], t.ends[side.other()]
	raw, err := src.SyscallConn()
	if err != nil {
		return &BrokenError{side, err}
	}
	some := &io.LimitedReader{R: src} // package net looks into it and splices, as with src itself
	for {
		n, err := available(raw)
		if err != nil {
			return &BrokenError{side, err}
		}
		if n == 0 {
			break
		}
		some.N = int64(n)
		sent, err := io.Copy(dst, some)
		t.bytes[side].Add(sent)
		if err != nil {
			if gone(dst) {
				return &BrokenError{side.other(), err}
			}
			return &BrokenError{side, err}
		}
	}
	// A socket tells of its reset once. If that was told to the direction that writes to src,
	// src now reads as if it had ended in order. It has not: a socket is closed in order only
	// after our own FIN, which follows the last byte of the other direction.
	if gone(src) && !t.ended[side.other()].Load() {
		return &BrokenError{side, unix.ECONNRESET}
	}
	t.ended[side].Store(true) // before the FIN: the check above counts on it
	if err := dst.CloseWrite(); err != nil {
		return &BrokenError{side.other(), err}
	}
	return nil
}

// available waits until src has data, and returns how many bytes of it, at most a chunk; 0 when it
// has ended.
func available(src syscall.RawConn) (n int, err error) {
	errWait := src.Read(func(fd uintptr) bool {
		for {
			// Of a TCP socket MSG_TRUNC takes no bytes but their number, and MSG_PEEK leaves them
			// where they are (tcp(7), tcp_recvmsg_locked in net/ipv4/tcp.c): no buffer is needed.
			r, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, 0, chunk,
				unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
			switch errno {
			case 0:
				n = int(r)
				return true
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				err = errno
				return true
			}
		}
	})
	if errWait != nil {
		return 0, errWait
	}
	return n, err
}

// gone tells that the connection is no more: reset, timed out, or closed in order by both.
func gone(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	return onSocket(raw, func(fd int) error {
		_, err := unix.Getpeername(fd)
		return err
	}) != nil
}

// bothEnded tells that both ends have sent their FIN and all that came before was passed on.
func (t *Transfer) bothEnded() bool { return t.ended[From].Load() && t.ended[To].Load() }

// guard waits until both directions have ended. It returns an error if the end side, which has
// sent its FIN, breaks before.
func (t *Transfer) guard(side Side) error {
	raw, err := t.ends[side].SyscallConn()
	if err != nil {
		return nil // closed: the other direction has failed and has said why
	}
	errno := 0
	err = raw.Read(func(fd uintptr) bool {
		var errGet error
		errno, errGet = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return errno != 0 || errGet != nil
	})
	if err != nil || errno == 0 || t.bothEnded() {
		return nil // woken by the other direction, or nothing is left that could break
	}
	return &BrokenError{side, syscall.Errno(errno)}
}
