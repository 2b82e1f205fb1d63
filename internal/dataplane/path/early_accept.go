package path

import (
	"context"
	"sync/atomic"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relay"
)

// earlyAccept is an active pinhole of the kernel's for servers that connect before they say yes to PORT, when
// the kernel does not let them through yet. Until it is armed the relay keeps the port, and the relay
// carries a connection that has come by then. With other servers the relay has no part in it.
type earlyAccept struct {
	metered
	waiting *relay.Transfer
	relayed atomic.Bool
}

// acceptEarly keeps the port of an active pinhole of the kernel's, which it owns from now on.
func acceptEarly(ctx context.Context, kernel metered, hole pinhole.Pinhole) (*earlyAccept, error) {
	port := kernel.At().Port()
	path := relay.Path{Ports: forward.PortRange{First: port, Last: port}}
	waiting, err := path.Open(ctx, hole, relay.Seals{})
	if err != nil {
		kernel.Close()
		return nil, err
	}
	return &earlyAccept{metered: kernel, waiting: waiting}, nil
}

// Arm lets the connection through that has come, or opens the pinhole in the kernel for one to come.
func (e *earlyAccept) Arm() error {
	if e.waiting.Waiting() {
		e.relayed.Store(true)
		return e.waiting.Arm()
	}
	e.waiting.Close()
	return e.metered.Arm()
}

// relay is the connection as the relay carries it: the server, which comes, is its end From.
func (e *earlyAccept) relay() relayed { return relayed{e.waiting, true} }

// Finish waits for what the relay carries; what the kernel carries the ends see themselves.
func (e *earlyAccept) Finish(cancel <-chan struct{}) dataplane.Outcome {
	if e.relayed.Load() {
		return e.relay().Finish(cancel)
	}
	return e.metered.Finish(cancel)
}

// Close ends both.
func (e *earlyAccept) Close() dataplane.Outcome {
	e.waiting.Close()
	e.metered.Close()
	return e.Outcome()
}

// Outcome returns what has become of the connection, on either way.
func (e *earlyAccept) Outcome() dataplane.Outcome {
	if e.relayed.Load() {
		return e.relay().Outcome()
	}
	o := e.metered.Outcome()
	if !o.Counted { // by nobody, and so there is nothing to wait for
		o.Counted, o.Over = true, true
	}
	return o
}
