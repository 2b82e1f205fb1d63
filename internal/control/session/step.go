package session

import (
	"log/slog"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/verdict"
)

// carryOut does what a step asks for and sends its lines to the server; it gathers those for the client in
// toClient. It returns the step it carried out, which is another one if the action failed; false: another
// reader took the turn. Only the reader that has the turn calls it, and the functions below.
func (s *Session) carryOut(step dialogue.Step) (done dialogue.Step, ok bool) {
	failedLogin := step.FailedLogins > 0
	if failedLogin { // at once, also for a client that does not wait for the answer
		s.refuseStep(step, nil)
		if step.FailedLogins > freeLoginFailures && !s.isTerminated() &&
			!s.delay(time.Duration(step.FailedLogins)*s.env.LoginDelay) {
			return step, true
		}
	}
	action := step.Action
	step, err := s.act(step)
	if err == errTurnTaken {
		return step, false
	}
	if !failedLogin {
		s.refuseStep(step, err)
	}
	if s.isTerminated() {
		s.reportEnding()
		return step, true
	}
	s.toClient = append(s.toClient, step.ToClient...)
	if len(step.ToServer) > 0 {
		if step.Urgent > 0 {
			s.send(s.server, func() error { return s.server.WriteUrgent(step.ToServer[:step.Urgent]) })
		}
		s.write(s.server, step.ToServer[step.Urgent:])
	}
	if action == dialogue.Fail || action == dialogue.Decline && err != nil {
		s.flush() // the client reads why before it finds its data connection refused
		if !s.closeTransfer() {
			return step, false
		}
	}
	if step.Transition != dialogue.None && !s.isTerminated() {
		s.requestTransition(step.Transition)
	}
	if step.End {
		s.terminate(refusal.Refusal{})
	}
	return step, true
}

// freeLoginFailures is how many failed logins are answered at once: people mistype, and clients try a stored
// password.
const freeLoginFailures = 2

// refuseStep reports what a step refuses. err is the cause, where its action failed.
func (s *Session) refuseStep(step dialogue.Step, err error) {
	refused := step.Refusal.Kind != verdict.NotRefused
	if !refused && step.Refusal.Code == "" {
		return
	}
	r := refusal.Refusal{Refusal: step.Refusal, Err: err, User: step.FailedUser, Fatal: step.End ||
		s.isTerminated()}
	if !refused {
		r.Reason, r.Err = s.transcript.ServerReply(), nil // the server's, which is passed on
	}
	s.refuse(r)
}

// delay holds back the answer to a failed login, for a client that waits for it; false: the session is over.
func (s *Session) delay(d time.Duration) bool {
	s.flush()
	barrier := newReplyBarrier()
	if !s.pause(delaying, barrier) {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-barrier.cancel:
	}
	return s.resumeStep()
}

// resumeStep continues after a pause; false: the session is over.
func (s *Session) resumeStep() bool {
	ok := s.resume()
	if !ok {
		s.reportEnding()
	}
	s.lineAt = time.Now()
	return ok
}

// flush sends what is gathered for the client.
func (s *Session) flush() {
	if len(s.toClient) == 0 {
		return
	}
	s.write(s.client, s.toClient)
	if s.toClient = s.toClient[:0]; cap(s.toClient) > maxIdleBuffer {
		s.toClient = nil
	}
}

// maxIdleBuffer is how much memory for lines an idle session keeps, in bytes.
const maxIdleBuffer = 512

// write sends lines to either side.
func (s *Session) write(c *conn.Control, text []byte) {
	s.send(c, func() error {
		_, err := c.Write(text)
		return err
	})
}

// send calls f, which writes to either side, and ends the session if it fails. The watch limits the time that
// f may take.
func (s *Session) send(c *conn.Control, f func() error) {
	s.beginWrite()
	err := f()
	s.endWrite()
	switch {
	case err == nil:
	case timedOut(err) && c == s.client:
		s.terminate(refusal.New(verdict.RefusedTime, verdict.CodeClientTakesNothing,
			"you are not reading replies"))
	case timedOut(err):
		s.terminate(refusal.New(verdict.RefusedTime, verdict.CodeServerLeft,
			"the server is not reading commands"))
	case c == s.client:
		s.terminate(refusal.Refusal{})
	default:
		s.terminate(refusal.New(verdict.RefusedUnreachable, verdict.CodeServerLeft, serverBroken))
	}
}

// requestTransition notes the transition that a step asks for. The client's reader makes it when the turn
// ends, in apply.
func (s *Session) requestTransition(t dialogue.Transition) {
	s.requested = t
	if t == dialogue.Passthrough {
		s.noGoodbye = true
		s.log(slog.LevelInfo, "session passed through, encrypted from end to end")
		s.record.PassedThrough(s.passthroughPorts)
		s.handshake = &handshake{ports: s.passthrough}
	}
}

// endTurn ends a step, and makes the transition that it requested. It is called with the lock held.
func (s *Session) endTurn() {
	t := s.requested
	s.requested = dialogue.None
	s.leaveWorking(t)
	if s.phase == stopping {
		s.server.InterruptRead() // the server's reader waits for a line
	}
}
