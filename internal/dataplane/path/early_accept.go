package path

import (
	"context"
	"sync/atomic"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/kernelpath"
	"ftpgate/internal/dataplane/relay"
)

// earlyAccept is an active pinhole of the kernel's for servers that connect before they accept PORT, when the
// kernel does not accept them yet. Until Arm the relay listens at the port, and carries a connection that
// arrived by then. It also carries one that the client might refuse if the kernel opened it: see
// flows.Expectation.ForgetEarlier. All others go through the kernel.
//
//	waiting --Arm, a server has connected, or the client might refuse the kernel's--> relayed
//	waiting --Arm, else-------------------------------------------------------------> armed in the kernel
type earlyAccept struct {
	metered
	waiting  *relay.Connection
	entrance *kernelpath.DataPort // of waiting, until Arm; nil: the server dials the gateway's own address
	viaRelay atomic.Bool
}

// acceptEarly makes the relay listen at the port of a kernel pinhole, which the result owns. After an error
// the caller closes data.
func acceptEarly(
	ctx context.Context, opener *relay.Opener, kernel *kernelpath.Opener, data metered, p pinhole.Pinhole,
) (*earlyAccept, error) {
	waiting, err := opener.OpenAt(ctx, p, dataplane.DataTLS{})
	if err != nil {
		return nil, err
	}
	e := &earlyAccept{metered: data, waiting: waiting}
	if !p.OwnListen.IsValid() {
		return e, nil
	}
	e.entrance = kernel.OpenAt(entrance(p))
	if err := e.entrance.Arm(); err != nil {
		e.entrance.Close()
		waiting.Close()
		return nil, err
	}
	return e, nil
}

// closeEntrance closes the entrance of waiting. If the kernel's own pinhole has taken its place, that stays.
func (e *earlyAccept) closeEntrance() {
	if e.entrance != nil {
		e.entrance.Close()
	}
}

// Arm admits the connection that has arrived, or opens the pinhole in the kernel.
func (e *earlyAccept) Arm() error {
	if e.waiting.Waiting() || e.expectation != nil && e.expectation.ForgetEarlier() {
		e.viaRelay.Store(true)
		return e.waiting.Arm()
	}
	e.waiting.Close()
	err := e.metered.Arm()
	e.closeEntrance() // after its pinhole is replaced, so that the server never meets a closed port
	return err
}

// carrier returns what carries the connection, by Arm's choice.
func (e *earlyAccept) carrier() dataplane.Data {
	if e.viaRelay.Load() {
		return relayData{e.waiting}
	}
	return e.metered
}

// BeforeClientEnds sets f for a connection of the relay.
func (e *earlyAccept) BeforeClientEnds(f func()) { e.waiting.BeforeClientEnds(f) }

// Outcome returns the connection's outcome, over either path.
func (e *earlyAccept) Outcome() pinhole.Outcome { return e.carrier().Outcome() }

// Finish waits for a connection of the relay.
func (e *earlyAccept) Finish(cancel <-chan struct{}) { e.carrier().Finish(cancel) }

// AwaitBothEnds waits for the client's end of a connection of the relay.
func (e *earlyAccept) AwaitBothEnds(cancel <-chan struct{}) { e.carrier().AwaitBothEnds(cancel) }

// Use keeps the pinhole open for a transfer.
func (e *earlyAccept) Use() { e.carrier().Use() }

// Unuse gives the pinhole its usual lifetime again.
func (e *earlyAccept) Unuse() { e.carrier().Unuse() }

// Ended is closed when the relay's connection is over; nil: the relay carries none.
func (e *earlyAccept) Ended() <-chan struct{} { return e.carrier().Ended() }

// Sever ends the connection, over either path.
func (e *earlyAccept) Sever() {
	if e.waiting.Sever(); !e.viaRelay.Load() {
		e.metered.Sever()
	}
}

// Close closes the pinhole. An existing connection continues.
func (e *earlyAccept) Close() pinhole.Outcome {
	e.waiting.Close()
	e.closeEntrance()
	e.metered.Close()
	return e.Outcome()
}
