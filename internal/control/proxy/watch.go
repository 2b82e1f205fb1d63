package proxy

import (
	"context"
	"maps"
	"slices"
	"time"

	"ftpgate/internal/control/session"
)

// watch enforces the sessions' time limits until draining is done, and then ends the sessions. It returns
// when the last one has ended. One timer serves all sessions of a forward: the watch checks again after
// the shortest limit at the latest, and no limit that begins between two checks ends before the second one.
func (p *Proxy) watch(draining, aborted context.Context) {
	drainCh := draining.Done()
	var abortCh <-chan struct{} // once draining is done
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-drainCh:
			drainCh, abortCh = nil, aborted.Done()
			p.mu.Lock()
			p.draining = context.Cause(draining)
			p.mu.Unlock()
		case <-abortCh:
			abortCh = nil
			why := session.DrainRefusal(context.Cause(draining))
			for _, s := range p.tracked() {
				s.Abort(why.Code, why.Reason)
			}
		case <-p.wakeup:
		case <-timer.C:
		}
		next, left := p.checkTimeouts(time.Now())
		if left == 0 && drainCh == nil {
			return
		}
		timer.Stop()
		if left > 0 {
			timer.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

// tracked returns the sessions to check, so that no lock is held during the checks.
func (p *Proxy) tracked() []*session.Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.AppendSeq(make([]*session.Session, 0, len(p.running)), maps.Keys(p.running))
}

// checkTimeouts checks all sessions. It returns when to do so again, and the number of sessions, those
// without a server included.
func (p *Proxy) checkTimeouts(now time.Time) (next time.Time, left int) {
	p.mu.Lock()
	draining, shortest := p.draining, p.shortest
	p.mu.Unlock()
	next = now.Add(shortest)
	for _, s := range p.tracked() {
		if due := s.CheckTimeouts(now, draining); due.Before(next) {
			next = due
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return next, p.sessions
}
