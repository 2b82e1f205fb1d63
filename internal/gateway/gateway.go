// Package gateway holds the desired state of a gateway against what the kernel has: it resolves the
// servers' names, has the table of the moment installed, and follows changes.
//
// It decides; it touches neither the network nor the kernel but through the interfaces that it
// declares. What it is told of the host is a value (Facts).
package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
)

// Kernel installs tables; internal/nft does.
type Kernel interface {
	// Apply brings the table to what t says in one transaction, and removes the tables in sweep with it.
	Apply(t ruleset.Table, sweep ...string) error
	// Remove takes a table away; one that is not there is no error.
	Remove(name string) error
}

// Gateway publishes forwards in one table. Its methods may be called from several goroutines.
type Gateway struct {
	// Moved, where it is set before use, is told of what Refresh has published before it stands in the
	// log. It must not call the gateway.
	OnChange func([]forward.Resolved)
	// Held, where it is set before use, returns the ranges of passages that sessions have: their maps stay
	// in the table whatever becomes of their forwards. It must not call the gateway.
	PassthroughRanges func() []forward.PortRange

	table    string
	kernel   Kernel
	resolver Resolver
	log      *slog.Logger

	mu        sync.Mutex
	forwards  []forward.Resolved
	installed bool            // they ask for a table
	changes   int             // of forwards, counted so that Refresh knows when it was overtaken
	failed    map[string]bool // forwards whose last look-up failed
}

// New makes a gateway that publishes nothing yet. The table is its own from now on; without a kernel
// (nil) none is installed, for forwards that need none.
func New(table string, kernel Kernel, resolver Resolver, log *slog.Logger) *Gateway {
	return &Gateway{table: table, kernel: kernel, resolver: resolver, log: log, failed: map[string]bool{}}
}

// Publish has the kernel serve exactly these forwards, and removes the tables in sweep in the same
// transaction. Sessions of forwards that did not change go on; so do those of forwards that are
// gone, until they end. After an error nothing has changed.
func (g *Gateway) Publish(forwards []forward.Resolved, sweep ...string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.publish(forwards, sweep...)
}

// publish is Publish for who holds the lock.
func (g *Gateway) publish(forwards []forward.Resolved, sweep ...string) error {
	if err := g.install(forwards, sweep); err != nil {
		return fmt.Errorf("gateway: publish %d forwards: %w", len(forwards), err)
	}
	g.forwards = forwards
	g.changes++
	for _, f := range forwards {
		if !f.HasServer() {
			g.failed[f.Name] = true // Resolve has said so
		}
	}
	return nil
}

// install has the kernel's table say what the forwards ask for; where that is nothing there is none.
func (g *Gateway) install(forwards []forward.Resolved, sweep []string) error {
	if g.kernel == nil {
		return nil
	}
	var held []forward.PortRange
	if g.PassthroughRanges != nil {
		held = g.PassthroughRanges()
	}
	table := ruleset.Build(g.table, forwards, held...)
	if g.installed = !table.Empty(); g.installed {
		return g.kernel.Apply(table, sweep...)
	}
	for _, name := range append(sweep, g.table) {
		if err := g.kernel.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// Installed tells whether the forwards ask for a table.
func (g *Gateway) Installed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.installed
}

// Reinstall brings the table back after somebody else has taken it away.
func (g *Gateway) Reinstall() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.kernel.Remove(g.table); err != nil { // whatever is left of it
		return fmt.Errorf("gateway: reinstall: %w", err)
	}
	if err := g.install(g.forwards, nil); err != nil {
		return fmt.Errorf("gateway: reinstall: %w", err)
	}
	return nil
}

// Refresh resolves the names again and follows the addresses that changed; new sessions go to the
// new address, running ones stay where they are. A name that cannot be resolved keeps its address.
// What examine finds in the way of the forwards that would change keeps them as they are. It
// reports whether anything changed. What Publish or Stop brings meanwhile stands.
func (g *Gateway) Refresh(ctx context.Context, examine func([]forward.Resolved) []finding.Finding) (bool, error) {
	g.mu.Lock()
	before, changes := g.forwards, g.changes
	g.mu.Unlock()
	plain := make([]forward.Forward, len(before))
	for i, f := range before {
		plain[i] = f.Forward
	}
	after, findings := g.Resolve(ctx, plain)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	findings = append(findings, revertUnsound(before, after, examine)...)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changes != changes {
		return false, nil
	}
	g.logFindings(plain, findings)
	if slices.EqualFunc(before, after, func(b, a forward.Resolved) bool { return !addressesChanged(b, a) }) {
		return false, nil
	}
	err := g.publish(after)
	if err == nil && g.OnChange != nil {
		g.OnChange(after)
	}
	for i, f := range after {
		if from, to := addrsText(before[i]), addrsText(f); from != to {
			g.log.Info("server address changed", "forward", f.Name, "server", f.Server.String(), "from", from, "to", to)
		}
		if from, to := advertisedText(before[i]), advertisedText(f); from != to {
			g.log.Info("advertised address changed", "forward", f.Name, "from", from, "to", to)
		}
	}
	return true, err
}

// addressesChanged tells whether a forward leads elsewhere than before.
func addressesChanged(before, after forward.Resolved) bool {
	return before.Server4 != after.Server4 || before.Server6 != after.Server6 ||
		!slices.Equal(before.Servers, after.Servers) || !slices.Equal(before.Advertised, after.Advertised)
}

// revertUnsound gives those forwards their old addresses back that the new ones would lead astray: a name
// may come to mean the gateway itself. It returns what was found.
func revertUnsound(before, after []forward.Resolved, examine func([]forward.Resolved) []finding.Finding) []finding.Finding {
	var changed []forward.Resolved
	for i, f := range after {
		if addressesChanged(before[i], f) {
			changed = append(changed, f)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	faults := finding.Faults(examine(changed))
	for i, f := range after {
		if slices.ContainsFunc(faults, func(fault finding.Finding) bool { return fault.Forward == f.Name || fault.Forward == "" }) {
			after[i] = before[i]
		}
	}
	return faults
}

// logFindings says once when a name begins to fail, and once when it is well again.
func (g *Gateway) logFindings(forwards []forward.Forward, findings []finding.Finding) {
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

// UsesNames tells whether anything is known by name, so that it must be resolved again.
func (g *Gateway) UsesNames() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.forwards, func(f forward.Resolved) bool {
		return slices.ContainsFunc(hosts([]forward.Forward{f.Forward}), func(host string) bool {
			_, err := netip.ParseAddr(host)
			return err != nil
		})
	})
}

// Forwards returns what is published.
func (g *Gateway) Forwards() []forward.Resolved {
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
	if g.kernel == nil {
		return nil
	}
	if err := g.kernel.Remove(g.table); err != nil {
		return fmt.Errorf("gateway: stop: %w", err)
	}
	return nil
}
