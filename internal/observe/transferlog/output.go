package transferlog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"ftpgate/internal/observe/sessions"
)

// output is a file that takes lines.
type output struct {
	path string
	// line appends a transfer's line to b, with its newline; nothing where it does not belong in the file.
	line func(b []byte, t *sessions.Transfer) ([]byte, error)

	// What follows is the writer's.
	file    *os.File
	pipe    bool   // or anything else that takes a part now and the rest later
	pending []byte // what must be written before the next line, if anything
	partial bool   // it is the rest of a line of ours, of which the file has only a part
	buf     []byte

	// What follows is guarded by Log.mu.
	next    *os.File // to be used instead of file
	written uint64
	loss    lossState
}

// result is what became of lines.
type result struct {
	written, lost int
	complete      bool  // the file has taken all that it was given last
	err           error // why something is lost
}

// openAppend opens a file of any kind. O_NONBLOCK is for pipes: without a reader it is an error.
func openAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
}

// attach takes a file into use. One that ends within a line, because somebody was killed or had no room, is
// gone on with on a new line.
func (o *output) attach(f *os.File) {
	info, err := f.Stat()
	o.file, o.pending, o.partial, o.pipe = f, nil, false, err != nil || !info.Mode().IsRegular()
	if endsMidLine(f, o.path) {
		o.pending = []byte{'\n'}
	}
}

// endsMidLine tells whether a file's last line has no end. One that cannot be read may have none: an empty
// line too many does less harm than two lines in one.
func endsMidLine(f *os.File, path string) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	if path == Stdout { // it cannot be opened by a name, and is ours to write to as it is
		return false
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return true
	}
	defer r.Close() // only read from
	last := []byte{0}
	if same, err := r.Stat(); err != nil || !os.SameFile(info, same) {
		return true
	}
	_, err = r.ReadAt(last, info.Size()-1)
	return err != nil || last[0] != '\n'
}

// write writes a transfer's line.
func (o *output) write(t *sessions.Transfer) (r result) {
	b, err := o.line(o.buf[:0], t)
	if err != nil {
		return result{lost: 1, err: err}
	}
	if len(b) == 0 {
		return result{}
	}
	o.buf = b // its room is used again
	if r = o.dropPartial(); len(o.pending) > 0 {
		b = append(append(make([]byte, 0, len(o.pending)+len(b)), o.pending...), b...)
	}
	n, err := o.writeAll(b)
	if o.partial && n >= len(o.pending) {
		r.written, o.partial = r.written+1, false
	}
	switch {
	case n == len(b):
		r.written, r.complete = r.written+1, true
		o.pending = nil
	case n > len(o.pending): // a part of it: the rest goes first the next time
		o.pending, o.partial = bytes.Clone(b[n:]), true
	default:
		o.pending = o.pending[n:]
		r.lost++
		r.err = o.writeError(err)
	}
	return r
}

// dropPartial gives the rest of a line up where the file no longer ends with its beginning, because another
// process has written to it, or somebody has emptied it.
func (o *output) dropPartial() (r result) {
	if !o.partial {
		return r
	}
	at, err := o.file.Seek(0, io.SeekCurrent) // behind what we have written last
	if err != nil {                           // a pipe: it holds nothing back
		return r
	}
	if info, err := o.file.Stat(); err == nil && info.Size() == at {
		return r
	}
	o.pending, o.partial = []byte{'\n'}, false
	return result{lost: 1, err: fmt.Errorf("%s has changed behind a line of which it has taken a part", o.path)}
}

// writeError is why a file has not taken what it was given.
func (o *output) writeError(err error) error {
	return fmt.Errorf("write %s: %w", o.path, cmp.Or(err, io.ErrShortWrite))
}

// close writes the rest of a line, if there is one, in a last attempt, and closes the file.
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
		r.err = errors.Join(r.err, o.file.Close()) // what some files have taken is lost only here
	}
	return r
}

// writeAll writes, and returns how much the file has taken. A pipe is waited for; a file that takes only a part
// has no room for the rest.
func (o *output) writeAll(b []byte) (n int, err error) {
	for {
		taken, err := writeOnce(o.file, b[n:])
		if n += taken; err != nil || n == len(b) || !o.pipe {
			return n, err
		}
	}
}

// writeOnce writes with one write(2), and returns how much the file has taken. os.File's Write would go on
// with the rest, behind what another process has written in between. It waits for the reader of a pipe.
func writeOnce(f *os.File, b []byte) (n int, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	waited := c.Write(func(fd uintptr) bool {
		for {
			if n, err = syscall.Write(int(fd), b); err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	if err == nil || err == syscall.EAGAIN {
		err = waited
	}
	return max(n, 0), err
}
