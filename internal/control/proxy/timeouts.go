package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/verdict"
)

// writeTime is how long a peer may take for a line: one that takes nothing for so long has gone.
const writeTime = 60 * time.Second

// When the watch looks again at a session that was in a step: soon if the session is to end, otherwise when
// somebody would notice a time limit.
const (
	drainInterval = 10 * time.Millisecond
	stepInterval  = time.Second
)

// shuttingDown is the reason for clients from the moment the gateway stops.
const shuttingDown = "the gateway is shutting down"

// watch enforces the sessions' time limits until ctx is done, and then ends the sessions. It returns when the
// last one has ended. One timer serves all sessions of a forward: no limit that begins after a look can be
// over before the shortest limit has passed, and then the watch looks again at the latest.
func (p *Proxy) watch(ctx, drained context.Context) {
	stop := ctx.Done()
	var cut <-chan struct{} // drained's, once stop is over
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			stop, cut = nil, drained.Done()
			p.mu.Lock()
			p.draining = true
			p.mu.Unlock()
		case <-cut:
			cut = nil
			for _, s := range p.tracked() {
				s.abort(verdict.CodeShutDown, shuttingDown, false)
			}
		case <-p.wakeup:
		case <-timer.C:
		}
		next, left := p.checkTimeouts(time.Now())
		if left == 0 && stop == nil {
			return
		}
		timer.Stop()
		if left > 0 {
			timer.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

// tracked returns the sessions that the watch looks after, so that it holds no lock while it does.
func (p *Proxy) tracked() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.AppendSeq(make([]*session, 0, len(p.running)), maps.Keys(p.running))
}

// checkTimeouts goes through the sessions. It returns when to do so again, and how many sessions there are,
// also those without a server yet.
func (p *Proxy) checkTimeouts(now time.Time) (next time.Time, left int) {
	p.mu.Lock()
	draining, shortest := p.draining, p.shortest
	p.mu.Unlock()
	next = now.Add(shortest)
	for _, s := range p.tracked() {
		if due := s.checkTimeouts(now, draining); due.Before(next) {
			next = due
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return next, p.sessions
}

// checkTimeouts ends the session if its time is up, or if the gateway is draining and no transfer runs. It
// returns when to look again.
func (s *session) checkTimeouts(now time.Time, draining bool) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = s.draining || draining
	switch {
	case s.phase == terminated, s.phase == delivering, s.phase.inPassthrough():
		return now.Add(s.limits.Idle) // in a passthrough nobody knows whether a transfer runs
	case s.phase == working:
		return s.checkWrite(now)
	case s.dialogue.InTransfer():
		return now.Add(s.limits.Idle)
	}
	due, r := s.due()
	switch {
	case s.draining:
		s.endFor(refused(dialogue.NotRefused, verdict.CodeShutDown, shuttingDown))
	case !now.Before(due):
		s.endFor(r)
	}
	return due
}

// checkWrite interrupts a write that takes too long. It returns when to look again.
func (s *session) checkWrite(now time.Time) time.Time {
	switch {
	case !s.writing.IsZero() && now.Sub(s.writing) >= s.proxy.writeTime():
		s.client.InterruptWrite()
		s.server.InterruptWrite()
		return now.Add(drainInterval)
	case s.draining:
		return now.Add(drainInterval)
	}
	return now.Add(stepInterval)
}

// due returns when the session's time is up if nothing happens, and the reason then.
func (s *session) due() (time.Time, refusal) {
	d := s.dialogue
	login, idle := s.loginFrom.Add(s.limits.Login), s.lastLine.Add(s.limits.Idle)
	switch {
	case !d.Greeted():
		return login, refused(dialogue.RefusedServer, verdict.CodeServerSilent, "the server does not answer")
	case !d.LoggedIn():
		return login, refused(dialogue.RefusedTime, verdict.CodeLoginTime, fmt.Sprintf("no login within %s", s.limits.Login))
	case d.AwaitsReply():
		return idle, refused(dialogue.RefusedServer, verdict.CodeServerLeft, "the server does not answer")
	}
	return idle, refused(dialogue.RefusedTime, verdict.CodeIdle, fmt.Sprintf("idle for %s", s.limits.Idle))
}

// timedOut reports whether an error is a deadline that has passed.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
