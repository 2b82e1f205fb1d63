package session

import (
	"errors"
	"net/netip"

	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
)

// errNoData says that there is no pinhole to arm: a bug of the dialogue.
var errNoData = errors.New("there is no pinhole")

// noWait is closed.
var noWait = func() <-chan struct{} {
	closed := make(chan struct{})
	close(closed)
	return closed
}()

// errTurnTaken says that the session was finished before the data path answered: see callPath.
var errTurnTaken = errors.New("the session is over")

// act carries out a step's action. It returns the step to continue with: the same one, or the dialogue's
// answer to the outcome of the action. The error is that of the action, or errTurnTaken if another reader
// took the turn.
func (s *Session) act(step dialogue.Step) (dialogue.Step, error) {
	var err error
	switch step.Action {
	case dialogue.NoAction:
		return step, nil
	case dialogue.Finish, dialogue.Complete:
		return s.complete(step)
	case dialogue.Fail:
		return s.fail(step)
	case dialogue.Decline:
		return s.decline(step)
	case dialogue.Use:
		return step, s.use()
	case dialogue.Arm:
		err = s.arm()
	case dialogue.Dial:
		return s.dial(step)
	default: // all others close what is open first
		if !s.closeData() {
			return step, errTurnTaken
		}
		step, err = s.openNext(step)
	}
	if err == nil || err == errTurnTaken {
		return step, err
	}
	if !s.closeData() {
		return step, errTurnTaken
	}
	why := refusal.FailureOf(err)
	return s.dialogue.Failed(why.Reason, why.Remedy), err
}

// openNext opens what a step asks for in place of what was open before.
func (s *Session) openNext(step dialogue.Step) (_ dialogue.Step, err error) {
	opens := step.Action == dialogue.Open || step.Action == dialogue.Bridge
	if s.forgetEnded(); opens && len(s.detached) >= maxDetached {
		return step, errTooManyDetached()
	}
	switch step.Action {
	case dialogue.Open:
		return s.open(step)
	case dialogue.Bridge:
		err = s.bridge(*step.Bridge)
	case dialogue.OpenPassthrough:
		err = s.openPassthrough(*step.Passthrough)
	case dialogue.PrepareTLS:
		err = s.prepareTLS()
	}
	return step, err
}

// open asks the data path for a pinhole.
func (s *Session) open(step dialogue.Step) (dialogue.Step, error) {
	p, dataTLS := s.withHeaders(*step.Pinhole), s.legTLS(step.Pinhole.TLS)
	var data dataplane.Data
	var at netip.AddrPort
	var err error
	if !s.callPath(func() { data, at, err = s.env.Path.Open(s.aborted, p, dataTLS) }) {
		if err == nil {
			s.discard(data)
		}
		return step, errTurnTaken
	}
	if err != nil {
		return step, err
	}
	data.BeforeClientEnds(s.passCommands)
	p.Listen, s.dataConn = at, data
	if step = s.dialogue.Opened(at); step.Action == dialogue.Arm {
		if err := s.arm(); err != nil {
			return step, err
		}
	}
	s.transcript.Opened(s.lineAt, data, p)
	return step, nil
}

// arm lets the peer of the data connection connect.
func (s *Session) arm() error {
	data := s.dataConn
	if data == nil {
		return errNoData
	}
	waiting := s.dialogue.InTransfer() // for this data connection
	var err error
	if !s.callPath(func() {
		if err = data.Arm(); err == nil && waiting {
			data.Use()
		}
	}) {
		s.discard(data)
		return errTurnTaken
	}
	return err
}

// use prepares the data connection before the server gets the transfer command. If the peer has connected, it
// waits for the far end; if not, the peer can now connect until the transfer ends.
func (s *Session) use() error {
	data, over := s.dataConn, s.terminatedSignal()
	if data == nil {
		return nil
	}
	if !s.callPath(func() {
		data.AwaitBothEnds(over)
		data.Use()
	}) {
		s.discard(data)
		return errTurnTaken
	}
	return nil
}

// discard closes a data connection after another reader took the turn and finished the session.
func (s *Session) discard(data dataplane.Data) {
	if s.severs() {
		data.Sever()
	}
	data.Close()
}

// bridge asks the data path to connect to both ends.
func (s *Session) bridge(bridge pinhole.Bridge) error {
	bridge.ProxyProtocol = s.forward.DataProxyProtocol()
	dataTLS := s.legTLS(bridge.TLS)
	var data dataplane.Data
	var err error
	if !s.callPath(func() { data, err = s.env.Path.Bridge(s.aborted, bridge, dataTLS) }) {
		if err == nil {
			s.discard(data)
		}
		return errTurnTaken
	}
	if err != nil {
		return err
	}
	data.BeforeClientEnds(s.passCommands)
	s.dataConn = data
	s.transcript.Bridged(s.lineAt, data, bridge)
	return s.use()
}

// openPassthrough asks the data path to open the server's passive ports to the client.
func (s *Session) openPassthrough(ports pinhole.Passthrough) error {
	ports.Balanced, ports.ProxyProtocol = s.balanced(), s.forward.DataProxyProtocol()
	var handle dataplane.Handle
	var err error
	if !s.callPath(func() { handle, err = s.env.Path.OpenPassthrough(ports) }) {
		if err == nil {
			handle.Close()
		}
		return errTurnTaken
	}
	if err != nil {
		return err
	}
	s.passthrough, s.passthroughPorts = handle, ports.String()
	return nil
}

// complete ends a transfer that the server calls complete. If the data was not delivered, the client gets the
// reason instead.
func (s *Session) complete(step dialogue.Step) (dialogue.Step, error) {
	failure, ok := s.deliver(step)
	switch {
	case !ok:
		return step, errTurnTaken
	case step.Aborted, failure != nil:
		return s.reportFailure(step, failure)
	}
	s.transcript.Finished(true, nil)
	s.refusals.transferred()
	return step, nil
}

// deliver closes the data connection of a transfer that the server calls complete. The reply that a download
// is complete waits until its data went through the gateway: never a short file with a 226. The client's next
// line releases it. failure is why nothing, or not everything, was delivered; nil: no failure is known. ok is
// false if another reader took the turn.
func (s *Session) deliver(step dialogue.Step) (failure *pinhole.Failure, ok bool) {
	data := s.dataConn
	if data == nil {
		return nil, true
	}
	switch returnsNow := data.Outcome().FinishReturnsNow; {
	case step.Aborted: // perhaps no peer has connected
	case returnsNow: // nothing to wait for, but the path must know that the transfer is complete
		data.Finish(noWait)
	case step.Action == dialogue.Finish:
		s.flush()
		barrier := newReplyBarrier()
		if !s.pause(delivering, barrier) {
			barrier.release()
		}
		data.Finish(barrier.cancel)
		s.resumeStep()
	}
	s.dataConn = nil
	outcome, ok := s.closePinhole(data)
	held := step.Action == dialogue.Finish
	return outcome.TransferFailure(pinhole.TransferEnd{Complete: true, Held: held}), ok
}

// reportFailure ends a transfer that the client gave up, or that failed as the gateway knows; a nil failure:
// as the server says.
func (s *Session) reportFailure(step dialogue.Step, failure *pinhole.Failure) (dialogue.Step, error) {
	switch {
	case step.Aborted: // between the two ends
		s.transcript.Finished(false, &verdict.Fault{Code: verdict.CodeAborted})
		return step, nil
	case failure == nil:
		s.transcript.Finished(false, nil)
		return step, nil
	}
	f := s.described(refusal.FromData(failure)).Fault()
	f.Verb = "" // the transfer's
	s.transcript.Finished(false, &f)
	return s.dialogue.Broken(*failure), failure
}

// fail ends a transfer after a negative reply of the server's. If the gateway broke the data connection, fail
// tells the client why. The caller calls closeTransfer after the client has its lines. If it is known that no
// peer has connected, fail closes the pinhole first: the client must not connect after it has read the reply.
func (s *Session) fail(step dialogue.Step) (dialogue.Step, error) {
	var outcome pinhole.Outcome
	if s.dataConn != nil {
		outcome = s.dataConn.Outcome()
	}
	if outcome.Counted && outcome.Connected.IsZero() && !s.closeTransfer() {
		return step, errTurnTaken
	}
	return s.reportFailure(step, outcome.TransferFailure(pinhole.TransferEnd{DataRefused: step.DataRefused}))
}

// decline keeps the data connection for the next transfer after the server refused a transfer's command,
// unless the gateway has broken it.
func (s *Session) decline(step dialogue.Step) (dialogue.Step, error) {
	if s.dataConn == nil {
		return s.fail(step)
	}
	if s.dataConn.Outcome().ForClient() != nil {
		return s.fail(step)
	}
	s.dataConn.Unuse()
	s.transcript.Declined()
	return step, nil
}

// closeTransfer closes the data connection of a failed transfer; false: another reader took the turn.
func (s *Session) closeTransfer() bool {
	data := s.dataConn
	if data == nil {
		return true
	}
	s.dataConn = nil
	_, ok := s.closePinhole(data)
	return ok
}

// endData ends the last negotiation. The error is a failure to report to the client, or errTurnTaken.
func (s *Session) endData() error {
	data := s.dataConn
	if data == nil {
		return nil
	}
	s.dataConn = nil
	outcome, ok := s.closePinhole(data)
	if !ok {
		return errTurnTaken
	}
	s.record.Closed()
	if f := outcome.ForClient(); f != nil {
		return f
	}
	return nil
}

// closePinhole closes a data connection, and returns its outcome so far; false: another reader took the turn.
// An established connection continues, unless an operator or a limit ended the session.
func (s *Session) closePinhole(data dataplane.Data) (outcome pinhole.Outcome, ok bool) {
	severs := s.severs()
	ok = s.callPath(func() {
		if severs {
			data.Sever()
		}
		outcome = data.Close()
	})
	if ok {
		s.keepDetached(data)
	}
	return outcome, ok
}

// closeData closes the data connection of the last negotiation, and a passthrough; false: another reader took
// the turn. It logs a data connection that the gateway refused before any transfer used it: clients then
// silently try something else.
func (s *Session) closeData() bool {
	switch err := s.endData(); {
	case err == errTurnTaken:
		return false
	case err != nil:
		s.refuse(refusal.FromData(err))
	}
	handle := s.passthrough
	s.passthrough = nil
	return handle == nil || s.callPath(handle.Close)
}

// legTLS is the TLS for the next data connection, with TLS on these legs.
func (s *Session) legTLS(on pinhole.TLSLegs) dataplane.DataTLS {
	dataTLS := s.dataTLS
	if on.Client {
		dataTLS.Client, dataTLS.Admit = s.clientTLS.Data()
	}
	if !on.Server {
		dataTLS.Server = nil
	}
	s.transferStarted = nil
	if on.Any() {
		s.transferStarted = newTransferStarted()
		dataTLS.TransferStarted = s.transferStarted.started
	}
	return dataTLS
}
