package conntrack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// maxDatagram is the longest datagram that the kernel makes, in bytes: a part of a dump (netlink_dump in
	// net/netlink/af_netlink.c).
	maxDatagram = 32 << 10
	// readSize is how much is read before any of it is parsed: a few hundred events or answers.
	readSize = 4 * maxDatagram
	// answerBuffer is the size of a requester's buffer in the kernel, in bytes: for more than perRound
	// answers.
	answerBuffer = 512 << 10
)

var errNoAnswer = errors.New("the kernel has not answered")

// socket is a netlink socket to the kernel's netfilter, read and written in bulk.
type socket struct {
	conn *netlink.Conn
	raw  syscall.RawConn
}

// dial opens a socket with a receive buffer of this many bytes, or as many as the kernel allows.
func dial(buffer int) (*socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("conntrack: open netlink: %w", err)
	}
	s := &socket{conn: conn}
	if err := s.prepare(buffer); err != nil {
		conn.Close()
		return nil, fmt.Errorf("conntrack: netlink options: %w", err)
	}
	return s, nil
}

func (s *socket) prepare(buffer int) (err error) {
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		return err
	}
	if err := s.conn.SetReadBuffer(buffer); err != nil {
		return err
	}
	// An answer with an error does not repeat the request.
	if err := s.conn.SetOption(netlink.CapAcknowledge, true); err != nil {
		return err
	}
	// A socket connected to port 0 takes messages from the kernel only, and write needs no address.
	return s.control(func(fd int) error {
		return unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
}

func (s *socket) control(f func(fd int) error) (err error) {
	if cerr := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

func (s *socket) close() error {
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("conntrack: close netlink: %w", err)
	}
	return nil
}

// send passes messages to the kernel, which processes them before send returns.
func (s *socket) send(b []byte) (err error) {
	if werr := s.raw.Write(func(fd uintptr) bool {
		_, err = retryInterrupted(func() (int, error) { return unix.Write(int(fd), b) })
		return true
	}); werr != nil {
		return os.ErrClosed // the only possible reason
	}
	return os.NewSyscallError("write", err)
}

// poll reads the datagrams that are waiting, or 0 bytes if there are none. lost reports that the kernel
// dropped messages because its buffer was full.
func (s *socket) poll(b []byte) (n int, lost bool, err error) { return s.read(b, false) }

// wait is poll, but waits for a datagram, or for the connection's read deadline.
func (s *socket) wait(b []byte) (n int, lost bool, err error) { return s.read(b, true) }

// endWait makes wait return when ctx ends. After that, resume lets wait work again. The caller calls stop
// when it waits no more.
func (s *socket) endWait(ctx context.Context) (resume func() error, stop func() bool) {
	ended := make(chan struct{})
	stop = context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	})
	return func() error {
		<-ended
		return s.conn.SetReadDeadline(time.Time{})
	}, stop
}

// drain reads into b what is waiting, and hands it over.
func (s *socket) drain(b []byte, handOver func([]byte)) (err error) {
	for n := 1; err == nil && n > 0; {
		n, _, err = s.poll(b)
		handOver(b[:n])
	}
	return err
}

func (s *socket) read(b []byte, wait bool) (n int, lost bool, err error) {
	rerr := s.raw.Read(func(fd uintptr) bool {
		for len(b)-n >= maxDatagram {
			var m int
			m, err = retryInterrupted(func() (int, error) { return unix.Read(int(fd), b[n:]) })
			switch {
			case errors.Is(err, unix.ENOBUFS):
				lost, err = true, nil
				return true
			case errors.Is(err, unix.EAGAIN):
				err = nil
				return n > 0 || !wait
			case err != nil:
				return true
			}
			n += m
		}
		return true
	})
	switch {
	case errors.Is(rerr, os.ErrDeadlineExceeded):
		return 0, false, rerr
	case rerr != nil:
		return 0, false, os.ErrClosed
	}
	return n, lost, os.NewSyscallError("read", err)
}

// retryInterrupted repeats a system call that a signal interrupted.
func retryInterrupted(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}
