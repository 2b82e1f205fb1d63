package daemon

import (
	"errors"
	"net"

	"ftpgate/internal/dnat"
	"ftpgate/internal/flows"
	"ftpgate/internal/journal"
	"ftpgate/internal/pinhole"
	"ftpgate/internal/relay"
	"ftpgate/internal/secure"
)

// relayed is a data connection of the relay that tells the journal what comes through it.
type relayed struct {
	*relay.Transfer
	toClient bool // the client is the end To: the server comes (active mode)
}

// Carrier is the relay.
func (relayed) Carrier() dnat.DataPath { return dnat.DataRelay }

// Meter tells what has come through.
func (r relayed) Meter() journal.Meter { return r }

// Progress tells what has come through so far, and what has gone wrong.
func (r relayed) Progress() journal.Progress {
	at, stranger := r.Came()
	up, down := r.Bytes()
	if r.toClient {
		up, down = down, up
	}
	p := journal.Progress{Connected: at, Up: up, Down: down, Stranger: stranger}
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
	*pinhole.Hole
	flow *flows.Hole // nil: nobody counts
}

// count has the watcher look out for what comes through a pinhole, before it may.
func (p *paths) count(hole *pinhole.Hole, of dnat.Pinhole) counted {
	if p.watcher == nil {
		return counted{hole, nil}
	}
	of.At = hole.At()
	return counted{hole, p.watcher.Await(of)}
}

// Carrier is the kernel.
func (counted) Carrier() dnat.DataPath { return dnat.DataKernel }

// Meter tells what has come through; nil: nobody does.
func (c counted) Meter() journal.Meter {
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
func dataFault(err error, toClient bool) *journal.Fault {
	f := &journal.Fault{}
	var dial *relay.DialError
	var handshake *relay.HandshakeError
	var truncated *relay.TruncatedError
	var broken *relay.BrokenError
	switch {
	case err == nil, errors.Is(err, relay.ErrNobody), errors.Is(err, relay.ErrClosed):
		return nil
	case errors.As(err, &dial):
		f.Code, f.At, f.Err = journal.CodeServerData, dial.To, cause(dial.Err)
		if (dial.Side == relay.To) == toClient {
			f.Code = journal.CodeClientData
		}
	case errors.As(err, &handshake):
		_, f.Said = handshake.Reply()
		f.Err = handshake.Err.Error()
		f.Code = handshakeCode(handshake)
		if remedied := (interface{ Remedy() string })(nil); errors.As(err, &remedied) {
			f.Remedy = remedied.Remedy()
		}
	case errors.As(err, &truncated):
		f.Code, f.Said, f.Remedy = journal.CodeTruncated, truncated.Error(), truncated.Remedy()
	case errors.As(err, &broken):
		who := "the client"
		if (broken.Side == relay.To) != toClient {
			who = "the server"
		}
		f.Code, f.Said, f.Err = journal.CodeDataReset, who+" broke it", broken.Err.Error()
	default:
		f.Code, f.Err = journal.CodeDataReset, err.Error()
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
func handshakeCode(e *relay.HandshakeError) journal.Code {
	if e.End == "server" {
		return journal.CodeServerReuse
	}
	if policy := (*secure.PolicyError)(nil); errors.As(e, &policy) {
		return journal.CodeReuse
	}
	return journal.CodeClientNoTLS
}

// judged is an error of which the journal knows what it is.
type judged struct {
	error
	fault journal.Fault
}

// Unwrap returns the error.
func (j judged) Unwrap() error { return j.error }

// Fault says what it is.
func (j judged) Fault() journal.Fault { return j.fault }

// judge adds what the journal is to be told to the error of a data path; nil stays nil.
func judge(err error, ports dnat.PortRange) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, relay.ErrNoPorts), errors.Is(err, pinhole.ErrNoPorts):
		return judged{err, journal.Fault{Code: journal.CodeNoPorts, Ports: ports}}
	}
	return judged{err, journal.Fault{Code: journal.CodeNoPath, Err: err.Error()}}
}
