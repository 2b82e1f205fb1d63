package daemon

import (
	"context"
	"log/slog"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/preflight"
	"ftpgate/internal/gateway/ipforward"
	"ftpgate/internal/observe/sessions"
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

// logForwards logs the first forwards, and the number of the others.
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
	if p.Usable || !ipforward.Needed(forwards) {
		return
	}
	for _, why := range p.Unusable {
		d.Log.Info("data connections are relayed by ftpgate itself: "+why.Text, "remedy", why.Remedy)
	}
}

// logStopping logs that the gateway stops, how many transfers and passed-through sessions of its proxies it
// waits for, and until when.
func (r *instance) logStopping() {
	transfers, unread := 0, 0
	for s := range r.sessionLog.Running() {
		switch {
		case s.Tracking != forward.TrackingProxy.String():
		case s.State == sessions.StateTransfer, s.State == sessions.StateData:
			transfers++
		case s.State == sessions.StateThrough:
			unread++
		}
	}
	until := time.Now()
	if transfers+unread > 0 {
		until = until.Add(r.Config.Drain)
	}
	r.Log.Info("stopping; running transfers may finish", "transfers", transfers, "passed_through", unread,
		"until", until.Format(time.TimeOnly))
}

// logFinalized logs why a session failed, if that was unknown at its end, or if no other code logs its end.
func (d *Daemon) logFinalized(s sessions.Session) {
	if !s.Failed() {
		return
	}
	d.Log.Warn("session failed", "forward", s.Forward, "session", s.ID, "client", s.Client.String(),
		"server", s.Server.String(), "verdict", s.Verdict.Text, "remedy", s.Verdict.Remedy)
}

// logStopped logs the totals of the sessions.
func (r *instance) logStopped(attrs []any) {
	sums := r.sessionLog.Sums()
	attrs = append(attrs, "sessions", sums.Sessions, "transfers", sums.Transfers, "failed", sums.Failed)
	for kind, n := range r.counts.Refused() {
		if n > 0 {
			attrs = append(attrs, "refused_"+kind.String(), n)
		}
	}
	r.Log.Info("stopped", attrs...)
}

// tableAttrs returns the attribute that names the table of nftables, if there is one.
func (r *instance) tableAttrs() []any {
	if !r.prober.Usable || !r.gateway.Installed() {
		return nil
	}
	return []any{"table", "inet " + r.Table}
}

// logTableChanged logs that another program changed a table that was being installed.
func (d *Daemon) logTableChanged(table string, err error) {
	d.Log.Warn("another program has changed ftpgate's rules while they were installed: they are installed "+
		"again", "table", "inet "+table, "err", err, "remedy",
		"have that program leave tables alone that are not its own (nft flush ruleset removes all)")
}
