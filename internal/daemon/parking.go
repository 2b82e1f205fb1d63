package daemon

import (
	"context"
	"net/netip"

	"ftpgate/internal/dnat"
	"ftpgate/internal/pinhole"
	"ftpgate/internal/relay"
)

// parking is an active pinhole of the kernel for servers that connect before they say yes to PORT, when
// the kernel does not let them through yet: until it is armed the relay keeps the port, and it
// carries the connection that has come by then. With other servers it has no part in it.
type parking struct {
	hole    *pinhole.Hole
	waiting *relay.Transfer
	relayed bool
}

// park keeps a port of the kernel's, which it owns from now on.
func park(ctx context.Context, hole *pinhole.Hole, of dnat.Pinhole) (*parking, error) {
	port := hole.At().Port()
	path := relay.Path{Ports: dnat.PortRange{First: port, Last: port}}
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
	if p.relayed = p.waiting.Waiting(); p.relayed {
		return p.waiting.Arm()
	}
	p.waiting.Close()
	return p.hole.Arm()
}

// Finish waits for what the relay carries; what the kernel carries the ends see themselves.
func (p *parking) Finish(cancel <-chan struct{}) error {
	if p.relayed {
		return p.waiting.Finish(cancel)
	}
	return p.hole.Finish(cancel)
}

// Settled tells that Finish would not wait.
func (p *parking) Settled() bool { return !p.relayed || p.waiting.Settled() }

// Close ends both.
func (p *parking) Close() {
	p.waiting.Close()
	p.hole.Close()
}
