package system

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Lookup is one question to a resolver.
type Lookup struct {
	Host string
	Took time.Duration // until the answer, or the error
}

// TimedResolver asks another resolver, and takes down how long it took. It may be used by several
// goroutines at once.
type TimedResolver struct {
	ask func(ctx context.Context, network, host string) ([]netip.Addr, error)

	mu   sync.Mutex
	done []Lookup
}

// NewTimedResolver returns one that asks with lookup, which is (*net.Resolver).LookupNetIP or the like.
func NewTimedResolver(lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)) *TimedResolver {
	return &TimedResolver{ask: lookup}
}

// LookupNetIP is the other resolver's.
func (t *TimedResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	began := time.Now()
	addrs, err := t.ask(ctx, network, host)
	took := time.Since(began)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = append(t.done, Lookup{host, took})
	return addrs, err
}

// Lookups returns what was asked so far, in the order of the answers.
func (t *TimedResolver) Lookups() []Lookup {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Lookup(nil), t.done...)
}
