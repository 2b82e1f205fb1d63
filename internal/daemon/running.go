package daemon

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ftpgate/internal/admin"
	"ftpgate/internal/dnat"
	"ftpgate/internal/gateway"
	"ftpgate/internal/journal"
	"ftpgate/internal/notify"
	"ftpgate/internal/secure"
	"ftpgate/internal/tracker"
)

// running is a daemon at work, and what it works with.
type running struct {
	*Daemon
	began time.Time

	p       *prober
	g       *gateway.Gateway
	paths   *paths
	keys    *secure.Keys
	proxies *servers
	counts  *tracker.Counts
	book    *journal.Journal
	watch   *observer
	shown

	asks chan chan error // of a reload, and where its result goes

	pulse    chan struct{} // taken by whoever serves, to show that nothing hangs
	draining atomic.Bool   // nobody takes it any more
}

// prepare makes the parts, which change nothing yet.
func (d *Daemon) prepare() *running {
	r := &running{Daemon: d, began: time.Now(), p: openProber(d.Table), counts: &tracker.Counts{}, asks: make(chan chan error), pulse: make(chan struct{})}
	r.g = gateway.New(d.Table, r.p, net.DefaultResolver, d.Log)
	r.book = journal.New(r.began)
	r.paths = newPaths(d.Table, d.Log)
	r.keys = secure.New(secure.StateDir(), d.Log)
	r.proxies = newServers(d.Log, r.counts, r.book, r.paths, sessionKeys{r.keys})
	r.p.ours, r.g.Moved, r.g.Held = r.proxies.listensAt, r.proxies.follow, r.paths.held
	r.watch = newObserver(d.Table, d.Log, r.book)
	return r
}

// observe has the journal told of everything from now on.
func (r *running) observe(forwards []dnat.Resolved) {
	r.watch.start(r.p.usable && slices.ContainsFunc(forwards, func(f dnat.Resolved) bool { return f.MayUseKernel() }))
	r.watch.follow(forwards)
	r.paths.watcher = r.watch.watcher
}

// close lets go of everything.
func (r *running) close() {
	r.watch.close()
	r.closeShow()
	r.paths.close()
	r.p.close()
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
	r.tell(notify.Watchdog(ctx, alive))
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
func (r *running) publish(forwards []dnat.Resolved, sweep ...string) error {
	if r.p.usable {
		if err := r.enableForwarding(forwards); err != nil {
			return err
		}
	}
	if err := r.g.Publish(forwards, sweep...); err != nil {
		return err
	}
	if err := r.paths.update(forwards, r.p.usable); err != nil {
		return err
	}
	r.metrics.RulesetApplied()
	r.mu.Lock()
	r.tables, r.noTables = r.p.usable, slices.Clone(r.p.unusable)
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
		case lost := <-r.paths.lost:
			r.paths.reinstall(lost, r.g)
		case <-ticker.C:
			r.lookAround(ctx)
		}
	}
}

// lookAround follows what changes by itself: addresses, certificates and names.
func (r *running) lookAround(ctx context.Context) {
	r.paths.lookAround()
	r.keys.Look(time.Now())
	if !r.g.Named() {
		return
	}
	moved, err := r.g.Refresh(ctx, r.p.examine)
	if err != nil && ctx.Err() == nil {
		r.Log.Error("server address not followed", "err", err)
	}
	if moved {
		r.followForwards(r.g.Forwards())
	}
}

// followForwards tells those who show things of the forwards that are published now.
func (r *running) followForwards(forwards []dnat.Resolved) {
	r.watch.follow(forwards)
	plain := make([]dnat.Forward, len(forwards))
	for i, f := range forwards {
		plain[i] = f.Forward
	}
	r.metrics.Follow(plain)
}

// reload publishes what Load says, and tells what came of it.
func (r *running) reload(ctx context.Context, ticker *time.Ticker) error {
	r.tell(notify.Reloading())
	err := r.replace(ctx)
	if err != nil {
		r.Log.Error("not reloaded: everything stays as it was", "err", err)
	} else {
		ticker.Reset(r.Resolve)
	}
	r.reloaded(time.Now(), err)
	r.tell(notify.Ready())
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
	findings := slices.Concat(oneIsEnough(forwards, unresolved), r.p.probe(ctx, forwards))
	fresh, taken := r.proxies.open(ctx, forwards)
	defer fresh.close()
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
	r.proxies.serve(ctx, forwards, fresh, r.Drain)
	r.Log.Info("reloaded", "forwards", len(forwards))
	return nil
}

// notReady is the error of a reload that the host is not ready for: a line for each fault.
func notReady(findings []gateway.Finding) error {
	var lines []string
	for _, f := range findings {
		if !f.Warning {
			lines = append(lines, f.String())
		}
	}
	return &admin.Error{Text: strings.Join(lines, "\n"), Kind: admin.ErrNotNow}
}
