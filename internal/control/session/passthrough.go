package session

import (
	"sync"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/tlsrecord"
	"ftpgate/internal/dataplane"
)

// halfEndedTime is how long the server of a passed-through session may take to close after the client.
const halfEndedTime = 10 * time.Second

// passthroughBuffer is how much of a control connection is passed on at once, in bytes. It is on the
// goroutine's stack: a pipe for splice(2) would cost an idle session four descriptors.
const passthroughBuffer = 2 << 10

// handshake watches the TLS handshake of a passed-through session, and opens the server's passive ports to
// the client when the handshake is done: a client that has only sent AUTH could take other clients' data
// there.
type handshake struct {
	ports dataplane.Handle

	mu      sync.Mutex
	records tlsrecord.Handshake
	ended   bool
}

// client reads what the client sends, before the server gets it.
func (h *handshake) client(some []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records.Client(some)
}

// server reads what the server sends, before the client gets it. It reports whether the handshake ends with
// it.
func (h *handshake) server(some []byte) (ends bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.ended = h.records.Server(some)
	return h.ended
}

// watchHandshake gives the handshake what one side sends, before the other side gets it.
func (s *Session) watchHandshake(from *conn.Control, some []byte) error {
	if from == s.client {
		s.handshake.client(some)
		return nil
	}
	if !s.handshake.server(some) {
		return nil
	}
	var err error
	if !s.callPath(func() { err = s.handshake.ports.Arm() }) {
		return errTurnTaken
	}
	if err != nil {
		s.terminate(refusal.FromData(err))
	}
	return err
}

// pump copies from one side to the other, unchanged, and begins with what was read already. It returns when
// that direction has ended; the session ends with the second one.
func (s *Session) pump(to, from *conn.Control, first []byte) {
	s.setDeadline(from.SetReadDeadline, 0)
	err := s.handOn(to, from, first)
	var some [passthroughBuffer]byte
	for err == nil {
		var n int
		if n, err = from.TCPConn.Read(some[:]); n > 0 {
			if errWrite := s.handOn(to, from, some[:n]); errWrite != nil {
				err = errWrite
			}
		}
	}
	// A server that has closed needs nothing more from the client (RFC 959 section 5.2).
	if to.TCPConn.CloseWrite() != nil || from == s.server || !s.endDirection() {
		s.terminate(refusal.Refusal{})
		return
	}
	if s.closeData() { // a client that closed its side begins no transfer
		s.setDeadline(to.SetReadDeadline, halfEndedTime)
	}
}

// handOn writes to the other side, which may take as long for it as for a line.
func (s *Session) handOn(to, from *conn.Control, some []byte) error {
	if err := s.watchHandshake(from, some); err != nil {
		return err
	}
	s.setDeadline(to.SetWriteDeadline, s.env.WriteTime)
	_, err := to.TCPConn.Write(some)
	return err
}

// setDeadline sets a deadline d from now, 0: none. After the session's end it returns false and keeps the
// deadlines, which interrupt all reads and writes.
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
