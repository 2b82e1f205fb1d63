package relay

import (
	"errors"
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

// firstBytes is how much a new connection takes for sure, in bytes: its send buffer has 16 KiB at
// least (tcp_wmem in tcp(7)). Small files go without a look at it.
const firstBytes = 8 << 10

// splice carries data in both directions until both have ended or one has failed, after the handshakes of
// sealed legs.
func (t *Transfer) splice() {
	t.result.Joined = time.Now()
	if t.usesTLS() && !t.shake() {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { t.flow(To) })
	t.flow(From)
	back.Wait()
}

// flow carries what the end side sends, and then stands guard over it until the other direction has
// ended too: an end that has sent its last byte can still break.
func (t *Transfer) flow(side Side) {
	pass := t.pass
	if t.usesTLS() {
		pass = t.passSealed
	}
	if err := pass(side); err != nil {
		t.drain(side, err)
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
	if err := t.watchForReset(side); err != nil && !t.closedCleanly(side) {
		t.drain(side, err)
		t.fail(err)
	}
}

// drain lets what an end sent before it broke reach the other one ahead of the reset, as it does without a
// gateway between them: there are clients that reset behind the last byte of a whole file (TLS session
// tickets that they have not read make the kernel do so).
func (t *Transfer) drain(side Side, err error) {
	var broken *BrokenError
	if !errors.As(err, &broken) || broken.Side != side {
		return
	}
	raw, err := t.ends[side.other()].SyscallConn()
	if err != nil {
		return
	}
	late := time.NewTimer(settleTime)
	defer late.Stop()
	tick := time.NewTicker(firstLook)
	defer tick.Stop()
	for {
		unsent := 0
		if onSocket(raw, func(fd int) (err error) {
			unsent, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ) // not acknowledged, tcp(7)
			return err
		}) != nil || unsent == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late.C:
			return
		case <-t.broken:
			return
		}
	}
}

// pass gives everything that the end side sends to the other one, and then its FIN. An error means
// that the transfer is broken, and says by whom.
//
// It waits for data, and for room at the other end, without a pipe, and takes one for what goes through
// at once: neither an end that sends nothing nor one that reads nothing holds one (an ordinary user
// has 64 of full size, pipe-user-pages-soft in proc_sys_fs(5)), the counters are exact at any
// moment, and a direction that carries nothing but its FIN is never spliced.
func (t *Transfer) pass(side Side) error {
	src, dst := t.ends[side], t.ends[side.other()]
	in, err := newInlet(src)
	if err != nil {
		return &BrokenError{side, err}
	}
	some := &io.LimitedReader{R: src} // package net looks into it and splices, as with src itself
	for {
		n, err := in.available()
		if err != nil {
			return &BrokenError{side, err}
		}
		if n == 0 {
			break
		}
		some.N = int64(n)
		if err := t.give(side, some); err != nil {
			return err
		}
	}
	// A socket tells of its reset once. If that was told to the direction that writes to src,
	// src now reads as if it had ended in order. It has not: a socket is closed in order only
	// after our own FIN, which follows the last byte of the other direction.
	// (Asked twice: the other direction may end in between.)
	back := &t.ended[side.other()]
	if !back.Load() && gone(src) && !back.Load() {
		return &BrokenError{side, unix.ECONNRESET}
	}
	t.ended[side].Store(true) // before the FIN: the check above counts on it
	if err := dst.CloseWrite(); err != nil {
		return &BrokenError{side.other(), err}
	}
	return nil
}

// give passes on of what the end side has sent as much as the other one takes at once.
func (t *Transfer) give(side Side, some *io.LimitedReader) error {
	dst := t.ends[side.other()]
	if some.N > firstBytes || t.bytes[side].Load() > 0 {
		takes, err := room(dst)
		if err != nil {
			return &BrokenError{side.other(), err}
		}
		some.N = min(some.N, int64(takes))
	}
	sent, err := io.Copy(dst, some)
	t.bytes[side].Add(sent)
	switch {
	case err == nil:
		return nil
	case gone(dst):
		return &BrokenError{side.other(), err}
	}
	return &BrokenError{side, err}
}

// gone tells that the connection is no more: reset, timed out, or closed in order by both.
func gone(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	return onSocket(raw, func(fd int) error {
		_, err := syscall.Getpeername(fd) // that of x/sys makes a second system call
		return err
	}) != nil
}

// bothEnded tells that both ends have sent their FIN and all that came before was passed on.
func (t *Transfer) bothEnded() bool { return t.ended[From].Load() && t.ended[To].Load() }

// watchForReset waits until both directions have ended. It returns an error if the end side, which has
// sent its FIN, breaks before.
func (t *Transfer) watchForReset(side Side) error {
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
