package sessions

import (
	"time"

	"ftpgate/internal/core/forward"
)

// Session returns a snapshot of the session.
func (r *Record) Session(now time.Time) Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.session(now)
}

func (r *Record) session(now time.Time) Session {
	o := r.start
	s := Session{
		ID: r.ID(), Forward: o.Forward, Tracking: o.Tracking.String(), Client: o.Client, Gateway: o.Gateway,
		Balancer: o.Balancer, Dialled: o.Dialled,
		Server: r.server, User: r.user, Since: r.began, Active: r.active, Ended: r.ended, State: r.state(),
		TLS: r.tls, Certificate: r.certificate, Refused: r.refused,
	}
	sofar := r.resultsSoFar()
	if r.data != nil {
		r.followPath(r.data, r.data.outcome())
		s.Mode, s.Path = r.data.Mode, r.data.Path
	}
	if r.transfer != nil {
		t := r.transfer.transfer
		r.describe(&t)
		if d := r.data; d != nil && d.number == t.number {
			o := t.inDirection(d.outcome())
			t.measure(o, now)
			t.Path = d.Path
			sofar.totals.add(Totals{Up: o.Up, Down: o.Down})
		}
		s.Transfer = &t
	}
	s.Totals, s.Verdict = sofar.totals, r.verdict(sofar, now)
	return s
}

func (r *Record) state() State {
	switch {
	case !r.ended.IsZero():
		return StateEnded
	case !r.server.IsValid():
		return StateConnecting
	case r.onlyData:
		return StateData
	case r.passedThrough:
		return StateThrough
	case !r.greeted && r.start.Tracking == forward.TrackingProxy:
		return StateGreeting
	case r.transfer != nil:
		return StateTransfer
	case r.pending:
		return StateCommand
	case !r.loggedIn && r.start.Tracking == forward.TrackingProxy:
		return StateLogin
	}
	return StateIdle
}

func (r *Record) explain(now time.Time) Explained {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.data; d != nil && d.closed.IsZero() {
		r.noteConnected(d, d.outcome())
	}
	return Explained{r.session(now), r.timeline.events(r.began)}
}
