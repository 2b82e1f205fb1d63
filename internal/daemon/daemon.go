// Package daemon runs a gateway from start to end: it probes the host before it changes anything, publishes
// the forwards, serves, reloads, drains and stops, and answers the admin API.
//
// It only wires the parts: the gateway, the prober, the listeners and the data paths decide.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"time"

	"ftpgate/internal/config"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/gateway"
	"ftpgate/internal/ops/systemd"
)

// ErrStart means that the host is not ready for the forwards. All findings are logged, and nothing is
// changed.
var ErrStart = errors.New("not started")

// Daemon is a gateway that can run. Table, Config and Log must be set.
type Daemon struct {
	Table  string         // of nftables; only one running daemon can have it
	Config *config.Config // what to serve; a reload replaces it; [admin] and [log] apply only at the start
	File   string         // of the configuration; empty: there is none
	Log    *slog.Logger

	Reload <-chan os.Signal               // requests a reload; nil: never
	Watch  *FileWatch                     // reloads when the file changes; nil: nothing does
	Load   func() (*config.Config, error) // returns the configuration to reload; nil: there is none
	Reopen <-chan os.Signal               // requests that the transfer logs are reopened; nil: never

	// Confine drops all capabilities but the two that serving needs, after the host is probed. The process
	// then has no others, even after Run.
	Confine bool

	resolver gateway.Resolver // nil: the system's
}

// heapFloor is the size in bytes of an untouched block, which counts as heap and uses no memory. With only
// the small heap of a few sessions, the garbage collector would run several times a second.
const heapFloor = 16 << 20

// Run serves until ctx is done, and then returns nil. It logs "ready" as soon as it serves. The error wraps
// ErrStart if the host is not ready.
func (d *Daemon) Run(ctx context.Context) error {
	defer runtime.KeepAlive(make([]byte, heapFloor))
	r := d.newInstance()
	defer r.close()
	claim, findings := r.prober.Claim()
	if claim != nil {
		defer claim.Release() // after the table is removed
	}
	forwards, unresolved := r.gateway.Resolve(ctx, d.Config.Forwards)
	findings = slices.Concat(findings, gateway.Tolerate(forwards, unresolved), r.prober.Probe(ctx, forwards))
	opened, cannotListen := r.listeners.Open(ctx, forwards)
	defer opened.Close() // sockets that are not served
	findings = slices.Concat(findings, cannotListen, r.openEndpoints())
	d.confine() // before keys are read, so that they are read with the same rights at start and at a reload
	denied, cannotDeny := r.bans.Read(d.Config.Deny)
	findings = slices.Concat(findings, loadKeys(r.keys, d.Config.Forwards), cannotDeny, d.cannotReload())
	if ctx.Err() != nil {
		return nil
	}
	if faults := d.report(findings); faults > 0 {
		return fmt.Errorf("%w: %s, nothing has been changed", ErrStart, finding.Plural(faults, "fault"))
	}
	if err := r.ban(denied); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	if err := r.publish(forwards, r.prober.Dead...); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	r.startMonitor(forwards)
	r.listeners.Serve(ctx, forwards, opened, d.Config.Drain)
	r.serveAdmin()
	d.logForwards(forwards, r.prober.Usable)
	d.Log.Info("ready", append([]any{"forwards", len(forwards)}, r.tableAttrs()...)...)
	r.notify(systemd.Ready())
	// The pings continue while the daemon drains.
	defer systemd.StartWatchdog(context.WithoutCancel(ctx), r.alive, r.notify)()
	defer r.health.Start(ctx)()
	defer r.bans.Start(ctx)()
	r.inspect(forwards)
	r.serve(ctx)
	return r.stop()
}

// stop drains the sessions and the data connections that continue after them, and removes the table.
func (r *instance) stop() error {
	close(r.draining)
	r.logStopping()
	r.notify(systemd.Stopping(r.Config.Drain))
	deadline, cancel := context.WithTimeout(context.Background(), r.Config.Drain)
	defer cancel()
	r.listeners.Stop(r.Config.Drain)
	r.paths.Drain(deadline)
	attrs := r.tableAttrs()
	if err := r.gateway.Stop(); err != nil {
		return err
	}
	r.monitor.Close() // so that all transfers are counted
	r.logLimit.Report(time.Now())
	r.logStopped(attrs)
	return nil
}
