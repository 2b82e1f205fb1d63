package daemon

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"ftpgate/internal/config"
	"ftpgate/internal/control/listeners"
	"ftpgate/internal/control/proxy"
	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/control/upstream"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane/path"
	"ftpgate/internal/diagnose/preflight"
	"ftpgate/internal/gateway"
	"ftpgate/internal/gateway/bans"
	"ftpgate/internal/gateway/ipforward"
	"ftpgate/internal/gateway/repair"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/health"
	"ftpgate/internal/observe/loglimit"
	"ftpgate/internal/observe/metrics"
	"ftpgate/internal/observe/monitor"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/status"
	"ftpgate/internal/version"
)

// instance is a running daemon with its parts. Its methods are for the goroutine of Run, unless they say
// otherwise.
type instance struct {
	*Daemon
	started   time.Time
	startedAs *config.Config // the configuration of the start

	tables     *nft.Conn // nil: the kernel has no nftables, says prober
	prober     *preflight.Prober
	gateway    *gateway.Gateway
	paths      *path.Paths
	keys       *tlskeys.Keys
	bans       *bans.Keeper
	listeners  *listeners.Set
	counts     *proxy.Counts
	sessionLog *sessions.Log
	monitor    *monitor.Monitor
	health     *health.Watcher
	repairer   *repair.Repairer
	logLimit   *loglimit.Handler // of Log
	inspecting sync.WaitGroup    // of the host, while the forwards are served
	observability

	reloads      chan chan error // requests of the admin API; the result goes to the channel sent
	watchdogPing chan struct{}   // received by serve, which shows that it is not stuck
	draining     chan struct{}   // closed once serve has returned, and receives no more
}

// newInstance makes the parts. It changes nothing on this host.
func (d *Daemon) newInstance() *instance {
	r := &instance{Daemon: d, started: time.Now(), startedAs: d.Config, counts: &proxy.Counts{},
		reloads: make(chan chan error), watchdogPing: make(chan struct{}), draining: make(chan struct{}),
		logLimit: loglimit.New(d.Log.Handler())}
	d.Log = slog.New(r.logLimit)
	resolver := d.resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	var errOpen error
	if r.tables, errOpen = nft.Open(); errOpen == nil {
		r.tables.KeepNAT = true
		r.tables.OnChanged = d.logTableChanged
	}
	r.prober = preflight.NewProber(d.Table, r.tables, errOpen)
	r.gateway = gateway.New(d.Table, nil, resolver, d.Log)
	r.sessionLog = sessions.New(r.started)
	r.monitor = monitor.New(d.Table, d.Log, r.sessionLog)
	r.repairer = repair.New(repair.Config{Table: d.Table, Log: d.Log, PutBack: r.gateway.Repair,
		Restore: func() error { return r.paths.Restore() }, Repaired: func() { r.metrics.Repaired() }})
	r.paths = path.New(path.Config{Table: d.Table, Log: d.Log, Repair: r.repairer.Repair,
		Watcher: r.monitor.Watcher})
	r.keys = tlskeys.New(tlskeys.StateDir(), d.Log)
	r.health = health.New(func(ctx context.Context, f forward.Resolved) *finding.Finding {
		return upstream.Check(ctx, nil, f, sessionKeys{r.keys})
	}, d.Log)
	r.metrics = metrics.New(metrics.Build{Version: version.String(), GoVersion: runtime.Version()},
		verdict.RefusalNames(), r.metricSources())
	r.bans = bans.New(bans.Config{Log: d.Log, Apply: r.gateway.SetBans, End: r.endSessions,
		Forwards: r.gateway.Forwards,
		File:     bansFile(d.Table)})
	r.listeners = listeners.New(listeners.Shared{
		Log: d.Log, Counts: r.counts, SessionLog: r.sessionLog, Keys: sessionKeys{r.keys},
		DataPath: r.paths.For,
		Refused:  r.metrics.Refused,
		Banned:   r.bans.Refuses,
		Transparent: proxy.Transparent{Dialled: system.OriginalDestination, Own: r.paths.IsOwn,
			Show: r.paths.ShowSource},
	})
	r.status = &status.Source{
		Version: version.String(), File: d.File, Table: d.Table, Started: r.started,
		Gateway: r.gateway, SessionLog: r.sessionLog, Expiries: r.keys.Expiries,
		RequestReload: r.requestReload,
		Repairs:       r.repairer.State, Health: r.health.State, FilterRemedy: r.prober.FilterRemedy,
		Keeper: r.bans, Examiner: status.NewExaminer(r.examine),
	}
	r.prober.Ours = r.listeners.ListensAt
	r.gateway.OnChange = r.listeners.Update
	r.gateway.OnApply = r.metrics.RulesetApplied
	r.gateway.PassthroughRanges = r.paths.PassthroughRanges
	return r
}

// startMonitor starts the monitor of the kernel's connections.
func (r *instance) startMonitor(forwards []forward.Resolved) {
	r.monitor.Start(r.prober.Usable && ipforward.Needed(forwards))
	r.monitor.SetForwards(forwards)
	r.health.SetForwards(r.Config.Health, forwards)
}

// inspect warns of obstacles to the forwards on this host, in a goroutine.
func (r *instance) inspect(forwards []forward.Resolved) {
	r.inspecting.Go(func() {
		r.report(append(r.prober.Inspect(forwards), bans.Servers(r.bans.Refuses, forwards)...))
	})
}

// close closes the parts, in the opposite order of their dependence.
func (r *instance) close() {
	r.inspecting.Wait()
	r.repairer.Close()
	r.monitor.Close()
	r.closeEndpoints()
	r.paths.Close()
	if r.tables != nil {
		_ = r.tables.Close() // a socket without anything to flush
	}
}

// publish makes the kernel and the data paths serve the forwards. After an error they serve the previous
// ones.
func (r *instance) publish(forwards []forward.Resolved, stale ...string) error {
	var kernel gateway.Kernel // nil: this process can have no tables
	if r.prober.Usable {
		kernel = r.tables
		if err := ipforward.Enable(forwards, r.Log); err != nil {
			return err
		}
		if err := r.paths.Connect(); err != nil {
			return err
		}
	}
	r.repairer.Start(r.prober.Usable) // before the table exists, so that it misses no change
	r.gateway.SetKernel(kernel)
	if err := r.gateway.Publish(forwards, stale...); err != nil {
		return err
	}
	r.paths.Update(forwards, r.prober.Usable)
	r.status.SetKernel(r.prober.Usable, r.prober.Unusable)
	r.logRelayed(r.prober, forwards)
	return nil
}

// logReportTime is how often the log reports the number of lines about peers that it left out.
const logReportTime = time.Minute

// serve serves until ctx is done: it handles requests, and refreshes the host periodically.
func (r *instance) serve(ctx context.Context) {
	ticker := time.NewTicker(r.Config.Resolve)
	defer ticker.Stop()
	reports := time.NewTicker(logReportTime)
	defer reports.Stop()
	checkFile, stopChecks := r.Watch.ticks()
	defer stopChecks()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-reports.C:
			r.logLimit.Report(now)
		case <-r.Reload:
			_ = r.reload(ctx, ticker) // which has logged it
		case <-checkFile:
			if r.Watch.changed() {
				_ = r.reload(ctx, ticker) // which has logged it
			}
		case result := <-r.reloads:
			result <- r.reload(ctx, ticker)
		case <-r.watchdogPing:
		case <-r.Reopen:
			r.reopenTransferLog()
		case <-ticker.C:
			r.refreshHost(ctx)
		}
	}
}

// refreshHost follows what changes without a reload: certificates and names, and the table if the kernel does
// not notify of its changes.
func (r *instance) refreshHost(ctx context.Context) {
	r.keys.Refresh(time.Now())
	if !r.repairer.Subscribed() {
		_ = r.repairer.Repair(ctx) // which has logged it
	}
	if !r.gateway.UsesNames() {
		return
	}
	changed, err := r.gateway.Refresh(ctx, r.prober.Examine)
	if err != nil && ctx.Err() == nil {
		r.Log.Error("cannot publish a changed server address", "err", err)
	}
	if changed {
		r.observeForwards(r.gateway.Forwards())
	}
}

// observeForwards passes the published forwards to monitor and metrics.
func (r *instance) observeForwards(forwards []forward.Resolved) {
	r.monitor.SetForwards(forwards)
	r.health.SetForwards(r.Config.Health, forwards)
	unresolved := make([]forward.Forward, len(forwards))
	for i, f := range forwards {
		unresolved[i] = f.Forward
	}
	r.metrics.Follow(unresolved)
}

// watchdogWait is how long serve may be busy, as with a reload: all names together have 30 seconds to
// resolve.
const watchdogWait = 40 * time.Second

// alive reports whether the daemon serves, or drains. Any goroutine may call it; it may wait for
// watchdogWait.
func (r *instance) alive(ctx context.Context) bool {
	timer := time.NewTimer(watchdogWait)
	defer timer.Stop()
	select {
	case r.watchdogPing <- struct{}{}:
		return true
	case <-r.draining: // also if it was blocked when serve returned
		return true
	case <-ctx.Done():
		return true
	case <-timer.C:
		return false
	}
}

// notify logs the error of a notification of systemd. Any goroutine may call it.
func (r *instance) notify(err error) {
	if err != nil {
		r.Log.Warn("cannot notify systemd", "err", err)
	}
}
