package system

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Lookup is one query to a resolver.
type Lookup struct {
	Host string
	Took time.Duration // until the answer, or the error
}

// TimedResolver passes queries to another resolver, and records how long they take. Several goroutines may
// use it at once.
type TimedResolver struct {
	lookup LookupFunc

	mu   sync.Mutex
	done []Lookup
}

// LookupFunc is the type of (*net.Resolver).LookupNetIP.
type LookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// NewTimedResolver returns a TimedResolver that calls lookup for each query.
func NewTimedResolver(lookup LookupFunc) *TimedResolver { return &TimedResolver{lookup: lookup} }

// LookupNetIP returns the addresses of a host, as the other resolver does.
func (t *TimedResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	began := time.Now()
	addrs, err := t.lookup(ctx, network, host)
	took := time.Since(began)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = append(t.done, Lookup{host, took})
	return addrs, err
}

// Lookups returns the queries so far, in the order of their answers.
func (t *TimedResolver) Lookups() []Lookup {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.done)
}
