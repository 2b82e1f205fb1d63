package relay

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"ftpgate/internal/dataplane/port"
)

// Relay is shared by the paths of all forwards. It holds the ports, and the connections that are armed and
// not over. It owns their goroutines, also of connections that continue after Close. Several goroutines may
// call its methods at once.
type Relay struct {
	ports      *port.Allocator
	acceptor   port.Acceptor
	goroutines sync.WaitGroup

	mu          sync.Mutex
	connections map[*Connection]int // with the number of their goroutines
	ended       chan struct{}       // closed when the next connection ends; nil: no caller waits
}

// New returns a relay that allocates its ports with the allocator. acceptFailed is that of a port.Acceptor.
// The caller closes the relay.
func New(ports *port.Allocator, acceptFailed func(netip.AddrPort, error)) *Relay {
	return &Relay{ports: ports, acceptor: port.Acceptor{Failed: acceptFailed},
		connections: map[*Connection]int{}}
}

// Listens reports whether the relay listens at a port. It may be given out again, for connections from other
// addresses.
func (r *Relay) Listens(at netip.AddrPort) bool { return r.acceptor.Listens(at) }

// start runs f as a goroutine of the connection.
func (r *Relay) start(c *Connection, f func()) {
	r.mu.Lock()
	r.connections[c]++
	r.mu.Unlock()
	r.goroutines.Go(func() {
		f()
		r.forget(c)
	})
}

// forget notes the end of a goroutine of the connection.
func (r *Relay) forget(c *Connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connections[c]--; r.connections[c] > 0 {
		return
	}
	delete(r.connections, c)
	if r.ended != nil {
		close(r.ended)
		r.ended = nil
	}
}

// Wait returns when all connections have ended, or ctx ends.
func (r *Relay) Wait(ctx context.Context) {
	for {
		r.mu.Lock()
		if len(r.connections) == 0 {
			r.mu.Unlock()
			return
		}
		if r.ended == nil {
			r.ended = make(chan struct{})
		}
		ended := r.ended
		r.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}

// Close severs the remaining connections, and waits for their end. The caller has closed all connections
// before, and opens none afterwards.
func (r *Relay) Close() {
	r.mu.Lock()
	left := slices.Collect(maps.Keys(r.connections))
	r.mu.Unlock()
	for _, c := range left {
		c.Sever()
	}
	r.goroutines.Wait()
	r.acceptor.Wait()
}
