package daemon

import (
	"context"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/gateway"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/systemd"
)

// requestReload reloads in the goroutine of Run, and waits for the result. Any goroutine may call it.
func (r *instance) requestReload(ctx context.Context) error {
	result := make(chan error, 1)
	select {
	case r.reloads <- result:
		return <-result
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reload replaces the configuration by that of Load, or changes nothing.
func (r *instance) reload(ctx context.Context, ticker *time.Ticker) error {
	r.notify(systemd.Reloading())
	_ = r.repairer.Repair(ctx) // which has logged it; the file may be the same
	r.Watch.reads()
	err := r.replaceConfig(ctx)
	if err != nil {
		r.Log.Error("reload failed; the old configuration stays in effect", "err", firstLines(err))
	} else {
		ticker.Reset(r.Config.Resolve)
	}
	now := time.Now()
	r.metrics.Reloaded(now, err)
	r.status.SetReload(now, err, r.Config.WaitsForRestart(r.startedAs)...)
	r.notify(systemd.Ready())
	return err
}

// replaceConfig publishes the configuration of Load if it is sound and the host is ready for it.
func (r *instance) replaceConfig(ctx context.Context) error {
	if r.Load == nil {
		return &admin.Error{Text: "this forward came from the command line: there is no file to read again",
			Kind: admin.ErrNotNow}
	}
	wanted, err := r.Load()
	if err != nil {
		return &admin.Error{Text: err.Error(), Kind: admin.ErrFile}
	}
	forwards, unresolved := r.gateway.Resolve(ctx, wanted.Forwards)
	findings := slices.Concat(gateway.Tolerate(forwards, unresolved), r.prober.Probe(ctx, forwards))
	opened, cannotListen := r.listeners.Open(ctx, forwards)
	defer opened.Close()
	if findings = append(findings, cannotListen...); r.report(findings) > 0 {
		return notReady(findings)
	}
	denied, cannotDeny := r.bans.Read(wanted.Deny)
	if r.report(cannotDeny) > 0 {
		return notReady(cannotDeny)
	}
	if findings = loadKeys(r.keys, wanted.Forwards); r.report(findings) > 0 { // the old keys stay
		return notReady(findings)
	}
	before, err := r.bans.Deny(denied)
	if err == nil {
		if err = r.publish(forwards); err != nil {
			_, _ = r.bans.Deny(before) // else they are denied until the next reload
		}
	}
	if err != nil {
		loadKeys(r.keys, r.Config.Forwards)
		return err
	}
	r.Config = wanted
	r.observeForwards(forwards)
	r.inspect(forwards)
	r.listeners.Serve(ctx, forwards, opened, r.Config.Drain)
	r.Log.Info("reloaded", "forwards", len(forwards))
	for _, table := range wanted.WaitsForRestart(r.startedAs) {
		r.Log.Warn("a change of "+table+" waits for a restart", "file", r.File)
	}
	return nil
}

// firstLines returns the first lines of an error, for one line of the log. It may have a line for each of ten
// thousand forwards; the admin API answers with all of them.
func firstLines(err error) string {
	const enough = 5
	lines := strings.Split(err.Error(), "\n")
	if more := len(lines) - enough; more > 1 {
		lines = append(lines[:enough], "and "+finding.Plural(more, "more line"))
	}
	return strings.Join(lines, "; ")
}

// notReady returns the error of a reload that the host is not ready for, with a line for each fault.
func notReady(findings []finding.Finding) error {
	var lines []string
	for _, f := range finding.Faults(findings) {
		lines = append(lines, f.String())
	}
	return &admin.Error{Text: strings.Join(lines, "\n"), Kind: admin.ErrNotNow}
}
