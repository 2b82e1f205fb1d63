package path

import (
	"errors"
	"net"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/kernelpath"
	"ftpgate/internal/dataplane/relay"
	"ftpgate/internal/observe/flows"
)

// relayed is a data connection of the relay.
type relayed struct {
	*relay.Transfer
	clientIsTo bool // the client is the end To: the server connects (active mode)
}

// Outcome returns what has become of the connection so far.
func (r relayed) Outcome() dataplane.Outcome {
	connected, stranger := r.Came()
	o := dataplane.Outcome{Path: forward.DataRelay, Counted: true, Connected: connected, Stranger: stranger,
		Settled: r.Settled(), NotResumed: r.Unresumed()}
	o.Up, o.Down = r.Bytes()
	if r.clientIsTo {
		o.Up, o.Down = o.Down, o.Up
	}
	select {
	case <-r.Done():
		o.Over = true
		return r.ended(o, r.Transfer.Finish(nil))
	default:
	}
	return o
}

// ended adds to an outcome what Finish says of the transfer.
func (r relayed) ended(o dataplane.Outcome, err error) dataplane.Outcome {
	o.Complete, o.Failure = err == nil, relayFailure(err, r.clientIsTo)
	return o
}

// Finish waits until what came is delivered, or cancel is closed.
func (r relayed) Finish(cancel <-chan struct{}) dataplane.Outcome {
	err := r.Transfer.Finish(cancel)
	return r.ended(r.Outcome(), err)
}

// Sever does nothing: Close ends what the relay carries.
func (r relayed) Sever() {}

// Close ends the transfer.
func (r relayed) Close() dataplane.Outcome {
	r.Transfer.Close()
	return r.Outcome()
}

// metered is a pinhole of the kernel's whose connection is counted.
type metered struct {
	*kernelpath.Hole
	flow *flows.Hole // nil: nobody counts
}

// meter has the watcher look out for what comes through a pinhole, before the kernel lets it come.
func (p *Paths) meter(hole *kernelpath.Hole, of pinhole.Pinhole) metered {
	if p.Watcher == nil {
		return metered{hole, nil}
	}
	of.At = hole.At()
	return metered{hole, p.Watcher.Await(of)}
}

// Outcome returns what has come through so far. The ends see for themselves how a transfer went, and so
// it is complete.
func (m metered) Outcome() dataplane.Outcome {
	o := dataplane.Outcome{Path: forward.DataKernel, Settled: true, Complete: true}
	if m.flow == nil {
		return o
	}
	p := m.flow.Progress()
	o.Counted, o.Connected, o.Up, o.Down = true, p.Connected, p.Up, p.Down
	o.Over, o.Stranger = p.Over, p.Stranger
	if p.Fault != nil {
		o.Failure = &dataplane.Failure{Err: errors.New(p.Fault.Verdict().Text), Fault: *p.Fault}
	}
	return o
}

// Finish waits for nothing.
func (m metered) Finish(cancel <-chan struct{}) dataplane.Outcome {
	_ = m.Hole.Finish(cancel)
	return m.Outcome()
}

// Sever ends the connection that has come.
func (m metered) Sever() {
	if m.flow != nil {
		m.flow.Sever()
	}
}

// Close closes the pinhole. What has come through it is counted to its end.
func (m metered) Close() dataplane.Outcome {
	m.Hole.Close()
	if m.flow != nil {
		m.flow.Release(m.Hole.Used())
	}
	return m.Outcome()
}

// relayFailure is the error of a transfer of the relay in the words of the client, the operator and the
// session; nil for nil. clientIsTo says that the client is the end To.
func relayFailure(err error, clientIsTo bool) *dataplane.Failure {
	if err == nil {
		return nil
	}
	f := &dataplane.Failure{Err: err}
	if handshake, ok := errors.AsType[*relay.HandshakeError](err); ok {
		f.ReplyCode, f.ReplyText = handshake.Reply()
		if policy, refused := errors.AsType[policyError](err); refused {
			f.Remedy = policy.Remedy()
		}
	}
	if truncated, ok := errors.AsType[*relay.TruncatedError](err); ok {
		f.ReplyCode, f.ReplyText = truncated.Reply()
		f.Remedy = truncated.Remedy()
	}
	f.Fault = relayFault(err, clientIsTo)
	return f
}

// relayFault is what the session is told of the end of a data connection; without a Code: nothing that the relay
// knows better. clientIsTo says that the client is the end To.
func relayFault(err error, clientIsTo bool) (f verdict.Fault) {
	var dial *relay.DialError
	var handshake *relay.HandshakeError
	var truncated *relay.TruncatedError
	var broken *relay.BrokenError
	switch {
	case errors.Is(err, relay.ErrClosed), errors.Is(err, relay.ErrUnfinished):
	case errors.As(err, &dial):
		f.Code, f.At, f.Err = verdict.CodeServerData, dial.To, cause(dial.Err)
		if (dial.Side == relay.To) == clientIsTo {
			f.Code = verdict.CodeClientData
		}
	case errors.As(err, &handshake):
		_, f.Said = handshake.Reply()
		f.Err = handshake.Err.Error()
		f.Code = handshakeCode(handshake)
		if policy, ok := errors.AsType[policyError](err); ok {
			f.Remedy = policy.Remedy()
		}
	case errors.As(err, &truncated):
		f.Code, f.Said, f.Remedy = verdict.CodeTruncated, truncated.Error(), truncated.Remedy()
	case errors.As(err, &broken):
		who := "the client"
		if (broken.Side == relay.To) != clientIsTo {
			who = "the server"
		}
		f.Code, f.Said, f.Err = verdict.CodeDataReset, who+" broke it", broken.Err.Error()
	default:
		f.Code, f.Err = verdict.CodeDataReset, err.Error()
	}
	return f
}

// cause is an error without the addresses that package net puts before it.
func cause(err error) string {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// policyError is the error of a handshake that was sound and is refused all the same, by the VerifyConnection of
// the client's or the server's TLS configuration.
type policyError interface {
	error
	Plain() string  // for the client
	Remedy() string // for the operator
}

// handshakeCode tells whose fault it is that a data connection has no TLS.
func handshakeCode(e *relay.HandshakeError) verdict.Code {
	if e.End == "server" {
		return verdict.CodeServerReuse
	}
	if _, refused := errors.AsType[policyError](e); refused {
		return verdict.CodeReuse
	}
	return verdict.CodeClientNoTLS
}

// openFailure is the error of a data connection or passage that cannot be opened, for a forward with these passive
// ports; nil stays nil.
func openFailure(err error, ports forward.PortRange) error {
	f := &dataplane.Failure{Err: err, Fault: verdict.Fault{Code: verdict.CodeNoPath}}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, relay.ErrNoPorts), errors.Is(err, kernelpath.ErrNoPorts):
		f.Fault = verdict.Fault{Code: verdict.CodeNoPorts, Ports: ports}
	default:
		f.Fault.Err = err.Error()
	}
	return f
}

// passFailure is the error of a passage that cannot be opened.
func passFailure(err error) error {
	f := &dataplane.Failure{Err: err}
	if refused, ok := errors.AsType[*relay.PassageError](err); ok {
		f.ReplyCode, f.ReplyText = refused.Reply()
		f.Remedy = refused.Remedy()
	}
	return f
}
