// Package daemon runs a gateway from start to end: it probes the host before it changes anything, publishes
// the forwards, serves, reloads, drains and stops, and answers the admin API.
//
// It is wiring. It decides nothing itself: the gateway, the prober, the listeners and the data paths do.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/gateway"
	"ftpgate/internal/observe/transferlog"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/systemd"
)

// ErrStart means that the host is not ready for the forwards. All findings are logged, and nothing is
// changed.
var ErrStart = errors.New("not started")

// Settings is what a daemon serves. A reload replaces it.
type Settings struct {
	Forwards []forward.Forward // sound (forward.Check)
	Resolve  time.Duration     // how often server names are resolved again
	Drain    time.Duration     // how long transfers may go on after their forward, or the daemon, is stopped
}

// Endpoints is where a daemon can be observed.
type Endpoints struct {
	Version   string
	File      string         // the configuration; empty: there is none
	Admin     *admin.Options // nil: no admin API
	MustAdmin bool           // an admin API that cannot be opened keeps the daemon from starting
	Transfers transferlog.Settings
}

// Daemon is the configuration of a gateway. Table, Settings and Log must be set.
type Daemon struct {
	Table string // of nftables; only one running daemon can have it
	Settings
	Log *slog.Logger

	Reload <-chan os.Signal         // requests a reload; nil: never
	Load   func() (Settings, error) // returns the settings to reload; nil: there are none
	Reopen <-chan os.Signal         // requests that the transfer logs are reopened; nil: never

	Endpoints Endpoints

	// Confine drops all capabilities but the two that serving needs, after the host is probed. The process
	// has no others from then on, even after Run.
	Confine bool

	resolver gateway.Resolver // nil: the system's
}

// heapFloor is the size, in bytes, of a block that counts as memory in use and takes none, as it is never
// touched. With the small heap of a few sessions alone, the garbage collector would run several times a
// second.
const heapFloor = 16 << 20

// Run serves until ctx is done, and returns nil then. It logs "ready" before it serves the first client. The
// error is ErrStart if the host is not ready.
func (d *Daemon) Run(ctx context.Context) error {
	defer runtime.KeepAlive(make([]byte, heapFloor))
	r := d.newInstance()
	defer r.close()
	claim, findings := r.prober.Claim()
	if claim != nil {
		defer claim.Release() // after the table is removed
	}
	forwards, unresolved := r.gateway.Resolve(ctx, d.Forwards)
	findings = slices.Concat(findings, gateway.Tolerate(forwards, unresolved), r.prober.Probe(ctx, forwards))
	opened, cannotListen := r.listeners.Open(ctx, forwards)
	defer opened.Close() // sockets that are not served
	findings = slices.Concat(findings, cannotListen, r.openEndpoints())
	d.confine() // before keys are read, so that they are read with the same rights at start and at a reload
	findings = append(findings, loadKeys(r.keys, d.Forwards)...)
	if ctx.Err() != nil {
		return nil
	}
	if faults := d.report(findings); faults > 0 {
		return fmt.Errorf("%w: %s, nothing has been changed", ErrStart, plural(faults, "fault"))
	}
	if err := r.publish(forwards, r.prober.Dead...); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	r.startMonitor(forwards)
	r.listeners.Serve(ctx, forwards, opened, d.Drain)
	r.serveAdmin()
	d.logForwards(forwards, r.prober.Usable)
	d.Log.Info("ready", append([]any{"forwards", len(forwards)}, r.tableAttrs()...)...)
	r.notify(systemd.Ready())
	stopWatchdog := r.startWatchdog(ctx)
	defer stopWatchdog()
	r.serve(ctx)
	return r.stop()
}

// startWatchdog sends the watchdog pings of systemd until the function that it returns is called, which
// waits for the end. They go on while the daemon drains.
func (r *instance) startWatchdog(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var pinging sync.WaitGroup
	pinging.Go(func() {
		r.notify(systemd.Watchdog(ctx, func() bool { return r.alive(ctx) }))
	})
	return func() {
		cancel()
		pinging.Wait()
	}
}

// stop drains the sessions and removes the table.
func (r *instance) stop() error {
	r.draining.Store(true)
	r.notify(systemd.Stopping(r.Drain))
	r.listeners.Stop(r.Drain)
	attrs := r.tableAttrs()
	if err := r.gateway.Stop(); err != nil {
		return err
	}
	r.logStopped(attrs, r.counts)
	return nil
}
