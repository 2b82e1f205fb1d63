package path

import (
	"context"
	"net/netip"
	"sync/atomic"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relay"
	"ftpgate/internal/observe/sessions"
)

// parking is an active pinhole of the kernel for servers that connect before they say yes to PORT, when
// the kernel does not let them through yet: until it is armed the relay keeps the port, and it
// carries the connection that has come by then. With other servers it has no part in it.
type parking struct {
	hole    counted
	waiting *relay.Transfer
	relayed atomic.Bool
}

// park keeps a port of the kernel's, which it owns from now on.
func park(ctx context.Context, hole counted, of pinhole.Pinhole) (*parking, error) {
	port := hole.At().Port()
	path := relay.Path{Ports: forward.PortRange{First: port, Last: port}}
	waiting, err := path.Open(ctx, of, relay.Seals{})
	if err != nil {
		hole.Close()
		return nil, err
	}
	return &parking{hole: hole, waiting: waiting}, nil
}

// At returns where the pinhole is.
func (p *parking) At() netip.AddrPort { return p.hole.At() }

// Arm lets the connection through that has come, or opens the pinhole in the kernel for one to come.
func (p *parking) Arm() error {
	if p.waiting.Waiting() {
		p.relayed.Store(true)
		return p.waiting.Arm()
	}
	p.waiting.Close()
	return p.hole.Arm()
}

// Finish waits for what the relay carries; what the kernel carries the ends see themselves.
func (p *parking) Finish(cancel <-chan struct{}) error {
	if p.relayed.Load() {
		return p.waiting.Finish(cancel)
	}
	return p.hole.Finish(cancel)
}

// Settled tells that Finish would not wait.
func (p *parking) Settled() bool { return !p.relayed.Load() || p.waiting.Settled() }

// Close ends both.
func (p *parking) Close() {
	p.waiting.Close()
	p.hole.Close()
}

// Sever ends the connection that the kernel carries.
func (p *parking) Sever() { p.hole.Sever() }

// Carrier is the kernel, with most servers.
func (p *parking) Carrier() forward.DataPath { return forward.DataKernel }

// Meter tells what has come through, on either way.
func (p *parking) Meter() sessions.Meter { return p }

// Progress tells what has come through.
func (p *parking) Progress() sessions.Progress {
	switch {
	case p.relayed.Load():
		return relayed{p.waiting, true}.Progress()
	case p.hole.flow == nil:
		return sessions.Progress{Over: true}
	}
	return p.hole.flow.Progress()
}
