package path

import (
	"errors"
	"net"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane/kernelpath"
	"ftpgate/internal/dataplane/relay"
	"ftpgate/internal/observe/flows"
	"ftpgate/internal/observe/sessions"
)

// relayed is a data connection of the relay that tells the journal what comes through it.
type relayed struct {
	*relay.Transfer
	toClient bool // the client is the end To: the server comes (active mode)
}

// Carrier is the relay.
func (relayed) Carrier() forward.DataPath { return forward.DataRelay }

// Meter tells what has come through.
func (r relayed) Meter() sessions.Meter { return r }

// Progress tells what has come through so far, and what has gone wrong.
func (r relayed) Progress() sessions.Progress {
	at, stranger := r.Came()
	up, down := r.Bytes()
	if r.toClient {
		up, down = down, up
	}
	p := sessions.Progress{Connected: at, Up: up, Down: down, Stranger: stranger}
	select {
	case <-r.Done():
		p.Over = true
		p.Fault = dataFault(r.Result().Err, r.toClient)
	default:
	}
	return p
}

// counted is a pinhole of the kernel's that tells the journal what comes through it.
type counted struct {
	*kernelpath.Hole
	flow *flows.Expectation // nil: nobody counts
}

// count has the watcher look out for what comes through a pinhole, before it may.
func (p *Paths) count(hole *kernelpath.Hole, of pinhole.Pinhole) counted {
	if p.Watcher == nil {
		return counted{hole, nil}
	}
	of.At = hole.At()
	return counted{hole, p.Watcher.Expect(of)}
}

// Carrier is the kernel.
func (counted) Carrier() forward.DataPath { return forward.DataKernel }

// Meter tells what has come through; nil: nobody does.
func (c counted) Meter() sessions.Meter {
	if c.flow == nil {
		return nil
	}
	return c.flow
}

// Sever ends the connection that has come.
func (c counted) Sever() {
	if c.flow != nil {
		c.flow.Sever()
	}
}

// Close closes the pinhole. What has come through it is counted to its end.
func (c counted) Close() {
	c.Hole.Close()
	if c.flow != nil {
		c.flow.Release(c.Hole.Used())
	}
}

// dataFault is what the journal is told of the end of a data connection; nil: nothing that the relay knows
// better than the journal. toClient tells that the client is the end To.
func dataFault(err error, toClient bool) *verdict.Fault {
	f := &verdict.Fault{}
	var dial *relay.DialError
	var handshake *relay.HandshakeError
	var truncated *relay.TruncatedError
	var broken *relay.BrokenError
	switch {
	case err == nil, errors.Is(err, relay.ErrNobody), errors.Is(err, relay.ErrClosed):
		return nil
	case errors.As(err, &dial):
		f.Code, f.At, f.Err = verdict.CodeServerData, dial.To, cause(dial.Err)
		if (dial.Side == relay.To) == toClient {
			f.Code = verdict.CodeClientData
		}
	case errors.As(err, &handshake):
		_, f.Said = handshake.Reply()
		f.Err = handshake.Err.Error()
		f.Code = handshakeCode(handshake)
		if remedied := (interface{ Remedy() string })(nil); errors.As(err, &remedied) {
			f.Remedy = remedied.Remedy()
		}
	case errors.As(err, &truncated):
		f.Code, f.Said, f.Remedy = verdict.CodeTruncated, truncated.Error(), truncated.Remedy()
	case errors.As(err, &broken):
		who := "the client"
		if (broken.Side == relay.To) != toClient {
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

// handshakeCode tells whose fault it is that a data connection has no TLS.
func handshakeCode(e *relay.HandshakeError) verdict.Code {
	if e.End == "server" {
		return verdict.CodeServerReuse
	}
	if policy := (*tlskeys.PolicyError)(nil); errors.As(e, &policy) {
		return verdict.CodeReuse
	}
	return verdict.CodeClientNoTLS
}

// judged is an error of which the journal knows what it is.
type judged struct {
	error
	fault verdict.Fault
}

// Unwrap returns the error.
func (j judged) Unwrap() error { return j.error }

// Fault says what it is.
func (j judged) Fault() verdict.Fault { return j.fault }

// judge adds what the journal is to be told to the error of a data path; nil stays nil.
func judge(err error, ports forward.PortRange) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, relay.ErrNoPorts), errors.Is(err, kernelpath.ErrNoPorts):
		return judged{err, verdict.Fault{Code: verdict.CodeNoPorts, Ports: ports}}
	}
	return judged{err, verdict.Fault{Code: verdict.CodeNoPath, Err: err.Error()}}
}
