package daemon

import (
	"context"
	"log/slog"

	"ftpgate/internal/control/proxy"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/preflight"
)

// report logs findings, and returns the number of faults.
func (d *Daemon) report(findings []finding.Finding) (faults int) {
	for _, f := range findings {
		level := slog.LevelWarn
		if f.IsFault() {
			level = slog.LevelError
			faults++
		}
		attrs := []any{"remedy", f.Remedy}
		if f.Forward != "" {
			attrs = append([]any{"forward", f.Forward}, attrs...)
		}
		d.Log.Log(context.Background(), level, f.Sentence(), attrs...)
	}
	return faults
}

// loggedForwards keeps a gateway with thousands of forwards from logging a line for each.
const loggedForwards = 20

// logForwards logs the first forwards, and how many there are more.
func (d *Daemon) logForwards(forwards []forward.Resolved, kernelUsable bool) {
	for i, f := range forwards {
		if i == loggedForwards {
			d.Log.Info("more forwards are published", "count", len(forwards)-loggedForwards)
			return
		}
		attrs := []any{"forward", f.Name, "listen", f.Listen.String(), "server", f.Server.String(),
			"tracking", f.Tracking.String()}
		if f.Tracking == forward.TrackingProxy {
			attrs = append(attrs, "data", f.UsualPath(kernelUsable).String())
		}
		d.Log.Info("forward published", attrs...)
	}
}

// logRelayed logs why the kernel carries no data although the forwards allow it.
func (d *Daemon) logRelayed(p *preflight.Prober, forwards []forward.Resolved) {
	if p.Usable || !mayUseKernel(forwards) {
		return
	}
	for _, why := range p.Unusable {
		d.Log.Info("data connections are relayed by ftpgate itself: "+why.Text, "remedy", why.Remedy)
	}
}

// logStopped logs the totals of the sessions.
func (d *Daemon) logStopped(attrs []any, counts *proxy.Counts) {
	attrs = append(attrs, "sessions", counts.Sessions(), "transfers", counts.Transfers())
	for kind, n := range counts.Refused() {
		if n > 0 {
			attrs = append(attrs, "refused_"+kind.String(), n)
		}
	}
	d.Log.Info("stopped", attrs...)
}

// tableAttrs returns the attribute that names the table of nftables, if there is one.
func (r *instance) tableAttrs() []any {
	if !r.prober.Usable || !r.gateway.Installed() {
		return nil
	}
	return []any{"table", "inet " + r.Table}
}
