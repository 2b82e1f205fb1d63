package tracker

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// wire reads and writes a control connection as net.TCPConn does, deadlines included, but without
// telling the Go scheduler of each system call. The sockets don't block, and a write takes some twenty
// microseconds, in which the kernel carries the packet through its own hosts' stacks: just long
// enough for the scheduler to take the processor away and wake another thread for it, which costs more
// than the write. It is for one reader and one writer at a time.
type wire struct {
	raw         syscall.RawConn
	read, write attempt
}

// attempt is one system call that is tried until the socket is ready. Its function is made once: one that
// is made for each call would be garbage each time.
type attempt struct {
	call  func(fd uintptr) bool
	b     []byte
	n     int
	errno syscall.Errno
}

// newWire joins a wire to a connection, which stays the caller's.
func newWire(c *net.TCPConn) *wire {
	raw, _ := c.SyscallConn() // fails where there is no connection only
	w := &wire{raw: raw}
	w.read.call = func(fd uintptr) bool { return w.read.try(syscall.SYS_READ, fd) }
	w.write.call = func(fd uintptr) bool { return w.write.try(syscall.SYS_WRITE, fd) }
	return w
}

// try makes the system call; false: the socket is not ready.
func (s *attempt) try(number, fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.b))), uintptr(len(s.b)))
		switch errno {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		case 0:
			s.n = int(n)
		}
		s.errno = errno
		return true
	}
}

// run tries the call until it is done or wait's deadline has passed.
func (s *attempt) run(wait func(func(uintptr) bool) error, b []byte) (int, error) {
	s.b, s.n, s.errno = b, 0, 0
	err := wait(s.call)
	s.b = nil
	if err == nil && s.errno != 0 {
		err = os.NewSyscallError("control connection", s.errno)
	}
	return s.n, err
}

// Read reads what is there, and waits where that is nothing.
func (w *wire) Read(b []byte) (int, error) {
	n, err := w.read.run(w.raw.Read, b)
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

// Write writes all of b, or says why not.
func (w *wire) Write(b []byte) (written int, err error) {
	for written < len(b) && err == nil {
		n := 0
		n, err = w.write.run(w.raw.Write, b[written:])
		written += n
	}
	return written, err
}
