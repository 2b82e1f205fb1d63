package proxy

import (
	"errors"
	"net/netip"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
)

// errAborted is why a transfer ended that the client aborted.
var errAborted = errors.New("aborted by the client")

// errNotResumed is why a server most probably takes no data.
var errNotResumed = errors.New("the server has not resumed the TLS session of its control connection on the data connection")

// errNoData says that there is no pinhole to arm: a bug of the dialogue.
var errNoData = errors.New("there is no pinhole")

// errOver says that the session ended before the data path answered.
var errOver = errors.New("the session is over")

// act carries out a step's action. It returns the step to go on with: the same one, or the dialogue's answer to
// what became of the action; and what failed.
func (s *session) act(step dialogue.Step) (dialogue.Step, error) {
	var err error
	switch step.Action {
	case dialogue.Open:
		step, err = s.open(step)
	case dialogue.Arm:
		err = s.arm()
	case dialogue.Bridge:
		err = s.bridge(step.Bridge)
	case dialogue.Finish:
		return s.complete(step)
	case dialogue.Fail:
		return s.fail(step)
	case dialogue.Close:
		s.closeData()
	case dialogue.OpenPassthrough:
		err = s.openPassthrough(step.Passthrough)
	case dialogue.PrepareTLS:
		s.closeData()
		s.clientTLS, s.dataTLS.Client, err = s.proxy.Keys.ForClient(s.forward)
	}
	if err == errOver {
		return dialogue.Step{}, nil
	}
	if err != nil {
		s.closeData()
		why := failureOf(err)
		step = s.dialogue.Failed(why.ReplyText, why.Remedy)
	}
	return step, err
}

// failureOf returns what the data path says about an error; empty: the error is not the path's.
func failureOf(err error) dataplane.Failure {
	if f, ok := errors.AsType[*dataplane.Failure](err); ok {
		return *f
	}
	return dataplane.Failure{}
}

// opened is what the data path answers to Open and Join.
type opened struct {
	data dataplane.Data
	at   netip.AddrPort
	err  error
}

// close closes a data connection that came too late.
func (o opened) close() {
	if o.err == nil {
		o.data.Close()
	}
}

// open has the data path open a pinhole.
func (s *session) open(step dialogue.Step) (dialogue.Step, error) {
	hole := step.Pinhole
	s.closeData()
	seals := s.legTLS(hole.Encrypted)
	o, ok := await(s, func() (o opened) {
		o.data, o.at, o.err = s.proxy.Path.Open(s.ctx, hole, seals)
		return o
	}, opened.close)
	switch {
	case !ok:
		return step, errOver
	case o.err != nil:
		return step, o.err
	}
	hole.At, s.data = o.at, o.data
	if step = s.dialogue.Opened(o.at); step.Action == dialogue.Arm {
		if err := s.arm(); err != nil {
			return step, err
		}
	}
	s.transcript.opened(s.at, s.data, hole)
	return step, nil
}

// arm lets the data connection come.
func (s *session) arm() error {
	data := s.data
	if data == nil {
		return errNoData
	}
	err, ok := await(s, data.Arm, func(error) {})
	if !ok {
		return errOver
	}
	return err
}

// bridge has the data path connect to both ends.
func (s *session) bridge(bridge pinhole.Bridge) error {
	s.closeData()
	seals := s.legTLS(bridge.Encrypted)
	o, ok := await(s, func() (o opened) {
		o.data, o.err = s.proxy.Path.Join(s.ctx, bridge, seals)
		return o
	}, opened.close)
	switch {
	case !ok:
		return errOver
	case o.err != nil:
		return o.err
	}
	s.data = o.data
	s.transcript.bridged(s.at, s.data, bridge)
	return nil
}

// openPassthrough has the data path open the server's passive ports to the client.
func (s *session) openPassthrough(ports pinhole.Passage) error {
	s.closeData()
	type opened struct {
		handle dataplane.Gate
		err    error
	}
	o, ok := await(s, func() (o opened) {
		o.handle, o.err = s.proxy.Path.Pass(ports)
		return o
	}, func(o opened) {
		if o.err == nil {
			o.handle.Close()
		}
	})
	switch {
	case !ok:
		return errOver
	case o.err != nil:
		return o.err
	}
	s.passthrough = o.handle
	s.transcript.passthrough = ports.String()
	return nil
}

// complete ends a transfer that the server calls complete. If its data was not delivered, the client is told.
func (s *session) complete(step dialogue.Step) (dialogue.Step, error) {
	if s.data == nil { // ABOR closed it, and the server speaks about that
		s.transcript.finished(false, s.transferFault(step, nil))
		return step, nil
	}
	switch err := s.deliver(); {
	case err == errOver:
		return dialogue.Step{}, nil
	case err != nil:
		s.transcript.finished(false, s.transferFault(step, err))
		return s.broken(err), err
	}
	s.transcript.finished(true, nil)
	s.transfers++
	s.proxy.Counts.transferCompleted()
	return step, nil
}

// deliver holds back the reply that a transfer is complete until its data went through the gateway: never a
// short file with a 226. Meanwhile the client may abort it.
func (s *session) deliver() error {
	data := s.data
	if data.Outcome().Settled { // nothing is held back, and all lines go in one write
		s.data = nil
		outcome := data.Finish(nil)
		s.closePinhole(data)
		return failed(outcome)
	}
	s.flush()
	barrier := &replyBarrier{cancel: make(chan struct{})}
	if !s.pause(delivering, barrier) {
		return errOver
	}
	outcome := data.Finish(barrier.cancel)
	s.resumeStep()
	s.closePinhole(data)
	s.data = nil
	if barrier.aborted {
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

// broken has the client told that a transfer was not delivered.
func (s *session) broken(err error) dialogue.Step {
	code, text := 426, "the data connection broke off, the transfer is not complete"
	why := failureOf(err)
	switch {
	case err == errAborted:
		text = "transfer aborted"
	case why.ReplyText != "":
		code, text = why.ReplyCode, why.ReplyText
	}
	return s.dialogue.Broken(code, text, why.Remedy)
}

// fail ends a transfer that the server ended with a no. If it was the gateway that broke its data, the client
// is told why: the server does not know.
func (s *session) fail(step dialogue.Step) (dialogue.Step, error) {
	outcome, err := s.endData()
	switch {
	case err != nil:
		s.transcript.finished(false, s.transferFault(step, err))
		return s.broken(err), err
	case outcome.NotResumed:
		if step = s.dialogue.NotResumed(); step.Refusal.Kind != dialogue.NotRefused {
			err = errNotResumed
		}
	}
	s.transcript.finished(false, s.transferFault(step, err))
	return step, err
}

// transferFault is why a transfer failed, as the session's record keeps it; nil: as the server says. step ends
// the transfer, and err is what the data path says about it.
func (s *session) transferFault(step dialogue.Step, err error) *verdict.Fault {
	switch {
	case err == errAborted, s.transcript.last.verb == "ABOR":
		return &verdict.Fault{Code: verdict.CodeAborted}
	case err == errNotResumed:
		return &verdict.Fault{Code: step.Refusal.Code, Said: step.Refusal.Reason, Remedy: step.Refusal.Remedy}
	case err == nil:
		return nil
	}
	f := s.described(transferRefusal(err)).fault()
	f.Verb = "" // the transfer's
	return &f
}

// transferRefusal is the refusal of a data connection by the data path.
func transferRefusal(err error) refusal {
	why := failureOf(err)
	return refusal{err: err,
		Refusal: dialogue.Refusal{Kind: dialogue.RefusedTransfer, Reason: why.ReplyText, Remedy: why.Remedy}}
}

// endData ends the last negotiation, and returns what became of it. The error is a failure that the data path
// has words for.
func (s *session) endData() (dataplane.Outcome, error) {
	data := s.data
	if data == nil {
		return dataplane.Outcome{}, nil
	}
	s.data = nil
	outcome := s.closePinhole(data)
	s.transcript.record.Closed()
	if f := outcome.Failure; !outcome.Complete && f != nil && f.ReplyText != "" {
		return outcome, f
	}
	return outcome, nil
}

// closePinhole closes a data connection, and returns what became of it; empty: the data path does not answer.
// If an operator killed the session, a connection that the kernel carries ends, too.
func (s *session) closePinhole(data dataplane.Data) dataplane.Outcome {
	s.mu.Lock()
	killed := s.ending != nil && s.ending.killed
	s.mu.Unlock()
	outcome, _ := await(s, func() dataplane.Outcome {
		if killed {
			data.Sever()
		}
		return data.Close()
	}, func(dataplane.Outcome) {})
	return outcome
}

// closeData ends the last negotiation, with what came of it, and a passthrough. If the gateway refused a data
// connection before any transfer used it, that goes to the log: clients silently try something else then.
func (s *session) closeData() {
	if _, err := s.endData(); err != nil {
		s.refuse(transferRefusal(err))
	}
	if handle := s.passthrough; handle != nil {
		s.passthrough = nil
		await(s, func() bool { handle.Close(); return true }, func(bool) {})
	}
}

// legTLS is the TLS for the next data connection, with TLS on these legs.
func (s *session) legTLS(on pinhole.Encrypted) dataplane.Seals {
	seals := s.dataTLS
	if !on.Client {
		seals.Client = nil
	}
	s.transferStarted = nil
	if on.Server {
		s.transferStarted = newTransferStarted()
		seals.Begin = s.transferStarted.started
	} else {
		seals.Server = nil
	}
	return seals
}
