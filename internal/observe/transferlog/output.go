package transferlog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"ftpgate/internal/observe/sessions"
)

// output is one file of the log.
type output struct {
	path string
	// line appends a transfer's line to b, with its newline; nothing if the transfer does not belong in the
	// file.
	line func(b []byte, t *sessions.Transfer) ([]byte, error)

	// These fields belong to the writer.
	file    *os.File
	pipe    bool   // or another file that accepts a part now and the rest later
	pending []byte // bytes to write before the next line
	partial bool   // pending is the rest of a line that the file has in part
	buf     []byte

	// These fields are guarded by Log.mu.
	next    *os.File // from Reopen, to replace file
	written uint64
	loss    lossState
}

// result counts the lines of a write.
type result struct {
	written, lost int
	complete      bool  // the file accepted all of the last line
	err           error // why lines were lost
}

// openAppend opens a file of any kind. O_NONBLOCK is for pipes: without a reader it is an error.
func openAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
}

// attach starts to use a file. If it ends within a line, because a process was killed or the disk was full,
// the next line starts on a new line.
func (o *output) attach(f *os.File) {
	info, err := f.Stat()
	o.file, o.pending, o.partial, o.pipe = f, nil, false, err != nil || !info.Mode().IsRegular()
	if endsMidLine(f, o.path) {
		o.pending = []byte{'\n'}
	}
}

// endsMidLine reports whether a file's last line lacks its newline. For a file that it cannot read it returns
// true: an additional empty line does less harm than two lines in one.
func endsMidLine(f *os.File, path string) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 ||
		path == Stdout { // which has no name to open for reading
		return false
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return true
	}
	defer r.Close() // cannot lose data: read only
	last := []byte{0}
	if same, err := r.Stat(); err != nil || !os.SameFile(info, same) {
		return true
	}
	_, err = r.ReadAt(last, info.Size()-1)
	return err != nil || last[0] != '\n'
}

func (o *output) write(t *sessions.Transfer) (r result) {
	b, err := o.line(o.buf[:0], t)
	if err != nil {
		return result{lost: 1, err: err}
	}
	if len(b) == 0 {
		return result{}
	}
	o.buf = b // reused for the next line
	if r = o.dropPartial(); len(o.pending) > 0 {
		b = slices.Concat(o.pending, b)
	}
	n, err := o.writeAll(b)
	if o.partial && n >= len(o.pending) {
		r.written, o.partial = r.written+1, false
	}
	switch {
	case n == len(b):
		r.written, r.complete = r.written+1, true
		o.pending = nil
	case n > len(o.pending): // a part of the line: write the rest first next time
		o.pending, o.partial = bytes.Clone(b[n:]), true
	default:
		o.pending = o.pending[n:]
		r.lost++
		r.err = o.writeError(err)
	}
	return r
}

// dropPartial drops the rest of a partial line if the file no longer ends with its beginning, because another
// process has written to it or truncated it.
func (o *output) dropPartial() (r result) {
	if !o.partial {
		return r
	}
	at, err := o.file.Seek(0, io.SeekCurrent) // the end of our last write
	if err != nil {                           // a pipe: what it has cannot be changed
		return r
	}
	if info, err := o.file.Stat(); err == nil && info.Size() == at {
		return r
	}
	o.pending, o.partial = []byte{'\n'}, false
	return result{lost: 1, err: fmt.Errorf("%s changed after it had accepted a part of a line", o.path)}
}

// writeError returns the error of a file that did not accept all of a write.
func (o *output) writeError(err error) error {
	return fmt.Errorf("write %s: %w", o.path, cmp.Or(err, io.ErrShortWrite))
}

// close tries once more to write the rest of a partial line, and closes the file.
func (o *output) close() result {
	r := o.dropPartial()
	if o.partial {
		n, err := o.writeAll(o.pending)
		if n == len(o.pending) {
			r.written++
		} else {
			r.lost, r.err = r.lost+1, o.writeError(err)
		}
	}
	if o.path != Stdout {
		r.err = errors.Join(r.err, o.file.Close()) // some files report lost data only here
	}
	return r
}

// writeAll writes b, and returns how much the file accepted. It waits for a pipe. A regular file that accepts
// only a part has no room for the rest.
func (o *output) writeAll(b []byte) (n int, err error) {
	for {
		taken, err := writeOnce(o.file, b[n:])
		if n += taken; err != nil || n == len(b) || !o.pipe {
			return n, err
		}
	}
}

// writeOnce writes with one write(2), and returns how much the file accepted. os.File's Write would write the
// rest after what another process may have written in between. It waits for the reader of a pipe.
func writeOnce(f *os.File, b []byte) (n int, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	waitErr := c.Write(func(fd uintptr) bool {
		for {
			if n, err = syscall.Write(int(fd), b); err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	if err == nil || err == syscall.EAGAIN {
		err = waitErr
	}
	return max(n, 0), err
}
