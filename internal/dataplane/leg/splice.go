package leg

import (
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/socket"
)

// pipe is what splice(2) moves data through: it has no way from one socket to another.
type pipe struct {
	in, out int
	dropped runtime.Cleanup // closes it
}

// pipes are empty, and in use only while data is moved. In place of a new one it may give an error.
var pipes = sync.Pool{New: func() any {
	p, err := newPipe()
	if err != nil {
		return err
	}
	return p
}}

// borrowPipe returns an empty pipe.
func borrowPipe() (*pipe, error) {
	got := pipes.Get()
	if err, failed := got.(error); failed {
		return nil, err
	}
	return got.(*pipe), nil
}

func newPipe() (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	p := &pipe{in: fds[1], out: fds[0]}
	p.dropped = runtime.AddCleanup(p, closePipe, fds) // of one that the pool has dropped
	// An ordinary user may have few large pipes (pipe-user-pages-soft in proc_sys_fs(5)); a small one serves.
	_, _ = unix.FcntlInt(uintptr(p.in), unix.F_SETPIPE_SZ, Chunk)
	return p, nil
}

func closePipe(fds [2]int) {
	_ = unix.Close(fds[0])
	_ = unix.Close(fds[1])
}

// Copy copies at most n of the bytes that src has received to dst, and returns how many: no more than
// BufferSize. It waits for both. errSrc and errDst are the failures of the two.
func Copy(dst, src *socket.Conn, n int) (copied int64, errSrc, errDst error) {
	buf := Borrow()
	defer Return(buf)
	n, errSrc = src.Read(buf[:min(n, BufferSize)])
	if errSrc == nil {
		n, errDst = dst.Write(buf[:n])
	}
	return int64(n), errSrc, errDst
}

// Splice moves at most n bytes that src has received to dst, and returns how many. It does not wait for src,
// and waits for dst. errSrc and errDst are the failures of the two. Where the process may have no pipe more
// (RLIMIT_NOFILE in getrlimit(2)), it is Copy.
func Splice(dst, src *socket.Conn, n int) (moved int64, errSrc, errDst error) {
	p, err := borrowPipe()
	if err != nil {
		return Copy(dst, src, n)
	}
	var left int
	errSrc = src.Control(func(fd int) (err error) {
		left, err = splice(fd, p.in, n)
		return err
	})
	raw, errDst := dst.SyscallConn()
	for errSrc == nil && errDst == nil && left > 0 {
		var some int
		var err error
		errDst = raw.Write(func(fd uintptr) bool {
			some, err = splice(p.out, int(fd), left)
			return some > 0 || err != nil
		})
		if errDst == nil {
			errDst = err
		}
		left -= some
		moved += int64(some)
	}
	if left == 0 {
		pipes.Put(p)
	} else { // no other connection may get the rest
		p.dropped.Stop()
		closePipe([2]int{p.out, p.in})
	}
	return moved, errSrc, errDst
}

// splice moves what it can at once; 0: nothing.
func splice(from, to, n int) (moved int, err error) {
	for {
		moved64, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch err {
		case nil:
			return int(moved64), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("splice", err)
		}
	}
}
