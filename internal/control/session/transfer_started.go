package session

import (
	"sync"
	"time"
)

// patience is how long TLS on data connections waits for the server's 1yz. Most servers send 150 and then
// wait for the handshake; for one that waits without a 150, TLS begins after this time.
const patience = 200 * time.Millisecond

// transferStarted signals to a data connection with TLS that its transfer started.
type transferStarted struct {
	started chan struct{}
	once    sync.Once
	timer   *time.Timer // runs from the transfer command on; nil: none was sent yet
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

// watchTransfer is called after each step. It starts or ends the wait for a transfer's start.
func (s *Session) watchTransfer() {
	t := s.transferStarted
	switch {
	case t == nil:
	case !s.dialogue.InTransfer():
		if t.timer != nil && t.timer.Stop() { // the server refused the command: the next one starts it anew
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
