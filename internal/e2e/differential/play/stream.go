package play

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"ftpgate/internal/e2e/differential/script"
)

// stream is one end of a data connection.
type stream struct {
	*net.TCPConn
	number         int // among its end's data connections, from 1
	mine, theirs   script.Side
	content        content
	sent, received int64
	written        chan struct{} // closed when all writes so far have returned
	broken         atomic.Bool   // a write found it broken
}

func newStream(c net.Conn, number int, mine script.Side, shared content) *stream {
	theirs := script.Client
	if mine == script.Client {
		theirs = script.Server
	}
	done := make(chan struct{})
	close(done)
	return &stream{TCPConn: c.(*net.TCPConn), number: number, mine: mine, theirs: theirs, content: shared,
		written: done}
}

// write begins to write count bytes, when the writes before have returned.
func (s *stream) write(count int) {
	before, done := s.written, make(chan struct{})
	from, to := s.sent, s.sent+int64(count)
	s.sent, s.written = to, done
	go func() {
		defer close(done)
		<-before
		for at := from; at < to && !s.broken.Load(); {
			chunk := s.content.at(s.mine, at)
			n, err := s.Write(chunk[:min(int64(len(chunk)), to-at)])
			at += int64(n)
			if err != nil {
				s.broken.Store(true)
			}
		}
	}()
}

// close closes the connection, if the script has not done so before.
func (s *stream) close() error {
	if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// errEnd is the end of a data connection, where bytes were expected. Its text is what the end saw.
type errEnd struct{ text string }

func (e errEnd) Error() string { return e.text }

// read reads count bytes and compares them with what the other end sends. The error is errEnd at the
// connection's end, and errTimeout when it does not come.
func (s *stream) read(count int64, bound time.Duration) error {
	if err := s.SetReadDeadline(time.Now().Add(bound)); err != nil {
		return errEnd{s.ended(err)}
	}
	buffer := make([]byte, min(count, 32<<10))
	for count > 0 {
		n, err := s.Read(buffer[:min(count, int64(len(buffer)))])
		if at := s.compare(buffer[:n]); at >= 0 {
			return errEnd{fmt.Sprintf("other bytes than were sent, from byte %d on", at)}
		}
		s.received += int64(n)
		count -= int64(n)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errTimeout
		case errors.Is(err, net.ErrClosed):
			return err // the session was broken off
		case err != nil:
			return errEnd{s.ended(err)}
		case n > 0: // the bound is for one wait, not for all of the data
			if err := s.SetReadDeadline(time.Now().Add(bound)); err != nil {
				return errEnd{s.ended(err)}
			}
		}
	}
	return nil
}

// compare returns the offset of the first byte that is not the other end's, or -1.
func (s *stream) compare(got []byte) int64 {
	at := s.received
	for len(got) > 0 {
		want := s.content.at(s.theirs, at)
		n := min(len(want), len(got))
		if !bytes.Equal(got[:n], want[:n]) {
			for got[0] == want[0] {
				at, got, want = at+1, got[1:], want[1:]
			}
			return at
		}
		at, got = at+int64(n), got[n:]
	}
	return -1
}

// ended is what an end saw of a connection's end. How many bytes come before a reset depends on time.
func (s *stream) ended(err error) string {
	if isReset(err) || errors.Is(err, io.EOF) && s.broken.Load() {
		return "reset"
	}
	if errors.Is(err, io.EOF) {
		return fmt.Sprintf("FIN after %d bytes", s.received)
	}
	return err.Error()
}
