// Package ftp is the wire of FTP: lines, commands, replies, and the ways in which they write
// an address and a port (RFC 959, 1123, 2389, 2428, 3659).
//
// It reads bytes that a hostile peer may have chosen. It accepts what the RFCs and real peers
// write and nothing that two readers could understand in two ways; what it hands back may be
// passed on byte for byte. It knows nothing of the dialogue: which reply answers which command,
// what is allowed when, and whether an address may be trusted are the caller's to decide. It
// opens no connection, starts no goroutine and writes no log.
package ftp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// DefaultLineLimit is the longest line in bytes, its ending included. A path of Linux (4,096
// bytes) with every byte doubled as Telnet IAC (RFC 3659 section 2.2) takes 8 KiB; the tokens
// of RFC 2228 are longer than that more often than not, and 16 KiB holds a Kerberos ticket.
const DefaultLineLimit = 16 << 10

// firstBuffer is what a LineReader starts with: most connections never see a longer line.
const firstBuffer = 512

// maxEmptyReads is how often a reader may return neither a byte nor an error, as in bufio.
const maxEmptyReads = 100

// Ending is what stood at the end of a line.
type Ending uint8

const (
	EndNone Ending = iota // nothing: the stream ended, or the line is not whole
	EndLF                 // a bare LF, which RFC 959 does not allow and old peers send
	EndCRLF               // CR LF
)

// String returns the bytes themselves: Text + Ending is what was read.
func (e Ending) String() string {
	switch e {
	case EndLF:
		return "\n"
	case EndCRLF:
		return "\r\n"
	}
	return ""
}

// TooLongError tells of a line that does not end within the limit.
type TooLongError struct {
	Limit int // bytes, the ending included
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("line is longer than %d bytes", e.Limit)
}

// NULError tells of a line with a NUL byte in it.
//
// RFC 3659 section 2.2 would have CR NUL stand for a CR in a path. It is refused all the same:
// many servers keep their lines as C strings and act on what stands before the NUL, so that
// such a line says one thing to a gateway and another to the server. Nobody has been seen to
// miss paths with a CR in them.
type NULError struct {
	Offset int // where in the line
}

func (e *NULError) Error() string {
	return fmt.Sprintf("line has a NUL byte at offset %d", e.Offset)
}

// LineReader cuts a stream into lines, however the stream arrives in pieces. A line ends at LF;
// a CR directly before it belongs to the ending, every other CR to the text.
//
// Its memory is bounded by the limit, and what a long line took is given back behind it. Lines that fit the first buffer
// allocate nothing. It is not safe for concurrent use.
type LineReader struct {
	src     io.Reader
	limit   int
	buf     []byte // buf[start:end] is read and not yet handed out
	start   int
	end     int
	scanned int   // buf[start:start+scanned] has neither LF nor NUL
	failed  error // what src returned together with its last bytes
	skip    bool  // the line in hand was refused: drop the rest of it
}

// NewLineReader reads lines of at most limit bytes, endings included; a limit of 0 or less is
// DefaultLineLimit.
func NewLineReader(src io.Reader, limit int) *LineReader {
	r := &LineReader{}
	r.SetLimit(limit)
	r.Reset(src)
	return r
}

// SetLimit changes the limit for the lines that follow: RFC 2228 asks for longer ones once AUTH
// is under way. A limit of 0 or less is DefaultLineLimit.
func (r *LineReader) SetLimit(limit int) {
	if limit <= 0 {
		limit = DefaultLineLimit
	}
	r.limit = limit
}

// Reset throws away what was read ahead and goes on with src. What came in plain text behind an
// AUTH must be thrown away before the TLS handshake, or it would pass for protected.
func (r *LineReader) Reset(src io.Reader) {
	r.src, r.start, r.end, r.scanned, r.failed, r.skip = src, 0, 0, 0, nil, false
}

// Buffered returns the number of bytes that were read from the stream and not handed out.
func (r *LineReader) Buffered() int { return r.end - r.start }

// Rest hands out what was read from the stream and is in no line yet, for who goes on without lines. It
// is valid until the next call.
func (r *LineReader) Rest() []byte {
	rest := r.buf[r.start:r.end]
	r.start, r.scanned = r.end, 0
	return rest
}

// Peek returns the next byte and leaves it where it is; it reads only where none is there. The error is
// the stream's own.
func (r *LineReader) Peek() (byte, error) {
	if r.start == r.end {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	return r.buf[r.start], nil
}

// Ready tells whether the next line is there already: ReadLine will return it without reading.
func (r *LineReader) Ready() bool {
	return !r.skip && bytes.IndexByte(r.buf[r.start+r.scanned:r.end], '\n') >= 0
}

// ReadLine returns the next line without its ending, and the ending. The text is valid until
// the next call.
//
// At the end of the stream the error is io.EOF, or io.ErrUnexpectedEOF with the bytes of a line
// that has no ending. A line that is refused gives a *TooLongError or a *NULError as soon as the
// byte at fault has been read; the next call drops the rest of it, so that the caller may answer
// and go on. Every other error is the stream's own; what was read of the line is kept, and a
// call after a deadline has been moved goes on where the last one stopped.
func (r *LineReader) ReadLine() (text []byte, end Ending, err error) {
	for {
		if r.skip && !r.dropLine() {
			r.start, r.end = 0, 0
		} else if text, end, ok, err := r.cut(); ok || err != nil {
			return text, end, err
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && r.end > r.start {
				text := r.buf[r.start:r.end]
				r.start, r.scanned = r.end, 0
				return text, EndNone, io.ErrUnexpectedEOF
			}
			return nil, EndNone, err
		}
	}
}

// cut takes a whole line out of the buffer, if there is one, or finds what is wrong with it. It
// looks at each byte once, in the stream's order: the same stream gives the same lines and the
// same errors, however it was split.
func (r *LineReader) cut() (text []byte, end Ending, ok bool, err error) {
	line := r.buf[r.start:min(r.end, r.start+r.limit)]
	fresh := line[min(r.scanned, len(line)):]
	lf := bytes.IndexByte(fresh, '\n')
	if lf >= 0 {
		fresh = fresh[:lf]
	}
	if nul := bytes.IndexByte(fresh, 0); nul >= 0 {
		err := &NULError{Offset: len(line[:min(r.scanned, len(line))]) + nul}
		r.refuse(err.Offset + 1)
		return nil, EndNone, false, err
	}
	if lf < 0 {
		if r.scanned = len(line); r.scanned == r.limit {
			r.refuse(r.scanned)
			return nil, EndNone, false, &TooLongError{Limit: r.limit}
		}
		return nil, EndNone, false, nil
	}
	text, end = line[:min(r.scanned, len(line))+lf], EndLF
	r.start, r.scanned = r.start+len(text)+1, 0
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text, end = text[:n-1], EndCRLF
	}
	return text, end, true, nil
}

// refuse gives up the line in hand, of which n bytes have been looked at.
func (r *LineReader) refuse(n int) {
	r.start, r.scanned, r.skip = r.start+n, 0, true
}

// dropLine drops the rest of a refused line and tells whether its end was there.
func (r *LineReader) dropLine() bool {
	lf := bytes.IndexByte(r.buf[r.start:r.end], '\n')
	if lf < 0 {
		return false
	}
	r.start, r.skip = r.start+lf+1, false
	return true
}

// fill reads once, at least one byte, and makes room before it where there is none.
func (r *LineReader) fill() error {
	if err := r.failed; err != nil {
		r.failed = nil
		return err
	}
	switch {
	case r.start == r.end:
		r.start, r.end = 0, 0
		if len(r.buf) > firstBuffer { // one long line does not hold its memory for the connection's life
			r.buf = nil
		}
	case r.end == len(r.buf) && r.start > 0:
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) { // never beyond the limit: cut has refused a line that fills it
		grown := make([]byte, min(max(2*len(r.buf), firstBuffer), max(r.limit, r.end+1)))
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	for range maxEmptyReads {
		n, err := r.src.Read(r.buf[r.end:])
		if n < 0 || n > len(r.buf)-r.end {
			panic(errors.New("ftp: reader returned an impossible count"))
		}
		r.end += n
		if n > 0 {
			r.failed = err
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
