package session

import (
	"sync"
	"time"
)

// patience is how long TLS on data connections waits for the server's 1yz. Most servers say 150 and then
// await the handshake; for one that awaits it without a word, TLS begins after this time.
const patience = 200 * time.Millisecond

// transferStarted tells a data connection with TLS that its transfer started.
type transferStarted struct {
	started chan struct{}
	once    sync.Once
	timer   *time.Timer // runs from the transfer's command on; nil: there was none yet
}

func newTransferStarted() *transferStarted { return &transferStarted{started: make(chan struct{})} }

// signal says that the transfer started.
func (t *transferStarted) signal() { t.once.Do(func() { close(t.started) }) }

// stop ends the wait for the server's 1yz.
func (t *transferStarted) stop() {
	if t != nil && t.timer != nil {
		t.timer.Stop()
	}
}

// watchTransfer is called after each step, to see whether a transfer has started.
func (s *Session) watchTransfer() {
	t := s.transferStarted
	switch {
	case t == nil:
	case !s.dialogue.InTransfer():
		if t.timer != nil && t.timer.Stop() { // the server refused the command: the next one tells
			t.timer = nil
		}
	case s.dialogue.TransferStarted():
		t.stop()
		t.signal()
		s.transferStarted = nil
	case t.timer == nil:
		t.timer = time.AfterFunc(patience, t.signal)
	}
}
