// Package ftp reads and writes FTP's wire format: lines, commands, replies, and the ways in which they
// express an address and a port (RFC 959, 1123, 2389, 2428, 3659).
//
// A hostile peer may have chosen the input. The parsers accept what the RFCs and real peers write, but
// nothing that two readers could understand differently, so that accepted input can be forwarded unchanged.
// The package knows nothing of the dialogue: the caller decides which reply answers which command, what is
// allowed when, and which address to trust. It opens no connection, starts no goroutine and writes no log.
package ftp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// DefaultLineLimit is the longest line in bytes, with its ending. A path of Linux (4,096 bytes) with every
// byte doubled as Telnet IAC (RFC 3659 section 2.2) takes 8 KiB. The tokens of RFC 2228 are often longer; 16
// KiB is enough for a Kerberos ticket.
const DefaultLineLimit = 16 << 10

// firstBuffer is the initial size of a LineReader's buffer. Most connections never have a longer line.
const firstBuffer = 512

// maxEmptyReads bounds how often a reader may return neither a byte nor an error, as in bufio.
const maxEmptyReads = 100

// Ending is the end of a line.
type Ending uint8

const (
	EndNone Ending = iota // none: the stream ended, or the line is incomplete
	EndLF                 // a bare LF, which old peers send although RFC 959 does not allow it
	EndCRLF               // CR LF
)

// String returns the bytes of the ending: text + ending is what was read.
func (e Ending) String() string {
	switch e {
	case EndLF:
		return "\n"
	case EndCRLF:
		return "\r\n"
	}
	return ""
}

// TooLongError reports a line that does not end within the limit.
type TooLongError struct {
	Limit int // in bytes, with the ending
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("line is longer than %d bytes", e.Limit)
}

// NULError reports a line with a NUL byte.
//
// In RFC 3659 section 2.2, CR NUL is a CR in a path. It is refused nevertheless: many servers store lines as
// C strings and read only the part before the NUL, so that the line would mean one thing to a gateway and
// another to the server. No peer is known to use paths with a CR.
type NULError struct {
	Offset int // of the NUL byte in the line
}

func (e *NULError) Error() string {
	return fmt.Sprintf("line has a NUL byte at offset %d", e.Offset)
}

// LineReader splits a stream into lines, in whatever pieces the stream arrives. A line ends at LF. A CR
// directly before the LF belongs to the ending, every other CR to the text.
//
// The limit bounds its memory, and it frees the memory of a long line after it. Lines that fit into the first
// buffer need no allocation. It is not safe for concurrent use.
type LineReader struct {
	src     io.Reader
	limit   int
	buf     []byte // buf[start:end] was read and not returned yet
	start   int
	end     int
	scanned int   // buf[start:start+scanned] has neither LF nor NUL
	failed  error // the error that src returned together with its last bytes
	long    bool  // the current line has reached the limit, and the caller got the error
	skip    bool  // the current line was refused: drop the rest of it
}

// NewLineReader returns a reader for lines of at most limit bytes with their endings. A limit of 0 or less is
// DefaultLineLimit.
func NewLineReader(src io.Reader, limit int) *LineReader {
	r := &LineReader{}
	r.SetLimit(limit)
	r.Reset(src)
	return r
}

// SetLimit changes the limit for the following lines. After a *TooLongError a higher limit continues the same
// line. After a long line a lower limit frees its memory. A limit of 0 or less is DefaultLineLimit.
func (r *LineReader) SetLimit(limit int) {
	if limit <= 0 {
		limit = DefaultLineLimit
	}
	r.limit = limit
}

// Reset discards everything that was read ahead, and continues with src. Plain text that follows AUTH must be
// discarded before the TLS handshake; otherwise it would seem to be protected.
func (r *LineReader) Reset(src io.Reader) {
	r.src, r.start, r.end, r.scanned, r.failed, r.long, r.skip = src, 0, 0, 0, nil, false, false
}

// Buffered returns the number of bytes that were read from the stream but not returned.
func (r *LineReader) Buffered() int { return r.end - r.start }

// Rest returns the bytes that were read from the stream but are in no line yet, for a caller that stops
// reading lines. They are valid until the next call.
func (r *LineReader) Rest() []byte {
	rest := r.buf[r.start:r.end]
	r.start, r.scanned = r.end, 0
	return rest
}

// Peek returns the next byte without consuming it. It reads from the stream only if no byte is buffered. The
// error is the stream's, and ReadLine returns it again: a socket reports its reset only once.
func (r *LineReader) Peek() (byte, error) {
	if r.start == r.end {
		if err := r.fill(); err != nil {
			r.failed = err
			return 0, err
		}
	}
	return r.buf[r.start], nil
}

// Ready reports whether the next line is buffered, so that ReadLine will not read from the stream.
func (r *LineReader) Ready() bool {
	return !r.long && !r.skip && bytes.IndexByte(r.buf[r.start+r.scanned:r.end], '\n') >= 0
}

// ReadLine returns the text of the next line and its ending. The text is valid until the next call.
//
// At the end of the stream the error is io.EOF, or io.ErrUnexpectedEOF with the bytes of a line without an
// ending. For a refused line the error is a *TooLongError or a *NULError, as soon as the byte at fault was
// read. The next call drops the rest of that line, so that the caller can answer and continue; if SetLimit
// has raised the limit meanwhile, it continues the line. Every other error is the stream's. It keeps what was
// read of the line: after the caller has moved a deadline, the next call continues there.
func (r *LineReader) ReadLine() (text []byte, end Ending, err error) {
	if r.long {
		if r.long = false; r.scanned >= r.limit {
			r.refuse(r.scanned)
		}
	}
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

// cut removes a complete line from the buffer, if there is one, or refuses it. It checks each byte once, in
// the order of the stream, so that lines and errors do not depend on how the stream was split.
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
			r.long = true
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

// refuse refuses the current line, after n bytes were checked.
func (r *LineReader) refuse(n int) {
	r.start, r.scanned, r.skip = r.start+n, 0, true
}

// dropLine drops the buffered rest of a refused line, and reports whether its end was buffered.
func (r *LineReader) dropLine() bool {
	lf := bytes.IndexByte(r.buf[r.start:r.end], '\n')
	if lf < 0 {
		return false
	}
	r.start, r.skip = r.start+lf+1, false
	return true
}

// fill reads at least one byte. It makes room for it first if necessary.
func (r *LineReader) fill() error {
	if err := r.failed; err != nil {
		r.failed = nil
		return err
	}
	switch {
	case r.start == r.end:
		r.start, r.end = 0, 0
		if len(r.buf) > firstBuffer { // do not keep the memory of a long line for the whole connection
			r.buf = nil
		}
	case r.start > 0 && len(r.buf) > r.limit: // nor that of one beyond a lower limit
		rest := r.buf[r.start:r.end] // shorter than the limit, because it has no end
		r.buf = append(make([]byte, 0, firstBuffer+len(rest)), rest...)
		r.buf, r.start, r.end = r.buf[:cap(r.buf)], 0, len(rest)
	case r.end == len(r.buf) && r.start > 0:
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) { // the limit is not exceeded, because cut has refused a line that reaches it
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
