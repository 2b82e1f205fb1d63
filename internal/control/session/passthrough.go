package session

import (
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/refusal"
)

// halfEndedTime is how long the server of a session that is passed through may take to end after the client.
const halfEndedTime = 10 * time.Second

// passthroughBuffer is how much of a control connection is passed on at once, in bytes. It is on the
// goroutine's stack: a pipe for splice(2) would cost an idle session four descriptors.
const passthroughBuffer = 2 << 10

// pump passes on what comes from one side to the other, unchanged: first what was read already. It returns
// when that direction has ended; the session ends with the second one.
func (s *Session) pump(to, from *conn.Control, first []byte) {
	s.setDeadline(from.SetReadDeadline, 0)
	err := s.handOn(to, first)
	var some [passthroughBuffer]byte
	for err == nil {
		var n int
		if n, err = from.TCPConn.Read(some[:]); n > 0 {
			if errWrite := s.handOn(to, some[:n]); errWrite != nil {
				err = errWrite
			}
		}
	}
	// Nobody has to tell a server that has ended anything more (RFC 959 section 5.2).
	if to.TCPConn.CloseWrite() != nil || from == s.server || !s.endDirection() {
		s.terminate(refusal.Refusal{})
		return
	}
	if s.closeData() { // a client that closed its side begins no transfer
		s.setDeadline(to.SetReadDeadline, halfEndedTime)
	}
}

// handOn sends to one side, which has the time of a line for it.
func (s *Session) handOn(to *conn.Control, some []byte) error {
	s.setDeadline(to.SetWriteDeadline, s.env.WriteTime)
	_, err := to.TCPConn.Write(some)
	return err
}

// setDeadline sets a deadline d from now, 0: none. Once the session is over it leaves the deadlines alone,
// which interrupt everybody, and returns false.
func (s *Session) setDeadline(set func(time.Time) error, d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == terminated {
		return false
	}
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = set(at)
	return true
}
