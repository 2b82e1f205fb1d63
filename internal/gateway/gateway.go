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
	"strings"
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
	// lookupsTime bounds the look-up of all names together: with a resolver that is down, a start
	// with a thousand names must not take minutes.
	lookupsTime = 30 * time.Second
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
	changes  int             // of forwards, counted so that Refresh knows when it was overtaken
	failed   map[string]bool // forwards whose last look-up failed
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
		// Forwards to one server may each have only the address of their own family.
		c := current[f.Server]
		c.Server4, c.Server6 = either(f.Server4, c.Server4), either(f.Server6, c.Server6)
		current[f.Server] = c
	}
	g.mu.Unlock()

	resolved := make([]dnat.Resolved, len(forwards))
	var findings []Finding
	for i, f := range forwards {
		before := current[f.Server]
		resolved[i] = dnat.Resolved{Forward: f}
		if err := failures[f.Server.Host]; err != nil {
			if f.Listen.Serves(netip.IPv4Unspecified()) {
				resolved[i].Server4 = before.Server4
			}
			if f.Listen.Serves(netip.IPv6Unspecified()) {
				resolved[i].Server6 = before.Server6
			}
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

// either returns a where it is valid, and b else.
func either(a, b netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return b
}

func published(f dnat.Resolved) bool { return f.Server4.IsValid() || f.Server6.IsValid() }

// lookup resolves each host once.
func (g *Gateway) lookup(ctx context.Context, forwards []dnat.Forward) (map[string][]netip.Addr, map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, lookupsTime)
	defer cancel()
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
			// What is of use on one link only cannot be translated to.
			found = slices.DeleteFunc(found, func(a netip.Addr) bool { return a.Zone() != "" })
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
	return g.publish(forwards, sweep...)
}

// publish is Publish for who holds the lock.
func (g *Gateway) publish(forwards []dnat.Resolved, sweep ...string) error {
	if err := g.kernel.Apply(ruleset.Build(g.table, forwards), sweep...); err != nil {
		return fmt.Errorf("gateway: publish %d forwards: %w", len(forwards), err)
	}
	g.forwards = forwards
	g.changes++
	for _, f := range forwards {
		if !published(f) {
			g.failed[f.Name] = true // Resolve has said so
		}
	}
	return nil
}

// Refresh resolves the names again and follows the addresses that changed; new sessions go to the
// new address, running ones stay where they are. A name that cannot be resolved keeps its address.
// What examine finds in the way of the forwards that would change keeps them as they are. It
// reports whether anything changed. What Publish or Stop brings meanwhile stands.
func (g *Gateway) Refresh(ctx context.Context, examine func([]dnat.Resolved) []Finding) (bool, error) {
	g.mu.Lock()
	before, changes := g.forwards, g.changes
	g.mu.Unlock()
	plain := make([]dnat.Forward, len(before))
	for i, f := range before {
		plain[i] = f.Forward
	}
	after, findings := g.Resolve(ctx, plain)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	findings = append(findings, keepSound(before, after, examine)...)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changes != changes {
		return false, nil
	}
	g.logFindings(plain, findings)
	changed := false
	for i, f := range after {
		if moved(before[i], f) {
			changed = true
			g.log.Info("server address changed", "forward", f.Name, "server", f.Server.String(),
				"from", addrsText(before[i]), "to", addrsText(f))
		}
	}
	if !changed {
		return false, nil
	}
	return true, g.publish(after)
}

// moved tells whether a forward leads elsewhere than before.
func moved(before, after dnat.Resolved) bool {
	return before.Server4 != after.Server4 || before.Server6 != after.Server6
}

// keepSound gives those forwards their old addresses back that the new ones would lead astray: a name
// may come to mean the gateway itself. It returns what was found.
func keepSound(before, after []dnat.Resolved, examine func([]dnat.Resolved) []Finding) []Finding {
	var changed []dnat.Resolved
	for i, f := range after {
		if moved(before[i], f) {
			changed = append(changed, f)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	faults := slices.DeleteFunc(examine(changed), func(f Finding) bool { return f.Warning })
	for i, f := range after {
		if slices.ContainsFunc(faults, func(fault Finding) bool { return fault.Forward == f.Name || fault.Forward == "" }) {
			after[i] = before[i]
		}
	}
	return faults
}

// logFindings says once when a name begins to fail, and once when it is well again.
func (g *Gateway) logFindings(forwards []dnat.Forward, findings []Finding) {
	failing := map[string]bool{}
	for _, f := range findings {
		failing[f.Forward] = true
		if !g.failed[f.Forward] {
			g.log.Warn(f.Text, "forward", f.Forward, "remedy", f.Remedy)
		}
	}
	for _, f := range forwards { // those that are gone have nothing to say
		if g.failed[f.Name] && !failing[f.Name] {
			g.log.Info("server name resolves again", "forward", f.Name)
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
	g.changes++
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
	if len(known) == 0 {
		return unresolved(f, errors.New("it has no address that can be routed"))
	}
	has := make([]string, len(known))
	for i, a := range known {
		has[i] = a.String()
	}
	family, other := "IPv4", "an IPv6 address or :"+fmt.Sprint(f.Listen.Port)
	if f.Listen.Addr.Is6() {
		family, other = "IPv6", "an IPv4 address or :"+fmt.Sprint(f.Listen.Port)
	}
	return Finding{
		Forward: f.Name,
		Text:    fmt.Sprintf("server %q has no %s address (it has %s), and listen %s is %s", f.Server.Host, family, strings.Join(has, ", "), f.Listen, family),
		Remedy:  "listen on " + other,
	}
}
