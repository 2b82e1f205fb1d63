package session

import (
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// newSession returns a session whose peers do not read.
func newSession(t *testing.T) *Session {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	env := &Env{Log: log, Reporter: refusal.Reporter{Log: log, Count: func(verdict.RefusalKind) {}},
		WriteTime: WriteTime}
	s, err := New(t.Context(), env, conn.Accept(dial(t)), &conn.Control{TCPConn: dial(t)},
		forward.Resolved{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dial returns one end of a connection; the other end is open.
func dial(t *testing.T) *net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); c.Close() })
	return c.(*net.TCPConn)
}

// Replies that come in one read leave in one write, unless one is held back. A reply that is held back first
// lets those before it go.
func TestSessionGathers(t *testing.T) {
	s := newSession(t)
	for _, step := range []struct {
		line string
		more bool
		want string // what is still to be sent
	}{
		{"220-a", true, "220-a\r\n"},
		{"b", true, "220-a\r\nb\r\n"},
		{"220 c", false, ""},
		{"421-bye", true, "421-bye\r\n"},
		{strings.Repeat("x", maxGathered), true, ""},
	} {
		if !s.fromServer([]byte(step.line), ftp.EndCRLF, nil, step.more) {
			t.Fatalf("%.20q: got the end", step.line)
		}
		if got := string(s.toClient); got != step.want {
			t.Errorf("%.20q: got %q left; want %q", step.line, got, step.want)
		}
	}
}

// The watch leaves a session alone that is over: its data connection belongs to the reader that finishes it.
// The race detector sees it if not.
func TestWatchLeavesEndedSession(t *testing.T) {
	s := newSession(t)
	s.mu.Lock()
	s.phase = terminated
	s.mu.Unlock()
	var finishing sync.WaitGroup
	finishing.Go(func() { s.dataConn = nil })
	s.CheckTimeouts(time.Now(), nil)
	finishing.Wait()
}

// Nothing of a session continues after its end, not even the wait for a server's 1yz.
func TestSessionStopsTimer(t *testing.T) {
	s := newSession(t)
	s.env.Ended = func(*Session) {}
	s.transferStarted = newTransferStarted()
	timer := time.AfterFunc(time.Hour, s.transferStarted.signal)
	s.transferStarted.timer = timer
	s.terminate(refusal.Refusal{})
	s.closeSession(make(chan struct{}))
	if timer.Stop() {
		t.Error("the timer runs after the session's end")
	}
}

// A reply without end is passed on as long as the client takes it, and ends by its length.
func TestAttackReplyWithoutEnd(t *testing.T) {
	const most = 1000
	s := newSession(t)
	if s.replies.MaxLines != maxReplyLines || s.replies.MaxBytes != maxReplyBytes {
		t.Fatal("the limits are not set")
	}
	s.replies.MaxLines = most
	for i := range most + 1 {
		if more := s.fromServer([]byte("220-hello"), ftp.EndCRLF, nil, true); more != (i < most) {
			t.Fatalf("line %d: got more %t", i, more)
		}
	}
}
