package proxy

import (
	"errors"
	"log/slog"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
)

// errAborted is how a transfer ends that the client has given up.
var errAborted = errors.New("aborted by the client")

// errNotResumed is why a server most probably takes no data.
var errNotResumed = errors.New("the server has not resumed the TLS session of its control connection on the data connection")

// unbuilt tells whether a reply says that a data connection did not come about, or not as the server
// wants it (RFC 959 section 4.2, RFC 2228 section 3, RFC 4217 section 10).
func unbuilt(code int) bool { return code == 425 || code == 426 || code/10 == 52 || code/10 == 53 }

// errNoData is why a pinhole cannot be armed that is not there: a bug of the dialogue.
var errNoData = errors.New("there is no pinhole")

// do does what a step asks for and then sends its lines; those for the client are gathered. It is
// called with the lock held, as all below.
func (s *session) do(step *dialogue.Step) {
	if step.Failures > 0 {
		if s.pause(time.Duration(step.Failures) * s.proxy.failureDelay()); s.ended {
			return
		}
	}
	err := s.effect(step)
	switch {
	case step.Refused != dialogue.NotRefused:
		s.refused(step.Refused, step.Code, step.Reason, step.Remedy, err)
	case step.Code != "": // the server's, and passed on
		s.record.Refuse(s.fault(dialogue.NotRefused, step.Code, s.said.reply, "", nil))
	}
	if s.ended {
		return
	}
	s.out = append(s.out, step.ToClient...)
	if len(step.ToServer) > 0 {
		if step.Synch {
			s.synch()
		}
		s.write(s.server, step.ToServer)
	}
	if step.Then != dialogue.GoOn && !s.ended {
		s.turn(step.Then)
	}
	if step.End {
		s.over(dialogue.NotRefused, "", "")
	}
}

// effect does what a step asks for, and tells the dialogue what has become of it, which changes the
// lines of the step. It returns what failed.
func (s *session) effect(step *dialogue.Step) error {
	var err error
	switch step.Action {
	case dialogue.Open:
		err = s.open(step)
	case dialogue.Arm:
		if err = errNoData; s.data != nil {
			err = s.data.Arm()
		}
	case dialogue.Join:
		err = s.join(step.Bridge)
	case dialogue.Finish:
		return s.complete()
	case dialogue.Fail:
		return s.fail()
	case dialogue.Close:
		s.closeData()
	case dialogue.Pass:
		s.closeData()
		if s.gate, err = s.proxy.Path.Pass(step.Passage); err != nil {
			s.gate = nil
			break
		}
		s.passage = step.Passage.String()
	case dialogue.Prepare:
		s.closeData()
		s.control, s.seals.Client, err = s.proxy.Keys.ForClient(s.plain)
	}
	if err != nil {
		s.closeData()
		why := failureOf(err)
		s.dialogue.Failed(why.ReplyText, why.Remedy)
	}
	return err
}

// open has the data path open a pinhole.
func (s *session) open(step *dialogue.Step) (err error) {
	hole := step.Pinhole // which Opened takes away
	s.closeData()
	data, at, err := s.proxy.Path.Open(s.ctx, hole, s.sealed(hole.Encrypted))
	if err != nil {
		return err
	}
	hole.At, s.data = at, data
	if s.dialogue.Opened(at); step.Action == dialogue.Arm {
		err = s.data.Arm()
	}
	if err == nil {
		s.tellOpened(dialogue.Open, hole, pinhole.Bridge{})
	}
	return err
}

// join has the data path connect to both ends.
func (s *session) join(bridge pinhole.Bridge) (err error) {
	s.closeData()
	data, err := s.proxy.Path.Join(s.ctx, bridge, s.sealed(bridge.Encrypted))
	if err != nil {
		return err
	}
	s.data = data
	s.tellOpened(dialogue.Join, pinhole.Pinhole{}, bridge)
	return nil
}

// complete sees to the data of a transfer that the server calls complete. What is wrong with it the client
// is told.
func (s *session) complete() error {
	if s.data == nil { // ABOR has closed it, and the server speaks of that
		s.tellFinished(false, nil)
		return nil
	}
	if err := s.finish(s.data); err != nil {
		s.tellFinished(false, err)
		s.broken(err)
		return err
	}
	s.tellFinished(true, nil)
	s.transfers++
	s.proxy.Counts.Transfer()
	return nil
}

// broken has the client told that a transfer was not delivered.
func (s *session) broken(err error) {
	code, text := 426, "the data connection broke off, the transfer is not complete"
	why := failureOf(err)
	switch {
	case errors.Is(err, errAborted):
		text = "transfer aborted"
	case why.ReplyText != "":
		code, text = why.ReplyCode, why.ReplyText
	}
	s.dialogue.Broken(code, text, why.Remedy)
}

// failureOf returns what the data path says of an error: nothing of one that is not the path's.
func failureOf(err error) dataplane.Failure {
	if f, ok := errors.AsType[*dataplane.Failure](err); ok {
		return *f
	}
	return dataplane.Failure{}
}

// fail ends a transfer that the server has called off. Where it was the gateway that had broken its data,
// the client is told why: the server does not know.
func (s *session) fail() error {
	outcome, err := s.endData()
	if err == nil && outcome.NotResumed && unbuilt(s.dialogue.Code) {
		err = errNotResumed
		s.dialogue.NotResumed()
	}
	s.tellFinished(false, err)
	if err == errNotResumed {
		return err
	}
	if err != nil {
		s.broken(err)
	}
	return err
}

// endData ends the last negotiation, and returns what became of it. The error is a failure that the data path
// has words for.
func (s *session) endData() (dataplane.Outcome, error) {
	data := s.data
	if data == nil {
		return dataplane.Outcome{}, nil
	}
	s.data = nil
	outcome := data.Close()
	s.record.Closed()
	if f := outcome.Failure; !outcome.Complete && f != nil && f.ReplyText != "" {
		return outcome, f
	}
	return outcome, nil
}

// finish holds back the reply that a transfer is complete until its data is through the gateway: never a
// short file with a 226. Meanwhile the client can give it up, with ABOR.
func (s *session) finish(data dataplane.Data) error {
	if data.Outcome().Settled { // nothing is held back, and all lines go in one write
		s.data = nil
		outcome := data.Finish(nil)
		data.Close()
		return failed(outcome)
	}
	var outcome dataplane.Outcome
	aborted := s.wait(true, func(cancel <-chan struct{}) { outcome = data.Finish(cancel) })
	s.data = nil
	data.Close()
	if aborted {
		return errAborted
	}
	return failed(outcome)
}

// failed returns why data was not delivered; nil: it was.
func failed(o dataplane.Outcome) error {
	if o.Complete {
		return nil
	}
	return o.Failure
}

// pause delays the answer to a failed login.
func (s *session) pause(d time.Duration) {
	s.wait(false, func(cancel <-chan struct{}) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-cancel:
		}
	})
}

// wait holds everything back until f is done, which it does without the lock: f returns when the
// session ends, or when the client gives a transfer up.
func (s *session) wait(transfer bool, f func(cancel <-chan struct{})) (aborted bool) {
	s.flush()
	h := &hold{cancel: make(chan struct{}), transfer: transfer}
	if s.ended {
		h.stop()
	}
	s.hold = h
	s.mu.Unlock()
	f(h.cancel)
	s.mu.Lock()
	s.hold = nil
	s.lastLine = time.Now()
	return h.aborted
}

// closeData ends the last negotiation, with what came of it, and a passage. What the gateway has refused
// before any transfer asked for it stands in the log: clients try something else then, without a word.
func (s *session) closeData() {
	if _, err := s.endData(); err != nil {
		why := failureOf(err)
		s.refused(dialogue.RefusedTransfer, "", why.ReplyText, why.Remedy, err)
	}
	if s.gate != nil {
		s.gate.Close()
		s.gate = nil
	}
}

// sealed is the TLS for a data connection to come that is encrypted on these legs.
func (s *session) sealed(on pinhole.Encrypted) dataplane.Seals {
	seals := s.seals
	if !on.Client {
		seals.Client = nil
	}
	s.beginning = nil
	if on.Server {
		s.beginning = newBeginning()
		seals.Begin = s.beginning.begun
	} else {
		seals.Server = nil
	}
	return seals
}

// flush sends what is gathered for the client.
func (s *session) flush() {
	if len(s.out) == 0 {
		return
	}
	out := s.out
	s.out = dialogue.Emptied(s.out)
	s.write(s.client, out)
}

// write sends to either side, and ends the session where that cannot be done. The watch looks after
// how long it takes.
func (s *session) write(c *conn.Wire, text []byte) {
	s.writing.Store(max(1, int64(time.Since(s.began))))
	_, err := c.Write(text)
	s.writing.Store(0)
	s.wrote(c, err)
}

// wrote ends the session where a line could not be sent.
func (s *session) wrote(c *conn.Wire, err error) {
	switch {
	case err == nil:
	case timedOut(err) && c == s.client:
		s.over(dialogue.RefusedTime, verdict.CodeClientReads, "you take no replies")
	case timedOut(err):
		s.over(dialogue.RefusedTime, verdict.CodeServerLeft, "the server takes no commands")
	case c == s.client:
		s.over(dialogue.NotRefused, "", "")
	default:
		s.over(dialogue.RefusedServer, verdict.CodeServerLeft, "the connection to the server is broken")
	}
}

// trace logs that a line has come: of a command its verb if it is a known one, of a reply its code. The
// rest may be a secret: a password that was typed as a command, a reply that repeats it.
func (s *session) trace(from dialogue.Side, line []byte) {
	if !s.proxy.Log.Enabled(s.ctx, slog.LevelDebug) {
		return
	}
	what := "(other)"
	if from == dialogue.Server && dialogue.IsReply(line) {
		what = string(line[:3])
	} else if verb := dialogue.VerbOf(line); from == dialogue.Client && dialogue.Known(verb) {
		what = verb
	}
	s.log(slog.LevelDebug, "line", slog.String("from", from.String()), slog.String("what", what))
}
