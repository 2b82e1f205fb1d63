package sessions

import (
	"fmt"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

const (
	// connectPatience is how long the gateway waits for a data connection before it reports a missing one:
	// TCP repeats a lost SYN after one second and after three.
	connectPatience = 3 * time.Second
	// minWait is how long a closed pinhole must have been open for that: clients connect at once, and some
	// give up after a second. A pinhole that a client does not intend to use is closed sooner.
	minWait = 800 * time.Millisecond
)

// dataFault returns the fault of a closed data connection, as far as the gateway can see. final: its outcome
// is complete.
func (r *Record) dataFault(d *data, o pinhole.Outcome, final bool) (verdict.Fault, bool) {
	if d == nil {
		return verdict.Fault{}, false
	}
	switch {
	case o.Fault() != nil:
		own := *o.Fault()
		if !own.At.IsValid() {
			own.At = d.Listen
		}
		own.Named = d.Named
		if own.Code == verdict.CodeGatewayFilter && r.log.RulesRestored != nil &&
			r.log.RulesRestored().After(d.opened) {
			own.Code = verdict.CodeRulesRemoved
		}
		return own, true
	case !o.Counted, !final, !o.Connected.IsZero(), d.declined, !d.Listen.IsValid(),
		d.closed.Sub(d.opened) < minWait:
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
		if r.log.Banned != nil && r.log.Banned(r.server.Addr()) {
			f.Remedy = "the server's address is banned, or denied by deny, and the gateway refuses its " +
				"connections: lift that ban (ftpgate bans), or take the address out of deny"
		}
	}
	if o.UnexpectedPeer.IsValid() {
		f.Code, f.Peer, f.Expected = verdict.CodeClientFromElsewhere, o.UnexpectedPeer, d.From
		f.Remedy = ""
		if d.Active {
			f.Code = verdict.CodeServerFromElsewhere
		}
	}
	return f
}

// verdict returns the verdict so far: the fault that ended the session, else the first one, unless everything
// afterwards succeeded. sofar are its results.
func (r *Record) verdict(sofar results, now time.Time) verdict.Verdict {
	if r.fatal != nil && !(r.fatal.ExplainsNothing() && sofar.failed()) {
		v := r.fatal.Verdict()
		if n := sofar.totals.Transfers; n > 0 && r.fatal.Code == verdict.CodeServerLeft {
			v.Text += "; before, " + count(n, "transfer was", "transfers were") + " completed"
		}
		return v
	}
	if f, waits := r.awaited(now); waits {
		v := f.Verdict()
		return verdict.Verdict{Code: verdict.CodeWaiting, Text: "so far " + v.Text, Remedy: v.Remedy}
	}
	first := sofar.first
	if first == nil {
		return r.well(sofar)
	}
	v := first.Verdict()
	switch {
	case sofar.completedSince == 0 && r.loggedIn && (first.Code == verdict.CodeLoginFailed ||
		first.Code == verdict.CodeNotLoggedIn):
		return verdict.Verdict{Code: verdict.CodeFine, Text: fmt.Sprintf("nothing went wrong since the "+
			"login: %s; before, %s", sofar.totals, v.Text)}
	case sofar.completedSince > 0 && first.Minor():
		return verdict.Verdict{Code: verdict.CodeFine,
			Text: fmt.Sprintf("transfers go well (%s); before, %s", sofar.totals, v.Text)}
	}
	if sofar.later != nil {
		v.Text += "; after that, " + sofar.later.Verdict().Text
	}
	if n := sofar.completedSince; n > 0 {
		v.Text += "; since then " + count(n, "transfer was", "transfers were") + " completed"
	}
	return v
}

// well returns the verdict of a session in which nothing failed, as far as the gateway can see.
func (r *Record) well(sofar results) verdict.Verdict {
	f := r.serverRefused
	switch {
	case r.passedThrough:
		return verdict.Verdict{Code: verdict.CodeFine, Remedy: "ftpgate doctor tries transfers with the " +
			"server",
			Text: "the session is passed through encrypted: the gateway does not see its transfers, nor " +
				"whether they fail"}
	case f != nil && sofar.completedSince == 0 && r.transfer == nil:
		return f.Verdict()
	case r.start.Tracking == forward.TrackingKernel:
		return verdict.Verdict{Code: verdict.CodeFine, Text: "the kernel saw nothing go wrong: " +
			sofar.totals.String() + " (it does not see what the server replies)"}
	}
	counting := ""
	switch {
	case r.transfer != nil && sofar.totals.Transfers == 0:
		return verdict.Verdict{Code: verdict.CodeFine, Text: "nothing went wrong so far: " +
			r.transfer.transfer.Verb + " is running"}
	case r.transfer != nil:
		counting = " so far, and " + r.transfer.transfer.Verb + " is running"
	case sofar.counting:
		counting = " so far, while bytes are counted"
	}
	return verdict.Verdict{Code: verdict.CodeFine, Text: "nothing went wrong: " + sofar.totals.String() +
		counting}
}

// awaited returns a fault for an event that is overdue.
func (r *Record) awaited(now time.Time) (verdict.Fault, bool) {
	if !r.ended.IsZero() {
		return verdict.Fault{}, false
	}
	if r.awaitsData() {
		if f, late := r.overdue(now); late {
			return f, true
		}
	}
	if f, waits := r.unanswered(now); waits {
		return f, true
	}
	waited := now.Sub(r.movedAt)
	if t := r.transfer; t != nil && r.data != nil && r.data.outcome().Lives() && waited >= movePatience {
		return verdict.Fault{Code: verdict.CodeDataStalled, Verb: t.transfer.Verb, Waited: waited}, true
	}
	return verdict.Fault{}, false
}

// movePatience is how long a data connection may be idle before the gateway reports it.
const movePatience = 10 * time.Second

// unanswered returns the fault of a server that has not answered the connection or a command for longer than
// usual. A client need not wait for the answer to QUIT.
func (r *Record) unanswered(now time.Time) (verdict.Fault, bool) {
	f := verdict.Fault{Verb: r.pendingVerb, Waited: now.Sub(r.pendingSince)}
	switch {
	case !r.server.IsValid(), r.start.Tracking != forward.TrackingProxy, r.passedThrough,
		f.Waited < connectPatience:
		return f, false
	case !r.greeted:
		if r.start.ClientTLS && r.tls.Client == "" { // the greeting waits for the client's handshake
			return f, false
		}
		f.Code = verdict.CodeServerSilent
		return f, true
	}
	f.Code = verdict.CodeServerNoReply
	return f, r.pending && r.transfer == nil && r.pendingVerb != "QUIT"
}

// noteUnanswered records at the end of a session that its server did not answer the client.
func (r *Record) noteUnanswered(now time.Time) {
	if f, waits := r.unanswered(now); waits && r.fatal == nil {
		r.fault(f)
	}
}

// checkTransfer notes whether the running transfer has moved since the last check.
func (r *Record) checkTransfer(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.transfer == nil || r.data == nil {
		return
	}
	if o := r.data.outcome(); o.Up+o.Down != r.moved || !o.Lives() {
		r.moved, r.movedAt = o.Up+o.Down, now
	}
}

// awaitsData reports whether a pinhole is open for a transfer that waits or may follow.
func (r *Record) awaitsData() bool {
	d := r.data
	return d != nil && d.closed.IsZero() && !d.declined && d.Listen.IsValid()
}

// overdue returns why the open pinhole has no data connection: its peer takes longer than usual, or the far
// end refuses it.
func (r *Record) overdue(now time.Time) (verdict.Fault, bool) {
	o := r.data.outcome()
	switch {
	case o.Fault() != nil:
		return r.dataFault(r.data, o, false)
	case o.Counted && o.Connected.IsZero() && now.Sub(r.data.opened) >= connectPatience:
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
