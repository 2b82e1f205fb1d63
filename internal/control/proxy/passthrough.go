package proxy

import (
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/dialogue"
)

// tunnelEnd is how long the server of a session that nobody reads may take to end after the client.
const tunnelEnd = 10 * time.Second

// tunnelBuffer is how much of a control connection is passed on at once, in bytes. It is on the
// goroutine's stack: a pipe for splice(2) would cost an idle session four descriptors.
const tunnelBuffer = 2 << 10

// tunnelled tells whether nobody reads the session.
func (s *session) tunnelled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.then == dialogue.Tunnel && !s.ended
}

// pump passes on what comes from one side to the other, as it is: first what has been read already. It
// returns when that direction has ended; the session ends with the second one.
func (s *session) pump(to, from *conn.Wire, first []byte) {
	s.mu.Lock()
	if !s.ended {
		_ = from.SetReadDeadline(time.Time{})
	}
	s.mu.Unlock()
	err := s.handOn(to, first)
	var some [tunnelBuffer]byte
	for err == nil {
		var n int
		if n, err = from.TCPConn.Read(some[:]); n > 0 {
			if errWrite := s.handOn(to, some[:n]); errWrite != nil {
				err = errWrite
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A server that has ended has nothing to be told any more (RFC 959 section 5.2).
	if to.TCPConn.CloseWrite() != nil || s.halfEnded || from == s.server {
		s.over(dialogue.NotRefused, "", "")
		return
	}
	s.halfEnded = true
	s.closeData() // a client that has said its last word begins no transfer
	if !s.ended {
		_ = to.SetReadDeadline(time.Now().Add(tunnelEnd))
	}
}

// handOn sends to one side, for which it has the time of a line.
func (s *session) handOn(to *conn.Wire, some []byte) error {
	s.mu.Lock()
	if !s.ended {
		_ = to.SetWriteDeadline(time.Now().Add(s.proxy.writeTime()))
	}
	s.mu.Unlock()
	_, err := to.TCPConn.Write(some)
	return err
}
