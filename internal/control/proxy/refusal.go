package proxy

import (
	"context"
	"log/slog"
	"net/netip"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// refusal is something that was refused, corrected or cut off. The entry in the session's record, the counter
// and the line of the log are all made from it, by tell.
type refusal struct {
	dialogue.Refusal
	err   error      // the cause; nil: there is none
	peer  netip.Addr // the client, where the sentence names it
	verb  string     // of the client's last command; "": not a known one
	reply string     // the server's last reply, for a login that failed
	fatal bool       // the session ends with it
}

// refused is a refusal in the words for a client.
func refused(kind dialogue.RefusalKind, code verdict.Code, reason string) refusal {
	return refusal{Refusal: dialogue.Refusal{Kind: kind, Code: code, Reason: reason}}
}

// codes are the verdicts of the kinds of refusals that do not come with one of their own.
var codes = [dialogue.RefusalKinds]verdict.Code{
	dialogue.RefusedClient:   verdict.CodeClientNotAllowed,
	dialogue.RefusedLimit:    verdict.CodeTooMany,
	dialogue.RefusedDrain:    verdict.CodeShutDown,
	dialogue.RefusedServer:   verdict.CodeServerUnreachable,
	dialogue.RefusedTime:     verdict.CodeIdle,
	dialogue.RefusedLine:     verdict.CodeClientLine,
	dialogue.RefusedLogin:    verdict.CodeLogin,
	dialogue.RefusedEarly:    verdict.CodeNotLoggedIn,
	dialogue.RefusedCommand:  verdict.CodeCommand,
	dialogue.RefusedSecurity: verdict.CodeTLSOther,
	dialogue.RefusedFamily:   verdict.CodeFamily,
	dialogue.RefusedAddress:  verdict.CodeThirdParty,
	dialogue.RefusedPort:     verdict.CodeLowPort,
	dialogue.RefusedReply:    verdict.CodeServerUnasked,
	dialogue.RefusedAnswer:   verdict.CodeServerBadReply,
	dialogue.RefusedNoPort:   verdict.CodeNoPath,
	dialogue.RefusedTransfer: verdict.CodeDataReset,
}

// fault is the refusal as the session's record keeps it. What the data path knows about its cause counts more
// than the kind.
func (r refusal) fault() verdict.Fault {
	f := verdict.Fault{Code: r.Code, Verb: r.verb, Said: r.Reason, Peer: r.peer, Remedy: r.Remedy, Fatal: r.fatal}
	if r.err != nil && r.err.Error() != r.Reason {
		f.Err = r.err.Error()
	}
	known := failureOf(r.err).Fault
	switch {
	case known.Code != "":
		f.Code, f.Err = known.Code, known.Err
		if known.At.IsValid() {
			f.At = known.At
		}
	case f.Code == "":
		f.Code = codes[r.Kind]
	}
	if f.Code == verdict.CodeLogin && !f.Fatal {
		f.Said = r.reply
	}
	return f
}

// tell records, counts and logs a refusal. A broken transfer is not recorded here: the record has it from its
// data connection. A refusal by the server, and an end that refuses nothing, are only recorded.
func (p *Proxy) tell(record *sessions.Record, r refusal, who func() []slog.Attr) {
	if r.Kind != dialogue.RefusedTransfer && (r.Kind != dialogue.NotRefused || r.Code != "") {
		record.Refuse(r.fault())
	}
	if r.Kind == dialogue.NotRefused {
		return
	}
	p.Counts.refuse(r.Kind)
	if p.Refused != nil {
		p.Refused(r.Kind)
	}
	attrs := append(who(), slog.String("kind", r.Kind.String()), slog.String("reason", r.Reason))
	if r.Remedy != "" {
		attrs = append(attrs, slog.String("remedy", r.Remedy))
	}
	if r.err != nil {
		attrs = append(attrs, slog.Any("err", r.err))
	}
	p.Log.LogAttrs(context.Background(), slog.LevelWarn, "refused", attrs...)
}

// refuse tells a refusal of the session. It belongs to the reader that has the turn.
func (s *session) refuse(r refusal) {
	if r.Kind != dialogue.NotRefused {
		s.refusals++
	}
	s.proxy.tell(s.transcript.record, s.described(r), s.who)
}

// described adds to a refusal what the session knows about it.
func (s *session) described(r refusal) refusal {
	r.peer, r.verb, r.reply = remote(s.client), s.transcript.last.verb, s.transcript.last.reply
	return r
}

// terminate ends the session for a reason, which is the last line for the client if it has words; the first
// reason counts. A refusal without a kind and a code is not told. It may be called by anybody, and never
// waits: the session's own goroutines tell the reason.
func (s *session) terminate(r refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endFor(r)
}

// endFor is terminate for a caller that holds the lock.
func (s *session) endFor(r refusal) {
	r.fatal = true
	e := ending{refusal: r}
	if r.Reason != "" {
		e.goodbye = "421 " + r.Reason
	}
	s.endWith(e)
}

// endWith ends the session and interrupts whoever waits for its peers. It is called with the lock held.
func (s *session) endWith(e ending) {
	switch before := s.end(e); {
	case before == terminated:
	case before == switching, before.inPassthrough(): // handshakes and passthrough write while nobody has the turn
		s.client.Interrupt()
		s.server.Interrupt()
	default:
		s.client.InterruptRead()
		s.server.InterruptRead()
	}
}

// abort ends the session whatever it does, also while a reader writes.
func (s *session) abort(code verdict.Code, reason string, killed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase.inStep() {
		s.client.InterruptWrite()
		s.server.InterruptWrite()
	}
	s.endWith(ending{refusal: refusal{Refusal: dialogue.Refusal{Code: code, Reason: reason}, fatal: true},
		goodbye: "421 " + reason, killed: killed})
}

// kill ends the session for an operator, with the transfer that runs.
func (s *session) kill() { s.abort(verdict.CodeKilled, "the operator has ended the session", true) }

// tellEnding tells why the session is over, once. It belongs to the reader that has the turn, and to run.
func (s *session) tellEnding() {
	if s.endingTold {
		return
	}
	s.endingTold = true
	s.mu.Lock()
	r := s.ending.refusal
	s.mu.Unlock()
	s.refuse(r)
}
