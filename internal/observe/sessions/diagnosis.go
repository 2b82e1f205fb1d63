package sessions

import (
	"fmt"
	"time"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

const (
	// connectPatience is how long the gateway waits for a data connection before it mentions that none came:
	// TCP sends a lost SYN again after one second and after three.
	connectPatience = 3 * time.Second
	// minWait is how long a closed pinhole must have waited for that: clients connect at once, and some give
	// up after a second. A pinhole that a client did not mean to use is closed sooner.
	minWait = 800 * time.Millisecond
)

// dataFault returns what went wrong with a closed data connection, as far as the gateway can see.
func (r *Record) dataFault(d *data, o pinhole.Outcome) (verdict.Fault, bool) {
	if d == nil || d.Meter == nil {
		return verdict.Fault{}, false
	}
	switch {
	case o.Fault() != nil:
		own := *o.Fault()
		if !own.At.IsValid() {
			own.At = d.Listen
		}
		return own, true
	case !o.Connected.IsZero(), d.declined, !d.Listen.IsValid(), d.closed.Sub(d.opened) < minWait:
		return verdict.Fault{}, false
	}
	return r.neverConnected(d, o, d.closed), true
}

// neverConnected returns the fault of a data connection whose peer did not connect until now.
func (r *Record) neverConnected(d *data, o pinhole.Outcome, now time.Time) verdict.Fault {
	f := verdict.Fault{At: d.Listen, Ports: r.start.Passive, Peer: d.From, Waited: now.Sub(d.opened)}
	f.Code = verdict.CodeClientNeverConnected
	if d.Active {
		f.Code = verdict.CodeServerNeverConnected
	}
	if o.UnexpectedPeer.IsValid() {
		f.Code, f.Peer, f.Expected = verdict.CodeClientFromElsewhere, o.UnexpectedPeer, d.From
		if d.Active {
			f.Code = verdict.CodeServerFromElsewhere
		}
	}
	return f
}

// verdict returns how the session went so far: what ended it, else what failed last, unless everything went
// well afterwards.
func (r *Record) verdict(now time.Time) verdict.Verdict {
	if r.fatal != nil && !(r.fatal.Plain() && r.last != nil && !r.last.Minor() && r.completedSince == 0) {
		return r.fatal.Verdict()
	}
	if r.awaitsData() {
		if f, late := r.overdue(now); late {
			v := f.Verdict()
			return verdict.Verdict{Code: verdict.CodeWaiting, Text: "so far " + v.Text, Remedy: v.Remedy}
		}
	}
	if r.last == nil {
		return verdict.Verdict{Code: verdict.CodeFine, Text: "nothing went wrong: " + r.totals.String()}
	}
	v := r.last.Verdict()
	switch {
	case r.completedSince == 0 && r.loggedIn && (r.last.Code == verdict.CodeLoginFailed ||
		r.last.Code == verdict.CodeNotLoggedIn):
		return verdict.Verdict{Code: verdict.CodeFine, Text: fmt.Sprintf("nothing went wrong since the "+
			"login: %s; before, %s", r.totals, v.Text)}
	case r.completedSince == 0:
		return v
	}
	if r.last.Minor() {
		return verdict.Verdict{Code: verdict.CodeFine,
			Text: fmt.Sprintf("transfers go well (%s); before, %s", r.totals, v.Text)}
	}
	v.Text = fmt.Sprintf("%s; since then %s", v.Text, count(r.completedSince, "transfer was",
		"transfers were")+" completed")
	return v
}

// awaitsData reports whether a pinhole is open for a transfer that is to come or waits.
func (r *Record) awaitsData() bool {
	d := r.data
	return d != nil && d.closed.IsZero() && !d.declined && d.Meter != nil && d.Listen.IsValid() &&
		r.ended.IsZero()
}

// overdue returns why the data connection for the open pinhole is not there: its peer takes longer than a
// peer that connects does, or the far end refuses it.
func (r *Record) overdue(now time.Time) (verdict.Fault, bool) {
	o := r.data.outcome()
	switch {
	case o.Fault() != nil:
		return *o.Fault(), true
	case o.Connected.IsZero() && now.Sub(r.data.opened) >= connectPatience:
		return r.neverConnected(r.data, o, now), true
	}
	return verdict.Fault{}, false
}

// String returns the sums as part of a sentence.
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
