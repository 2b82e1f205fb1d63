// Package gateway keeps the kernel's table equal to the configuration: it resolves the names of forwards,
// applies their table in one transaction, and follows names whose addresses change.
//
// It does no input or output of its own: the kernel and the resolver are interfaces. It knows no proxies and
// sessions.
//
// Locks: Gateway.changing, held while the kernel applies a change, then Gateway.mu, never held during a wait.
package gateway

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
)

// Kernel installs tables. *nft.Conn implements it. Its methods may take seconds.
type Kernel interface {
	// Apply replaces the table with t, and removes the stale tables, all in one transaction.
	Apply(t ruleset.Table, stale ...string) error
	// Repair restores t after changes of another program, and returns how the kernel's table differed. If
	// more is true, it has restored what serves sessions, and the next call restores the rest.
	Repair(t ruleset.Table) (differences []string, more bool, err error)
	// Remove deletes a table. A table that does not exist is no error.
	Remove(name string) error
}

// Gateway publishes forwards in one table of the kernel. Its methods may be called from several goroutines.
// Those that only read (Forwards, Installed, UsesNames, Resolve) never wait for the kernel.
type Gateway struct {
	// OnChange is called with the forwards that Refresh has published, before Refresh logs them. It may be
	// nil. Set it before use. It must not publish.
	OnChange func([]forward.Resolved)
	// OnApply is called after each write of the kernel's table. It may be nil. Set it before use. It must not
	// wait.
	OnApply func()
	// PassthroughRanges returns the port ranges of sessions that pass through unread; nil: there are none.
	// Their maps stay in the table even without their forwards. Set it before use. It must not publish.
	PassthroughRanges func() []forward.PortRange

	table    string
	resolver Resolver
	log      *slog.Logger

	// changing orders changes: it is held while the kernel applies one, so that two transactions cannot
	// overtake each other. It is locked before mu, and code that only reads does not take it.
	changing sync.Mutex
	kernel   Kernel          // nil: this process can have no tables; guarded by changing
	owner    Kernel          // the last kernel to install the table, which removes it; guarded by changing
	bans     ban.Ranges      // the clients that the table refuses; guarded by changing
	failed   map[string]bool // names of forwards whose last lookup failed; guarded by changing

	mu        sync.Mutex         // never held during a wait
	forwards  []forward.Resolved // replaced as a whole; its elements are never written to
	installed bool               // the forwards need a table
	changes   int                // counts publications and stops, so that Refresh notices another one
}

// New returns a gateway that publishes nothing yet, and owns the table. With a nil kernel it installs no
// table, for forwards that need none.
func New(table string, kernel Kernel, resolver Resolver, log *slog.Logger) *Gateway {
	return &Gateway{table: table, kernel: kernel, resolver: resolver, log: log, failed: map[string]bool{}}
}

// SetKernel replaces the kernel; nil: from now on the gateway installs no table. Stop still removes the one
// that it has installed. SetKernel waits for a change that the kernel applies.
func (g *Gateway) SetKernel(k Kernel) {
	g.changing.Lock()
	defer g.changing.Unlock()
	g.kernel = k
}

// Publish makes the kernel serve exactly these forwards, and removes the stale tables in the same
// transaction. Sessions of unchanged forwards continue; sessions of removed forwards continue until they end.
// After an error nothing has changed.
func (g *Gateway) Publish(forwards []forward.Resolved, stale ...string) error {
	g.changing.Lock()
	defer g.changing.Unlock()
	return g.publish(forwards, stale...)
}

// publish is Publish for a caller that holds changing.
func (g *Gateway) publish(forwards []forward.Resolved, stale ...string) error {
	installed, err := g.install(forwards, stale)
	if err != nil {
		return fmt.Errorf("gateway: publish %d forwards: %w", len(forwards), err)
	}
	for _, f := range forwards {
		if !f.HasServer() {
			g.failed[f.Name] = true // Resolve has reported it
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forwards, g.installed = forwards, installed
	g.changes++
	return nil
}

// install makes the kernel's table match the forwards, and reports whether they need one. If they do not, it
// removes the table. The caller holds changing.
func (g *Gateway) install(forwards []forward.Resolved, stale []string) (installed bool, err error) {
	if g.kernel == nil {
		return false, nil
	}
	if table := g.build(forwards); !table.Empty() {
		if err := g.kernel.Apply(table, stale...); err != nil {
			return true, err
		}
		g.owner = g.kernel
		if g.OnApply != nil {
			g.OnApply()
		}
		return true, nil
	}
	for _, name := range append(stale, g.table) {
		if err := g.kernel.Remove(name); err != nil {
			return false, err
		}
	}
	return false, nil
}

// build returns the table of the forwards. The caller holds changing.
func (g *Gateway) build(forwards []forward.Resolved) ruleset.Table {
	var ranges []forward.PortRange
	if g.PassthroughRanges != nil {
		ranges = g.PassthroughRanges()
	}
	return ruleset.Build(g.table, forwards, ranges...).Banning(g.bans, forwards)
}

// SetBans makes the table refuse these clients from now on, also after later changes. If there is no table,
// the next one refuses them. After an error it refuses the previous ones.
func (g *Gateway) SetBans(bans ban.Ranges) error {
	g.changing.Lock()
	defer g.changing.Unlock()
	before := g.bans
	g.bans = bans
	forwards, _ := g.published()
	table := g.build(forwards)
	if g.kernel == nil || table.Empty() {
		return nil
	}
	if err := g.kernel.Apply(table); err != nil {
		g.bans = before
		return fmt.Errorf("gateway: ban: %w", err)
	}
	if g.OnApply != nil {
		g.OnApply()
	}
	return nil
}

// Repair compares the kernel's table with the published one, and restores what another program has removed,
// except elements that expire. It returns how the table differed. emptied are the sets from which another
// program has deleted elements. If more is true, the next call restores the rest: it may take seconds.
func (g *Gateway) Repair(emptied []string) (differences []string, more bool, err error) {
	g.changing.Lock()
	defer g.changing.Unlock()
	forwards, _ := g.published()
	table := g.build(forwards)
	if g.kernel == nil || table.Empty() {
		return nil, false, nil
	}
	differences, more, err = g.kernel.Repair(table)
	if err == nil && len(differences) > 0 && g.OnApply != nil {
		g.OnApply()
	}
	for _, s := range table.Sets {
		if s.Timeout && slices.Contains(emptied, s.Name) {
			differences = append(differences, "missing elements of map "+s.Name)
		}
	}
	if err != nil {
		return differences, false, fmt.Errorf("gateway: repair: %w", err)
	}
	return differences, more, nil
}

// Stop removes the table.
func (g *Gateway) Stop() error {
	g.changing.Lock()
	defer g.changing.Unlock()
	g.mu.Lock()
	g.forwards = nil
	g.changes++
	g.mu.Unlock()
	owner := g.owner
	if g.kernel != nil {
		owner = g.kernel
	}
	if owner == nil {
		return nil
	}
	if err := owner.Remove(g.table); err != nil {
		return fmt.Errorf("gateway: stop: %w", err)
	}
	return nil
}

// Installed reports whether the published forwards need a table.
func (g *Gateway) Installed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.installed
}

// Forwards returns the published forwards. The slice is the caller's.
func (g *Gateway) Forwards() []forward.Resolved {
	forwards, _ := g.published()
	return slices.Clone(forwards)
}

// published returns the published forwards, which the caller must not change, and the number of changes so
// far.
func (g *Gateway) published() ([]forward.Resolved, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.forwards, g.changes
}

// UsesNames reports whether a published forward names a host, which Refresh must look up.
func (g *Gateway) UsesNames() bool {
	forwards, _ := g.published()
	return slices.ContainsFunc(forwards, func(f forward.Resolved) bool {
		return slices.ContainsFunc(hosts([]forward.Forward{f.Forward}), func(host string) bool {
			_, err := netip.ParseAddr(host)
			return err != nil
		})
	})
}
