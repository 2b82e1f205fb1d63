package session

import (
	"errors"
	"fmt"
	"os"
	"time"

	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/verdict"
)

// WriteTime is how long a write of a line to a peer may take.
const WriteTime = 60 * time.Second

// When to check a session again that was in a step: soon if the session is to end, otherwise often enough for
// its time limits.
const (
	drainInterval = 10 * time.Millisecond
	stepInterval  = time.Second
)

// The reasons for which a forward drains, in words for its clients: the cause of its context.
var (
	ErrShuttingDown = errors.New(shuttingDown)
	ErrNotServed    = errors.New(notServed)
)

const (
	shuttingDown = "the gateway is shutting down"
	notServed    = "the gateway does not serve this address any more"
)

// DrainRefusal returns the refusal that ends a session whose forward drains.
func DrainRefusal(why error) refusal.Refusal {
	if errors.Is(why, ErrNotServed) {
		return refusal.New(verdict.NotRefused, verdict.CodeShutDown, notServed)
	}
	return refusal.New(verdict.NotRefused, verdict.CodeShutDown, shuttingDown)
}

// CheckTimeouts ends the session if it timed out, or if its forward drains and no transfer runs. draining is
// why it drains; nil: it does not. CheckTimeouts returns when to check again.
func (s *Session) CheckTimeouts(now time.Time, draining error) time.Time {
	s.watchHalfClosed(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = draining
	switch {
	case s.phase == terminated, s.phase == delivering, s.phase.inPassthrough():
		return now.Add(s.limits.Idle) // in a passthrough a running transfer is invisible
	case s.phase == working:
		return s.checkWrite(now)
	case s.dialogue.InTransfer() && !s.clientEnded:
		return now.Add(s.limits.Idle)
	}
	due, r := s.due()
	switch {
	case s.draining != nil && !s.dialogue.InTransfer():
		s.terminateLocked(DrainRefusal(s.draining))
	case !now.Before(due):
		s.terminateLocked(r)
	}
	return due
}

// watchHalfClosed keeps a session whose client has closed its side while the transfer's data connection
// lives, and then for the idle time: the client may be waiting for the last reply, or may be gone. The idle
// time begins at the first check after the data connection ended.
func (s *Session) watchHalfClosed(now time.Time) {
	s.mu.Lock()
	if s.phase != reading || !s.clientEnded || !s.dialogue.InTransfer() {
		s.mu.Unlock()
		return
	}
	data := s.dataConn // no reader uses it while the session is reading
	s.mu.Unlock()
	lives := data != nil && data.Outcome().Lives()
	s.mu.Lock()
	defer s.mu.Unlock()
	if lives || s.dataWasLive {
		s.lastActive = now
	}
	s.dataWasLive = lives
}

// beginWrite and endWrite mark a write under way for checkWrite.
func (s *Session) beginWrite() { s.writing.Store(int64(max(time.Since(s.began), 1))) }
func (s *Session) endWrite()   { s.writing.Store(0) }

// checkWrite interrupts a write that takes too long. It returns when to check again.
func (s *Session) checkWrite(now time.Time) time.Time {
	since := time.Duration(s.writing.Load())
	switch {
	case since != 0 && now.Sub(s.began)-since >= s.env.WriteTime:
		s.client.InterruptWrite()
		s.server.InterruptWrite()
		return now.Add(drainInterval)
	case s.draining != nil:
		return now.Add(drainInterval)
	}
	return now.Add(stepInterval)
}

// due returns when the session times out if nothing happens, and the reason.
func (s *Session) due() (time.Time, refusal.Refusal) {
	d := s.dialogue
	login, idle := s.loginFrom.Add(s.limits.Login), s.lastActive.Add(s.limits.Idle)
	switch {
	case d.OtherProtocol():
		return login, refusal.New(verdict.RefusedBadReply, verdict.CodeServerBadReply, dialogue.NotFTP)
	case !d.Greeted():
		return login, refusal.New(verdict.RefusedUnreachable, verdict.CodeServerSilent, dialogue.ServerSilent)
	case !d.LoggedIn():
		reason := fmt.Sprintf("no login within %s", s.limits.Login)
		return login, refusal.New(verdict.RefusedTime, verdict.CodeLoginTime, reason)
	case d.AwaitsReply():
		return idle, refusal.New(verdict.RefusedUnreachable, verdict.CodeServerLeft, dialogue.ServerSilent)
	}
	reason := fmt.Sprintf("idle for %s", s.limits.Idle)
	return idle, refusal.New(verdict.RefusedTime, verdict.CodeIdle, reason)
}

// timedOut reports whether an error is an expired deadline.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
