package path

import (
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/kernelpath"
	"ftpgate/internal/dataplane/relay"
)

// relayData is a data connection that the relay carries.
type relayData struct{ *relay.Connection }

// Outcome returns the connection's outcome so far.
func (r relayData) Outcome() pinhole.Outcome {
	o := pinhole.Outcome{Path: forward.DataRelay, Counted: true, Connected: r.ConnectedAt(),
		UnexpectedPeer: r.LastUnexpectedPeer(), FinishReturnsNow: r.FinishReturnsNow(),
		NotResumed: r.NotResumed()}
	select {
	case <-r.Done():
		o.Over = true
	default:
	}
	o.Up, o.Down = r.Bytes()
	err := r.Err()
	o.Complete, o.Failure = err == nil, relayFailure(err)
	o.ServerReset, o.BrokeAfterEnd = r.ServerReset(), r.BrokeAfterEnd()
	return o
}

// Ended is closed when the connection is over.
func (r relayData) Ended() <-chan struct{} { return r.Done() }

// Sever ends the connection.
func (r relayData) Sever() { r.Connection.Sever() }

// Close closes the pinhole. An existing connection continues.
func (r relayData) Close() pinhole.Outcome {
	r.Connection.Close()
	return r.Outcome()
}

// expectation counts a connection that the kernel carries, from before the peer can connect; package flows
// implements it.
type expectation interface {
	Outcome() pinhole.Outcome
	// ForgetEarlier makes the kernel give an active connection the server's source port. It reports whether
	// the client still remembers an earlier connection from that port, so that the relay must carry this one.
	ForgetEarlier() (remembered bool)
	// OnComplete sets the function that is called when the peer has completed the connection.
	OnComplete(closePinhole func())
	Keep(kept bool)    // whether the pinhole stays open after its lifetime
	Sever()            // ends the connection, if the peer has connected; the pinhole must be closed
	Release(used bool) // the pinhole is closed; used: the peer certainly connected
}

// metered is a data connection that the kernel carries, with its counters.
type metered struct {
	*kernelpath.DataPort
	expectation expectation // nil: not counted
}

// Outcome returns the outcome so far.
func (m metered) Outcome() pinhole.Outcome {
	if m.expectation == nil {
		return pinhole.KernelOutcome()
	}
	return m.expectation.Outcome()
}

// Finish waits for nothing. The server says that the transfer is over, so the peer has connected.
func (m metered) Finish(<-chan struct{}) { m.MarkUsed() }

// BeforeClientEnds does nothing: the kernel forwards segments without notice.
func (m metered) BeforeClientEnds(func()) {}

// AwaitBothEnds does not wait: the kernel connects the ends.
func (m metered) AwaitBothEnds(<-chan struct{}) {}

// Use keeps the pinhole open until its peer connects. Without counters that would be unknown, and the pinhole
// might serve a second connection: it then keeps its usual lifetime.
func (m metered) Use() {
	if m.expectation != nil {
		m.expectation.Keep(true)
		m.DataPort.Use()
	}
}

// Unuse gives the pinhole its usual lifetime again.
func (m metered) Unuse() {
	if m.DataPort.Unuse(); m.expectation != nil {
		m.expectation.Keep(false)
	}
}

// Ended returns nil: see dataplane.Data. A session that waited for the kernel's connections would count for
// some seconds after each transfer, until the watcher notices the end.
func (m metered) Ended() <-chan struct{} { return nil }

// Sever ends the connection, if the peer has connected. Its next packet must not find the pinhole open.
func (m metered) Sever() {
	if m.expectation != nil {
		m.Shut()
		m.expectation.Sever()
	}
}

// Close closes the pinhole. An existing connection continues, and is counted to its end.
func (m metered) Close() pinhole.Outcome {
	m.DataPort.Close()
	if m.expectation != nil {
		m.expectation.Release(m.Used())
	}
	return m.Outcome()
}
