package path

import (
	"context"
	"sync/atomic"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relay"
)

// earlyAccept is an active pinhole of the kernel's for servers that connect before they accept PORT, while
// the kernel does not let them through yet. Until Arm the relay listens at the port, and the relay carries
// a connection that has come by then. It also carries one that the client might refuse from the kernel: see
// flows.Expectation.ForgetEarlier. With others the relay has no part in it.
//
//	waiting --Arm, a server has connected, or the client might refuse the kernel's--> relayed
//	waiting --Arm, else-------------------------------------------------------------> armed in the kernel
type earlyAccept struct {
	metered
	waiting  *relay.Connection
	viaRelay atomic.Bool
}

// acceptEarly has the relay listen at the port of a kernel pinhole, which the result owns.
// After an error the caller closes data.
func acceptEarly(
	ctx context.Context, opener *relay.Opener, data metered, hole pinhole.Pinhole,
) (*earlyAccept, error) {
	waiting, err := opener.OpenAt(ctx, hole, dataplane.DataTLS{})
	if err != nil {
		return nil, err
	}
	return &earlyAccept{metered: data, waiting: waiting}, nil
}

// Arm lets the connection through that has come, or opens the pinhole in the kernel for one to come.
func (e *earlyAccept) Arm() error {
	if e.waiting.Waiting() || e.expectation != nil && e.expectation.ForgetEarlier() {
		e.viaRelay.Store(true)
		return e.waiting.Arm()
	}
	e.waiting.Close()
	return e.metered.Arm()
}

// carrier is what carries the connection, as Arm has chosen.
func (e *earlyAccept) carrier() dataplane.Data {
	if e.viaRelay.Load() {
		return relayData{e.waiting}
	}
	return e.metered
}

// BeforeClientEnds has f called for what the relay carries.
func (e *earlyAccept) BeforeClientEnds(f func()) { e.waiting.BeforeClientEnds(f) }

// Outcome returns what has become of the connection, over either path.
func (e *earlyAccept) Outcome() pinhole.Outcome { return e.carrier().Outcome() }

// Finish waits for what the relay carries.
func (e *earlyAccept) Finish(cancel <-chan struct{}) { e.carrier().Finish(cancel) }

// AwaitBothEnds waits for the client's end of what the relay carries.
func (e *earlyAccept) AwaitBothEnds(cancel <-chan struct{}) { e.carrier().AwaitBothEnds(cancel) }

// Use keeps the pinhole open for a transfer.
func (e *earlyAccept) Use() { e.carrier().Use() }

// Unuse has the pinhole live for its usual time again.
func (e *earlyAccept) Unuse() { e.carrier().Unuse() }

// Ended is closed when what the relay carries is over; nil: it carries nothing.
func (e *earlyAccept) Ended() <-chan struct{} { return e.carrier().Ended() }

// Sever ends the connection, over either path.
func (e *earlyAccept) Sever() {
	if e.waiting.Sever(); !e.viaRelay.Load() {
		e.metered.Sever()
	}
}

// Close closes the pinhole. A connection that has come goes on.
func (e *earlyAccept) Close() pinhole.Outcome {
	e.waiting.Close()
	e.metered.Close()
	return e.Outcome()
}
