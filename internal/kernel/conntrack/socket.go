package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// largest is the longest datagram that the kernel makes: a part of a dump (netlink_dump in
	// net/netlink/af_netlink.c).
	largest = 32 << 10
	// readSize is how much is read before any of it is looked at: some hundred events or answers.
	readSize = 4 * largest
	// answerBuffer is a request socket's buffer in the kernel, in bytes, for more than perRound answers.
	answerBuffer = 512 << 10
)

var errNoAnswer = errors.New("the kernel has not answered")

// socket is a netlink socket to the kernel's netfilter, read and written in bulk.
type socket struct {
	conn *netlink.Conn
	raw  syscall.RawConn
}

// dial opens a socket with a receive buffer of so many bytes, as far as the kernel allows.
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
	// An error's answer does not repeat the request.
	if err := s.conn.SetOption(netlink.CapAcknowledge, true); err != nil {
		return err
	}
	// Connected to port 0, the socket takes messages from the kernel alone, and write needs no address.
	return s.control(func(fd int) error { return unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) })
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

// send gives messages to the kernel, which works on them before send returns.
func (s *socket) send(b []byte) (err error) {
	if werr := s.raw.Write(func(fd uintptr) bool {
		_, err = again(func() (int, error) { return unix.Write(int(fd), b) })
		return true
	}); werr != nil {
		return os.ErrClosed // the only reason that there is
	}
	return os.NewSyscallError("write", err)
}

// poll reads what is there, in whole datagrams: 0 bytes if there is nothing. lost tells that the kernel
// could not put everything into the buffer.
func (s *socket) poll(b []byte) (n int, lost bool, err error) { return s.read(b, false) }

// wait is poll, but waits for something. It ends with the connection's read deadline, too.
func (s *socket) wait(b []byte) (n int, lost bool, err error) { return s.read(b, true) }

// endWait has wait end with ctx. After that resume has it wait again; stop is for the end.
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

func (s *socket) read(b []byte, wait bool) (n int, lost bool, err error) {
	rerr := s.raw.Read(func(fd uintptr) bool {
		for len(b)-n >= largest {
			var m int
			m, err = again(func() (int, error) { return unix.Read(int(fd), b[n:]) })
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

// again repeats a system call that a signal has interrupted.
func again(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// header is a netlink message's (struct nlmsghdr), as far as it matters.
type header struct {
	typ, flags uint16
	seq        uint32
}

// messages takes datagrams apart. What is cut off at the end is left out.
func messages(b []byte) iter.Seq2[header, []byte] {
	return func(yield func(header, []byte) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			length := int(binary.NativeEndian.Uint32(b))
			if length < unix.NLMSG_HDRLEN || length > len(b) {
				return
			}
			h := header{
				typ:   binary.NativeEndian.Uint16(b[4:]),
				flags: binary.NativeEndian.Uint16(b[6:]),
				seq:   binary.NativeEndian.Uint32(b[8:]),
			}
			if !yield(h, b[unix.NLMSG_HDRLEN:length]) {
				return
			}
			b = b[min(align(length), len(b)):]
		}
	}
}

// errorOf returns what an answer of type NLMSG_ERROR, or the end of a dump, says; nil: done.
func errorOf(body []byte) error {
	if len(body) < 4 {
		return errNoAnswer
	}
	if number := int32(binary.NativeEndian.Uint32(body)); number != 0 {
		return unix.Errno(-number)
	}
	return nil
}

func align(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
