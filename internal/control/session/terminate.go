package session

import (
	"net/netip"

	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/verdict"
)

// refuse reports a refusal of the session. Only the reader that has the turn calls it.
func (s *Session) refuse(r refusal.Refusal) { s.report(s.described(r)) }

func (s *Session) report(r refusal.Refusal) {
	if r.Kind != verdict.NotRefused {
		s.refusals.add()
		r.Unlogged = s.refusals.all > loggedRefusals && !r.Fatal && r.Kind != verdict.RefusedLogin
	}
	s.env.Reporter.Report(s.record, r, s.who)
	if s.refusals.tooMany(s.dialogue.LoggedIn()) {
		s.terminate(refusal.New(verdict.RefusedLimit, verdict.CodeTooManyRefusals,
			"too many refusals in this session"))
	}
}

// described adds the client, its last verb and the server's last reply to a refusal.
func (s *Session) described(r refusal.Refusal) refusal.Refusal {
	r.Peer, r.Verb, r.Reply = s.Client(), s.transcript.Verb(), s.transcript.ServerReply()
	return r
}

// terminate ends the session for a reason, which is the last line for the client if it has words; the first
// reason counts. A refusal without a kind and a code is not reported. Any goroutine may call it. It never
// waits: the session's own goroutines report the reason.
func (s *Session) terminate(r refusal.Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.terminateLocked(r)
}

// terminateLocked is terminate for a caller that holds the lock.
func (s *Session) terminateLocked(r refusal.Refusal) {
	r.Fatal = true
	s.terminateWith(ending{refusal: r, goodbye: r.Goodbye(), severs: r.Kind == verdict.RefusedTime})
}

// terminateWith ends the session and interrupts the reads from its peers, during a transition and in a
// passthrough the writes, too. It is called with the lock held.
func (s *Session) terminateWith(e ending) {
	switch before := s.setTerminated(e); {
	case before == terminated:
	case before == switching, before.inPassthrough(): // which write without the turn
		s.client.Interrupt()
		s.server.Interrupt()
	default:
		s.client.InterruptRead()
		s.server.InterruptRead()
	}
}

// Abort ends the session in any phase, also during a transfer or a write. It never waits.
func (s *Session) Abort(code verdict.Code, reason string) { s.abort(code, reason, false) }

// Kill ends the session and its data connections for an operator, also if only these are left. It never
// waits.
func (s *Session) Kill() {
	r := s.killed()
	s.abort(r.Code, r.Reason, true)
}

func (s *Session) killed() refusal.Refusal { return Killed(s.env.Banned, s.Client()) }

// Banned is the reason for a client that is banned.
const Banned = "your address is banned"

// Killed is the refusal for a client whose session an operator ends, or whose address is banned now.
func Killed(banned func(netip.Addr) bool, client netip.Addr) refusal.Refusal {
	if banned != nil && banned(client) {
		return refusal.New(verdict.NotRefused, verdict.CodeBanned, Banned)
	}
	return refusal.New(verdict.NotRefused, verdict.CodeKilled, "an operator ended the session")
}

func (s *Session) abort(code verdict.Code, reason string, severs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == terminated {
		if severs {
			s.severAfterEnd()
		}
		return
	}
	if s.phase.inStep() {
		s.client.InterruptWrite()
		s.server.InterruptWrite()
	}
	r := refusal.New(verdict.NotRefused, code, reason)
	r.Fatal = true
	s.terminateWith(ending{refusal: r, goodbye: r.Goodbye(), severs: severs})
}

// reportEnding reports once why the session is over. Only the reader that has the turn calls it.
func (s *Session) reportEnding() {
	if s.endingReported {
		return
	}
	s.endingReported = true
	s.mu.Lock()
	r := s.ending.refusal
	s.mu.Unlock()
	if r = s.described(r); !s.dialogue.AwaitsReply() {
		r.Verb = "" // of a command that was answered
	}
	s.report(r)
}
