package relay

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"ftpgate/internal/dataplane/port"
)

// Relay is what the paths of all forwards have in common: the ports, and the transfers that are armed and not
// over. It owns their goroutines, also those of transfers that were closed and whose connections go on.
// Several goroutines may call its methods at once.
type Relay struct {
	ports      *port.Allocator
	acceptor   port.Acceptor
	goroutines sync.WaitGroup

	mu        sync.Mutex
	transfers map[*Transfer]int // with the number of their goroutines
	ended     chan struct{}     // closed at the end of the next one; nil: nobody waits for that
}

// New returns a relay that allocates its ports with the allocator. The caller closes it.
func New(ports *port.Allocator) *Relay { return &Relay{ports: ports, transfers: map[*Transfer]int{}} }

// Listens reports whether the relay listens at a port: others may have it too, if they expect connections
// from other addresses.
func (r *Relay) Listens(at netip.AddrPort) bool { return r.acceptor.Listens(at) }

// start runs f, which is of the transfer.
func (r *Relay) start(t *Transfer, f func()) {
	r.mu.Lock()
	r.transfers[t]++
	r.mu.Unlock()
	r.goroutines.Go(func() {
		f()
		r.forget(t)
	})
}

// forget notes that a goroutine of the transfer has ended.
func (r *Relay) forget(t *Transfer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.transfers[t]--; r.transfers[t] > 0 {
		return
	}
	delete(r.transfers, t)
	if r.ended != nil {
		close(r.ended)
		r.ended = nil
	}
}

// Wait returns when no connection goes on, or ctx ends.
func (r *Relay) Wait(ctx context.Context) {
	for {
		r.mu.Lock()
		if len(r.transfers) == 0 {
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

// Close severs what runs, and waits for its end. Every transfer was closed before, and none may be opened
// after it.
func (r *Relay) Close() {
	r.mu.Lock()
	left := slices.Collect(maps.Keys(r.transfers))
	r.mu.Unlock()
	for _, t := range left {
		t.Sever()
	}
	r.goroutines.Wait()
	r.acceptor.Wait()
}
