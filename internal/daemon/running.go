package daemon

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ftpgate/internal/control/listeners"
	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/dataplane/path"
	"ftpgate/internal/diagnose/preflight"
	"ftpgate/internal/gateway"
	"ftpgate/internal/observe/monitor"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/systemd"
)

// running is a daemon at work, and what it works with.
type running struct {
	*Daemon
	began time.Time

	p       *preflight.Prober
	g       *gateway.Gateway
	paths   *path.Paths
	keys    *tlskeys.Keys
	proxies *listeners.Servers
	counts  *dialogue.Counts
	book    *sessions.Journal
	watch   *monitor.Observer
	shown

	asks chan chan error // of a reload, and where its result goes

	pulse    chan struct{} // taken by whoever serves, to show that nothing hangs
	draining atomic.Bool   // nobody takes it any more
}

// prepare makes the parts, which change nothing yet.
func (d *Daemon) prepare() *running {
	r := &running{Daemon: d, began: time.Now(), p: preflight.OpenProber(d.Table), counts: &dialogue.Counts{}, asks: make(chan chan error), pulse: make(chan struct{})}
	r.g = gateway.New(d.Table, r.p, net.DefaultResolver, d.Log)
	r.book = sessions.New(r.began)
	r.paths = path.NewPaths(d.Table, d.Log)
	r.keys = tlskeys.New(tlskeys.StateDir(), d.Log)
	r.proxies = listeners.NewServers(d.Log, r.counts, r.book, r.paths, sessionKeys{r.keys})
	r.p.Ours, r.g.Moved, r.g.Held = r.proxies.ListensAt, r.proxies.Follow, r.paths.Held
	r.watch = monitor.NewObserver(d.Table, d.Log, r.book)
	return r
}

// observe has the journal told of everything from now on.
func (r *running) observe(forwards []forward.Resolved) {
	r.watch.Start(r.p.Usable && slices.ContainsFunc(forwards, func(f forward.Resolved) bool { return f.MayUseKernel() }))
	r.watch.Follow(forwards)
	r.paths.Watcher = r.watch.Watcher
}

// close lets go of everything.
func (r *running) close() {
	r.watch.Close()
	r.closeShow()
	r.paths.Close()
	r.p.Close()
}

// guard has the service manager's watchdog fed, as long as nothing hangs.
func (r *running) guard(ctx context.Context) {
	alive := func() bool {
		if r.draining.Load() {
			return true
		}
		patience := time.NewTimer(pulseTime)
		defer patience.Stop()
		select {
		case r.pulse <- struct{}{}:
			return true
		case <-ctx.Done():
			return true
		case <-patience.C:
			return false
		}
	}
	r.tell(systemd.Watchdog(ctx, alive))
}

// pulseTime is how long a reload may keep everything else waiting: all names have 30 seconds to be resolved.
const pulseTime = 40 * time.Second

// tell logs that the service manager could not be told something.
func (r *running) tell(err error) {
	if err != nil {
		r.Log.Warn("the service manager is not told", "err", err)
	}
}

// publish has the kernel and the data paths serve the forwards.
func (r *running) publish(forwards []forward.Resolved, sweep ...string) error {
	if r.p.Usable {
		if err := r.enableForwarding(forwards); err != nil {
			return err
		}
	}
	if err := r.g.Publish(forwards, sweep...); err != nil {
		return err
	}
	if err := r.paths.Update(forwards, r.p.Usable); err != nil {
		return err
	}
	r.metrics.RulesetApplied()
	r.mu.Lock()
	r.tables, r.noTables = r.p.Usable, slices.Clone(r.p.Unusable)
	r.mu.Unlock()
	r.sayRelayed(r.p, forwards)
	return nil
}

// follow serves until ctx is done: it reloads when asked to and resolves names when it is time.
func (r *running) follow(ctx context.Context) {
	ticker := time.NewTicker(r.Resolve)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.Reload:
			_ = r.reload(ctx, ticker) // which stands in the log
		case answer := <-r.asks:
			answer <- r.reload(ctx, ticker)
		case <-r.pulse:
		case <-r.Reopen:
			r.reopen()
		case lost := <-r.paths.Lost:
			r.paths.Reinstall(lost, r.g)
		case <-ticker.C:
			r.lookAround(ctx)
		}
	}
}

// lookAround follows what changes by itself: addresses, certificates and names.
func (r *running) lookAround(ctx context.Context) {
	r.paths.LookAround()
	r.keys.Refresh(time.Now())
	if !r.g.Named() {
		return
	}
	moved, err := r.g.Refresh(ctx, r.p.Examine)
	if err != nil && ctx.Err() == nil {
		r.Log.Error("server address not followed", "err", err)
	}
	if moved {
		r.followForwards(r.g.Forwards())
	}
}

// followForwards tells those who show things of the forwards that are published now.
func (r *running) followForwards(forwards []forward.Resolved) {
	r.watch.Follow(forwards)
	plain := make([]forward.Forward, len(forwards))
	for i, f := range forwards {
		plain[i] = f.Forward
	}
	r.metrics.Follow(plain)
}

// reload publishes what Load says, and tells what came of it.
func (r *running) reload(ctx context.Context, ticker *time.Ticker) error {
	r.tell(systemd.Reloading())
	err := r.replace(ctx)
	if err != nil {
		r.Log.Error("not reloaded: everything stays as it was", "err", err)
	} else {
		ticker.Reset(r.Resolve)
	}
	r.reloaded(time.Now(), err)
	r.tell(systemd.Ready())
	return err
}

// replace publishes what Load says, if it is sound and the host is ready for it.
func (r *running) replace(ctx context.Context) error {
	if r.Load == nil {
		return &admin.Error{Text: "this forward came from the command line: there is no file to read again", Kind: admin.ErrNotNow}
	}
	wanted, err := r.Load()
	if err != nil {
		return &admin.Error{Text: err.Error(), Kind: admin.ErrFile}
	}
	forwards, unresolved := r.g.Resolve(ctx, wanted.Forwards)
	findings := slices.Concat(oneIsEnough(forwards, unresolved), r.p.Probe(ctx, forwards))
	fresh, taken := r.proxies.Open(ctx, forwards)
	defer fresh.Close()
	if findings = append(findings, taken...); r.report(findings) > 0 {
		return notReady(findings)
	}
	if findings = loadKeys(r.keys, wanted.Forwards); r.report(findings) > 0 { // which has changed nothing then
		return notReady(findings)
	}
	if err := r.publish(forwards); err != nil {
		loadKeys(r.keys, r.Forwards)
		return err
	}
	r.Settings = wanted
	r.followForwards(forwards)
	r.proxies.Serve(ctx, forwards, fresh, r.Drain)
	r.Log.Info("reloaded", "forwards", len(forwards))
	return nil
}

// notReady is the error of a reload that the host is not ready for: a line for each fault.
func notReady(findings []finding.Finding) error {
	var lines []string
	for _, f := range findings {
		if f.IsFault() {
			lines = append(lines, f.String())
		}
	}
	return &admin.Error{Text: strings.Join(lines, "\n"), Kind: admin.ErrNotNow}
}
