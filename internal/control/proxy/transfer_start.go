package proxy

import (
	"time"
)

// patience is how long TLS with the server waits for the server's 1yz. Most say 150 and await the handshake
// then; for one that does so without a word it begins after this time.
const patience = 200 * time.Millisecond

// beginning tells a data connection with TLS that its transfer begins.
type beginning struct {
	begun chan struct{}
	timer *time.Timer // from the transfer's command on; nil: there was none yet
}

func newBeginning() *beginning { return &beginning{begun: make(chan struct{})} }

// observe looks after each step whether a transfer has begun. It is called with the lock held.
func (s *session) observe() {
	b := s.beginning
	if b == nil || !s.dialogue.Busy() {
		return
	}
	switch {
	case s.dialogue.Begun():
		s.begin(b)
	case b.timer == nil:
		b.timer = time.AfterFunc(patience, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.begin(b)
		})
	}
}

// begin is called with the lock held.
func (s *session) begin(b *beginning) {
	if b.timer != nil {
		b.timer.Stop()
	}
	if s.beginning == b {
		s.beginning = nil
		close(b.begun)
	}
}
