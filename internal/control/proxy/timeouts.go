package proxy

import (
	"context"
	"fmt"
	"time"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/verdict"
)

// writeTime is how long a peer may take for a line: one that takes nothing for so long has gone.
const writeTime = 60 * time.Second

// When the watch looks again at a session that was at work: soon if it is to leave, and else when a time
// limit would notice.
const (
	retryTime = 10 * time.Millisecond
	lookTime  = time.Second
)

// shuttingDown is what clients are told from the moment the gateway stops.
const shuttingDown = "the gateway is shutting down"

// watch sees to the sessions' times until ctx is done, and then to their ends. It returns when the
// last one has left. One timer serves all sessions of a forward: nothing that begins after a look can be
// over before the shortest limit has passed, and that is when it looks again at the latest.
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
			p.cutAll()
		case <-p.wake:
		case <-timer.C:
		}
		next, left := p.look(time.Now())
		if left == 0 && stop == nil {
			return
		}
		timer.Stop()
		if left > 0 {
			timer.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

// look goes through the sessions and returns when to do so again, and how many are left, those that
// have no server yet included.
func (p *Proxy) look(now time.Time) (next time.Time, left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next = now.Add(p.shortest)
	for s := range p.running {
		if due := s.look(now, p.draining); due.Before(next) {
			next = due
		}
	}
	return next, p.sessions
}

// cutAll ends all sessions, whatever they do.
func (p *Proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.running {
		s.cut(verdict.CodeShutDown, shuttingDown)
	}
}

// cut ends the session now.
func (s *session) cut(code verdict.Code, reason string) {
	s.seize()
	defer s.mu.Unlock()
	s.over(dialogue.NotRefused, code, reason)
}

// kill ends the session for an operator, with the transfer that runs.
func (s *session) kill() {
	s.seize()
	defer s.mu.Unlock()
	s.over(dialogue.NotRefused, verdict.CodeKilled, "the operator has ended the session")
	if s.data != nil {
		s.data.Sever()
	}
}

// seize takes the lock from whoever waits for an end that takes nothing.
func (s *session) seize() {
	if !s.mu.TryLock() {
		_ = s.client.SetWriteDeadline(past) // who writes lets go of the lock
		_ = s.server.SetWriteDeadline(past)
		s.mu.Lock()
	}
}

// look ends the session if its time is up, or if it is to leave and no transfer runs. It returns when
// to look again. It never waits: a session whose lock is taken is at work.
func (s *session) look(now time.Time, leave bool) time.Time {
	if w := s.writing.Load(); w != 0 {
		due := s.began.Add(time.Duration(w) + s.proxy.writeTime())
		if now.Before(due) {
			return again(now, leave)
		}
		_ = s.client.SetWriteDeadline(past)
		_ = s.server.SetWriteDeadline(past)
		return now.Add(retryTime)
	}
	if !s.mu.TryLock() {
		return again(now, leave)
	}
	defer s.mu.Unlock()
	s.leaving = s.leaving || leave
	due, kind, code, reason := s.due()
	switch {
	case s.ended || s.busy():
		return now.Add(s.limits.Idle)
	case s.leaving:
		s.over(dialogue.NotRefused, verdict.CodeShutDown, shuttingDown)
	case !now.Before(due):
		s.over(kind, code, reason)
	}
	return due
}

// again is when to look again at a session that is at work.
func again(now time.Time, leave bool) time.Time {
	if leave {
		return now.Add(retryTime)
	}
	return now.Add(lookTime)
}

// due returns when the session's time is up if nothing happens, and what is said then.
func (s *session) due() (time.Time, dialogue.Refusal, verdict.Code, string) {
	d := s.dialogue
	switch {
	case !d.Greeted():
		return s.loginFrom.Add(s.limits.Login), dialogue.RefusedServer, verdict.CodeServerSilent, "the server does not answer"
	case !d.LoggedIn:
		return s.loginFrom.Add(s.limits.Login), dialogue.RefusedTime, verdict.CodeLoginTime, fmt.Sprintf("no login within %s", s.limits.Login)
	case len(d.Pending) > 0:
		return s.lastLine.Add(s.limits.Idle), dialogue.RefusedServer, verdict.CodeServerLeft, "the server does not answer"
	}
	return s.lastLine.Add(s.limits.Idle), dialogue.RefusedTime, verdict.CodeIdle, fmt.Sprintf("idle for %s", s.limits.Idle)
}
