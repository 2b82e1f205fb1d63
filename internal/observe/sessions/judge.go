package sessions

import (
	"fmt"
	"time"

	"ftpgate/internal/core/verdict"
)

const (
	// patience is how long a data connection that is awaited may stay away before that is worth a word: a lost
	// SYN is sent again after one second, and after three.
	patience = 3 * time.Second
	// attempt is how long one that nobody awaits any more must have stayed away for that: clients connect at
	// once, and some give up after a second. What was agreed upon by mistake is given up sooner.
	attempt = 800 * time.Millisecond
)

// dataFault returns what went wrong with a data connection that is closed, as far as the gateway can see.
func (r *Record) dataFault(d *data, p Progress) (verdict.Fault, bool) {
	if d == nil || d.Meter == nil {
		return verdict.Fault{}, false
	}
	switch {
	case p.Fault != nil:
		own := *p.Fault
		if !own.At.IsValid() {
			own.At = d.At
		}
		return own, true
	case !p.Connected.IsZero(), !d.At.IsValid(), d.closed.Sub(d.opened) < attempt:
		return verdict.Fault{}, false
	}
	return r.absent(d, p, d.closed), true
}

// absent names the peer of a data connection that has not come until now.
func (r *Record) absent(d *data, p Progress, now time.Time) verdict.Fault {
	f := verdict.Fault{At: d.At, Ports: r.opening.Passive, Peer: d.From, Waited: now.Sub(d.opened)}
	switch {
	case p.Stranger.IsValid():
		f.Code, f.Peer, f.Err = verdict.CodeStranger, p.Stranger, d.From.String()
	case d.Active:
		f.Code = verdict.CodeServerNever
	default:
		f.Code = verdict.CodeNobodyCame
	}
	return f
}

// verdict says how the session has gone so far: what has ended it, else what failed last, unless all
// went well afterwards.
func (r *Record) verdict(now time.Time) verdict.Verdict {
	if r.fatal != nil && !(r.fatal.Plain() && r.last != nil && !r.last.Minor() && r.since == 0) {
		return r.fatal.Verdict()
	}
	if r.waits() {
		if f, late := r.late(now); late {
			v := f.Verdict()
			return verdict.Verdict{Code: verdict.CodeWaiting, Text: "so far " + v.Text, Remedy: v.Remedy}
		}
	}
	if r.last == nil {
		return verdict.Verdict{Code: verdict.CodeFine, Text: "nothing went wrong: " + r.totals.String()}
	}
	v := r.last.Verdict()
	switch {
	case r.since == 0 && r.loggedIn && (r.last.Code == verdict.CodeLogin || r.last.Code == verdict.CodeNotLoggedIn):
		return verdict.Verdict{Code: verdict.CodeFine, Text: fmt.Sprintf("nothing went wrong since the login: %s; before, %s", r.totals, v.Text)}
	case r.since == 0:
		return v
	}
	if r.last.Minor() {
		return verdict.Verdict{Code: verdict.CodeFine, Text: fmt.Sprintf("transfers go well (%s); before, %s", r.totals, v.Text)}
	}
	v.Text = fmt.Sprintf("%s; since then %s", v.Text, count(r.since, "transfer was", "transfers were")+" completed")
	return v
}

// waits tells whether a data connection is agreed upon, and not over.
func (r *Record) waits() bool {
	d := r.data
	return d != nil && d.closed.IsZero() && d.Meter != nil && d.At.IsValid() && r.ended.IsZero()
}

// late says what keeps the data connection that is agreed upon: its peer is awaited for longer than one that
// comes takes, or the far end does not take it.
func (r *Record) late(now time.Time) (verdict.Fault, bool) {
	p := r.data.progress()
	switch {
	case p.Fault != nil:
		return *p.Fault, true
	case p.Connected.IsZero() && now.Sub(r.data.opened) >= patience:
		return r.absent(r.data, p, now), true
	}
	return verdict.Fault{}, false
}

// String says what the transfers came to.
func (t Totals) String() string {
	if t.Transfers+t.Failed == 0 {
		return "no transfer yet"
	}
	s := fmt.Sprintf("%s, %d bytes up, %d down", count(t.Transfers, "transfer", "transfers"), t.Up, t.Down)
	if t.Failed > 0 {
		s += fmt.Sprintf(", %d failed", t.Failed)
	}
	return s
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
