package sessions

import (
	"cmp"
	"slices"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// results sum up the successes and failures of a session.
type results struct {
	totals Totals
	// The first serious fault since the last complete transfer, else the last fault; nil: none. Ends of the
	// session do not count.
	first *verdict.Fault
	// the last one of another kind after it; nil: none
	later          *verdict.Fault
	completedSince int  // transfers completed after them
	counting       bool // the bytes of a transfer are still counted
}

// fault adds a failure.
func (s *results) fault(f *verdict.Fault) {
	switch {
	case s.first == nil, s.completedSince > 0, s.first.Minor():
		s.first, s.later, s.completedSince = f, nil, 0
	case !f.Minor() && f.Code != s.first.Code:
		s.later = f
	}
}

// failed reports whether the session did not recover from a failure.
func (s *results) failed() bool {
	return s.first != nil && !s.first.Minor() && s.completedSince == 0
}

// result is the outcome of a data connection, or of the transfer over it.
type result struct {
	totals Totals
	fault  *verdict.Fault // nil: nothing failed
}

// add adds the result of a transfer or a data connection.
func (s *results) add(one result) {
	s.totals.add(one.totals)
	s.completedSince += one.totals.Transfers
	if one.fault != nil {
		s.fault(one.fault)
	}
}

// resultsSoFar returns the results, with those still being counted in their present state.
func (r *Record) resultsSoFar() results {
	sofar := r.results
	for _, s := range r.finalizing {
		o := s.data.outcome()
		if s.hasTransfer {
			o = s.transfer.inDirection(o)
		}
		one := r.resultOf(s, o, false)
		sofar.counting = sofar.counting || s.hasTransfer && o.Counted && !o.Over
		if r.killed() {
			one.fault = nil
		}
		sofar.add(one)
	}
	return sofar
}

// resultOf returns the result of a data connection, and of its transfer if it had one. final: its outcome is
// complete.
func (r *Record) resultOf(s *finalizing, o pinhole.Outcome, final bool) result {
	if !s.hasTransfer {
		f, failed := r.dataFault(s.data, o, final)
		if !failed {
			return result{}
		}
		return result{Totals{Failed: 1}, &f}
	}
	one := result{totals: Totals{Up: o.Up, Down: o.Down}}
	if s.transfer.Complete && (o.Failure == nil || o.BrokeAfterEnd) {
		one.totals.Transfers = 1
		return one
	}
	one.totals.Failed = 1
	f := r.whyFailed(s, o, final)
	one.fault = &f
	return one
}

// finalize adds the result of a data connection, and of its transfer if it had one, to the time line and the
// sums. It reports whether it failed.
func (r *Record) finalize(s *finalizing, o pinhole.Outcome) (failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finalizing = slices.DeleteFunc(r.finalizing, func(other *finalizing) bool { return other == s })
	r.noteConnected(s.data, o)
	if s.hasTransfer {
		o = s.transfer.inDirection(o)
	}
	one := r.resultOf(s, o, true)
	if one.fault != nil {
		r.fault(*one.fault)
	}
	r.results.totals.add(one.totals)
	r.stats.count(func(sums *ForwardStats) { sums.Totals.add(one.totals) })
	if s.hasTransfer {
		r.finalizeTransfer(&s.transfer, o, one)
	} else if one.fault == nil && o.Connected.IsZero() && s.data.Listen.IsValid() {
		r.note(KindPinhole, s.data.number, "closed unused")
	}
	return one.fault != nil
}

// finalizeTransfer fills in the result of a transfer, and adds it to the time line.
func (r *Record) finalizeTransfer(t *Transfer, o pinhole.Outcome, one result) {
	t.measure(o, t.Ended)
	if t.Complete = one.fault == nil; t.Complete {
		r.results.completedSince++
		r.serverRefused = nil
	} else {
		t.Verdict = one.fault.Verdict().Text
	}
	r.keep(entry{after: t.Ended.Sub(r.began), kind: KindTransfer, data: int32(t.number),
		words: transferEnded{t.Verb, t.Complete, t.Bytes, t.Ended.Sub(t.Began)}})
}

// whyFailed returns why a transfer failed. The data path's reason takes precedence over the server's reply,
// and that over the reply to the client. A server that gives a reason of its own gave up by itself: the end
// of the data connection is then a consequence, unless the client had broken it before.
func (r *Record) whyFailed(s *finalizing, o pinhole.Outcome, final bool) verdict.Fault {
	aborted := s.why != nil && s.why.Code == verdict.CodeAborted // and that broke the data connection
	serverSays := verdict.GivesReason(s.reply) && (!s.brokeBefore || o.ServerReset)
	if f, failed := r.dataFault(s.data, o, final); failed && !aborted && !serverSays {
		f.Verb, f.Reason = s.transfer.Verb, cmp.Or(f.Reason, s.reply)
		return f
	}
	if d := s.data; !aborted && final && verdict.FailedToConnect(s.reply) && d != nil && o.Counted &&
		d.Listen.IsValid() && o.Connected.IsZero() {
		f := r.neverConnected(d, o, d.closed)
		f.Verb, f.Reason = s.transfer.Verb, s.reply
		return f
	}
	switch {
	case s.why != nil && !serverSays:
		f := *s.why
		f.Verb, f.Reason = cmp.Or(f.Verb, s.transfer.Verb), cmp.Or(f.Reason, s.reply)
		return f
	case s.transfer.Complete: // by the server's reply
		f := verdict.Fault{Code: verdict.CodeDataBroken, Verb: s.transfer.Verb,
			Reason: "the gateway ended it"}
		if r.fatal != nil {
			f = *r.fatal
			f.Fatal = false
		}
		return f
	}
	return verdict.Fault{Code: verdict.CodeServerRefusedTransfer, Verb: s.transfer.Verb, Reason: s.reply}
}

// followPath notes what carries a data connection, which is certain only once its peer may connect.
func (r *Record) followPath(d *data, o pinhole.Outcome) {
	path := o.Path.String()
	if o.Path != forward.DataKernel && o.Path != forward.DataRelay || path == d.Path {
		return
	}
	if d.closed.IsZero() {
		r.log.stats.pinholes(d.Path).Add(-1)
		r.log.stats.pinholes(path).Add(1)
	}
	d.Path = path
	r.note(KindPinhole, d.number, "the "+path+" carries it")
}
