// Package gateway holds the desired state of a gateway against what the kernel has: it resolves the
// servers' names, has the table of the moment installed, and follows changes.
//
// It decides; it touches neither the network nor the kernel but through the interfaces that it
// declares. What it is told of the host is a value (Facts).
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ftpgate/internal/dnat"
	"ftpgate/internal/ruleset"
)

// Kernel installs tables; internal/nft does.
type Kernel interface {
	// Apply brings the table to what t says in one transaction, and removes the tables in sweep with it.
	Apply(t ruleset.Table, sweep ...string) error
	// Remove takes a table away; one that is not there is no error.
	Remove(name string) error
}

// Resolver looks names up; *net.Resolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	// lookupTime bounds the look-up of one name: twice what a resolver waits for one of its servers.
	lookupTime = 10 * time.Second
	// lookupsAtOnce keeps ten thousand names from reaching the resolver in one burst.
	lookupsAtOnce = 32
)

// Gateway publishes forwards in one table. Its methods may be called from several goroutines.
type Gateway struct {
	table    string
	kernel   Kernel
	resolver Resolver
	log      *slog.Logger

	mu       sync.Mutex
	forwards []dnat.Resolved
	failed   map[string]bool // names whose last look-up failed
}

// New makes a gateway that publishes nothing yet. The table is its own from now on.
func New(table string, kernel Kernel, resolver Resolver, log *slog.Logger) *Gateway {
	return &Gateway{table: table, kernel: kernel, resolver: resolver, log: log, failed: map[string]bool{}}
}

// Resolve finds the servers' addresses. A server whose addresses are known already keeps the one
// that it has for as long as its name leads there, so that a name with several addresses does not
// wander. Faults name the forwards whose server has no address to lead to; those come back
// without one.
func (g *Gateway) Resolve(ctx context.Context, forwards []dnat.Forward) ([]dnat.Resolved, []Finding) {
	addrs, failures := g.lookup(ctx, forwards)
	g.mu.Lock()
	current := make(map[dnat.Server]dnat.Resolved, len(g.forwards))
	for _, f := range g.forwards {
		current[f.Server] = f
	}
	g.mu.Unlock()

	resolved := make([]dnat.Resolved, len(forwards))
	var findings []Finding
	for i, f := range forwards {
		before := current[f.Server]
		resolved[i] = dnat.Resolved{Forward: f}
		if err := failures[f.Server.Host]; err != nil {
			resolved[i].Server4, resolved[i].Server6 = before.Server4, before.Server6
			findings = append(findings, unresolved(f, err))
			continue
		}
		known := slices.DeleteFunc(slices.Clone(addrs[f.Server.Host]), func(a netip.Addr) bool { return !f.Listen.Serves(a) })
		resolved[i].Server4 = choose(known, before.Server4, netip.Addr.Is4)
		resolved[i].Server6 = choose(known, before.Server6, netip.Addr.Is6)
		if !published(resolved[i]) {
			findings = append(findings, wrongFamily(f, addrs[f.Server.Host]))
		}
	}
	return resolved, findings
}

// choose keeps the address in use where the name still has it, and takes the first one else.
func choose(known []netip.Addr, inUse netip.Addr, family func(netip.Addr) bool) netip.Addr {
	if slices.Contains(known, inUse) {
		return inUse
	}
	if i := slices.IndexFunc(known, family); i >= 0 {
		return known[i]
	}
	return netip.Addr{}
}

func published(f dnat.Resolved) bool { return f.Server4.IsValid() || f.Server6.IsValid() }

// lookup resolves each host once.
func (g *Gateway) lookup(ctx context.Context, forwards []dnat.Forward) (map[string][]netip.Addr, map[string]error) {
	addrs, failures := map[string][]netip.Addr{}, map[string]error{}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(lookupsAtOnce)
	for _, f := range forwards {
		host := f.Server.Host
		mu.Lock()
		_, seen := addrs[host]
		if !seen {
			addrs[host] = nil
		}
		mu.Unlock()
		if seen {
			continue
		}
		if addr, ok := f.Server.Addr(); ok {
			mu.Lock()
			addrs[host] = []netip.Addr{addr}
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, lookupTime)
			defer cancel()
			found, err := g.resolver.LookupNetIP(ctx, "ip", host)
			for i := range found {
				found[i] = found[i].Unmap()
			}
			mu.Lock()
			defer mu.Unlock()
			addrs[host] = found
			if err != nil {
				failures[host] = err
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return no error
	return addrs, failures
}

// Publish has the kernel serve exactly these forwards, and removes the tables in sweep in the same
// transaction. Sessions of forwards that did not change go on; so do those of forwards that are
// gone, until they end. After an error nothing has changed.
func (g *Gateway) Publish(forwards []dnat.Resolved, sweep ...string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.kernel.Apply(ruleset.Build(g.table, forwards), sweep...); err != nil {
		return fmt.Errorf("gateway: publish %d forwards: %w", len(forwards), err)
	}
	g.forwards = forwards
	return nil
}

// Refresh resolves the names again and follows the addresses that changed; new sessions go to the
// new address, running ones stay where they are. A name that cannot be resolved keeps its address.
// It reports whether anything changed.
func (g *Gateway) Refresh(ctx context.Context) (bool, error) {
	g.mu.Lock()
	before := g.forwards
	g.mu.Unlock()
	plain := make([]dnat.Forward, len(before))
	for i, f := range before {
		plain[i] = f.Forward
	}
	after, findings := g.Resolve(ctx, plain)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	g.logFindings(findings)
	changed := false
	for i, f := range after {
		if f.Server4 != before[i].Server4 || f.Server6 != before[i].Server6 {
			changed = true
			g.log.Info("server address changed", "forward", f.Name, "server", f.Server.String(),
				"from", addrsText(before[i]), "to", addrsText(f))
		}
	}
	if !changed {
		return false, nil
	}
	return true, g.Publish(after)
}

// logFindings says once when a name begins to fail, and once when it is well again.
func (g *Gateway) logFindings(findings []Finding) {
	g.mu.Lock()
	defer g.mu.Unlock()
	failing := map[string]bool{}
	for _, f := range findings {
		failing[f.Forward] = true
		if !g.failed[f.Forward] {
			g.log.Warn(f.Text, "forward", f.Forward, "remedy", f.Remedy)
		}
	}
	for name := range g.failed {
		if !failing[name] {
			g.log.Info("server name resolves again", "forward", name)
		}
	}
	g.failed = failing
}

// Named tells whether any server is known by name, so that it must be resolved again.
func (g *Gateway) Named() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.forwards, func(f dnat.Resolved) bool {
		_, literal := f.Server.Addr()
		return !literal
	})
}

// Forwards returns what is published.
func (g *Gateway) Forwards() []dnat.Resolved {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.forwards)
}

// Stop takes the table away.
func (g *Gateway) Stop() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forwards = nil
	if err := g.kernel.Remove(g.table); err != nil {
		return fmt.Errorf("gateway: stop: %w", err)
	}
	return nil
}

func addrsText(f dnat.Resolved) string {
	switch {
	case f.Server4.IsValid() && f.Server6.IsValid():
		return f.Server4.String() + " " + f.Server6.String()
	case f.Server4.IsValid():
		return f.Server4.String()
	case f.Server6.IsValid():
		return f.Server6.String()
	}
	return "none"
}

func unresolved(f dnat.Forward, err error) Finding {
	why := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		why = fmt.Sprintf("no answer within %s", lookupTime)
	}
	return Finding{
		Forward: f.Name,
		Text:    fmt.Sprintf("server name %q cannot be resolved: %s", f.Server.Host, why),
		Remedy:  "mend the name or the resolver (getent hosts " + f.Server.Host + "), or give the server's address",
	}
}

func wrongFamily(f dnat.Forward, known []netip.Addr) Finding {
	family, other := "IPv4", "an IPv6 address or :"+fmt.Sprint(f.Listen.Port)
	if f.Listen.Addr.Is6() {
		family, other = "IPv6", "an IPv4 address or :"+fmt.Sprint(f.Listen.Port)
	}
	return Finding{
		Forward: f.Name,
		Text:    fmt.Sprintf("server %q has no %s address (it has %v), and listen %s is %s", f.Server.Host, family, known, f.Listen, family),
		Remedy:  "listen on " + other,
	}
}
