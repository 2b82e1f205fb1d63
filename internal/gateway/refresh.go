package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// Refresh resolves the names again and publishes the addresses that changed: new sessions go to the new
// address, running ones stay. A name that does not resolve keeps its address. A forward for which examine
// finds a fault stays unchanged. Refresh reports whether it changed anything; if Publish or Stop was called
// meanwhile, it changes nothing.
func (g *Gateway) Refresh(
	ctx context.Context, examine func([]forward.Resolved) []finding.Finding,
) (changed bool, err error) {
	before, changes := g.published()
	unresolved := make([]forward.Forward, len(before))
	for i, f := range before {
		unresolved[i] = f.Forward
	}
	after, findings := g.Resolve(ctx, unresolved)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	findings = append(findings, revertUnsound(before, after, examine)...)
	changed, entries, err := g.replace(changes, before, after, findings)
	for _, n := range entries { // without a lock: a log may block
		g.log.Log(ctx, n.level, n.text, n.attrs...)
	}
	return changed, err
}

// replace publishes the forwards of after in place of those of before, unless others were published since,
// and returns the log records.
func (g *Gateway) replace(
	changes int, before, after []forward.Resolved, findings []finding.Finding,
) (changed bool, entries []logEntry, err error) {
	g.changing.Lock()
	defer g.changing.Unlock()
	if _, now := g.published(); now != changes {
		return false, nil, nil
	}
	entries = g.nameEntries(after, findings)
	if slices.EqualFunc(before, after, func(b, a forward.Resolved) bool { return !addressesChanged(b, a) }) {
		return false, entries, nil
	}
	if err := g.publish(after); err != nil {
		return false, entries, err
	}
	if g.OnChange != nil {
		g.OnChange(after)
	}
	return true, append(entries, addressEntries(before, after)...), nil
}

// logEntry is a log record that waits until no lock is held.
type logEntry struct {
	level slog.Level
	text  string
	attrs []any
}

// nameEntries returns what to log of names: one record when a name begins to fail, and one when it resolves
// again. The caller holds changing.
func (g *Gateway) nameEntries(forwards []forward.Resolved, findings []finding.Finding) (all []logEntry) {
	failing := map[string]bool{}
	for _, f := range findings {
		failing[f.Forward] = true
		if !g.failed[f.Forward] {
			all = append(all, logEntry{slog.LevelWarn, f.Text, []any{"forward", f.Forward, "remedy",
				f.Remedy}})
		}
	}
	for _, f := range forwards { // forwards that were removed are not reported
		if g.failed[f.Name] && !failing[f.Name] {
			all = append(all, logEntry{slog.LevelInfo, "server name resolves again", []any{"forward",
				f.Name}})
		}
	}
	g.failed = failing
	return all
}

// addressEntries returns what to log of addresses that changed.
func addressEntries(before, after []forward.Resolved) (all []logEntry) {
	for i, f := range after {
		if from, to := serverText(before[i]), serverText(f); from != to {
			all = append(all, logEntry{slog.LevelInfo, "server address changed",
				[]any{"forward", f.Name, "server", f.Server.String(), "from", from, "to", to}})
		}
		if from, to := advertisedText(before[i]), advertisedText(f); from != to {
			all = append(all, logEntry{slog.LevelInfo, "advertised address changed",
				[]any{"forward", f.Name, "from", from, "to", to}})
		}
	}
	return all
}

// addressesChanged reports whether the server or the advertised addresses of a forward changed.
func addressesChanged(before, after forward.Resolved) bool {
	return before.Server4 != after.Server4 || before.Server6 != after.Server6 ||
		!slices.Equal(before.Servers, after.Servers) || !before.Reach.Equal(after.Reach) ||
		!slices.Equal(before.Advertised, after.Advertised)
}

// revertUnsound restores the old addresses of a forward if examine finds a fault with the new ones: a name
// may resolve to the gateway itself. It returns the faults.
func revertUnsound(
	before, after []forward.Resolved, examine func([]forward.Resolved) []finding.Finding,
) []finding.Finding {
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
		concerns := func(fault finding.Finding) bool { return fault.Forward == f.Name || fault.Forward == "" }
		if slices.ContainsFunc(faults, concerns) {
			after[i] = before[i]
		}
	}
	return faults
}

// serverText lists the server's addresses.
func serverText(f forward.Resolved) string {
	if addrs := f.ServerAddrs(); len(addrs) > 0 {
		return finding.Join(addrs, " ")
	}
	return "none"
}

// advertisedText lists the advertised addresses.
func advertisedText(f forward.Resolved) string {
	addrs := make([]netip.Addr, len(f.Advertised))
	for i, a := range f.Advertised {
		addrs[i] = a.Addr
	}
	return finding.Join(addrs, " ")
}
