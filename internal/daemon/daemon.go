// Package daemon runs a gateway from start to end: it looks at the host before it changes anything,
// publishes the forwards, follows reloads and names, and takes everything away when it is told to
// stop. It wires the packages of the kernel to the gateway and decides nothing itself.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/control/proxy"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/preflight"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/ops/systemd"
)

// ErrStart says that the host is not ready for the forwards. Every finding has been logged, and
// nothing has been changed.
var ErrStart = errors.New("not started")

// Settings are what a daemon serves; a reload brings others.
type Settings struct {
	Forwards []forward.Forward // sound (dnat.Check)
	Resolve  time.Duration     // how often server names are resolved again
	Drain    time.Duration     // how long transfers may go on after a forward or the daemon has been told to end
}

// Daemon is a gateway in the making. Table, Settings and Log must be set.
type Daemon struct {
	Table string // of the kernel; one running daemon has it
	Settings
	Log *slog.Logger

	Reload <-chan struct{}          // asks for Load; nil: never
	Load   func() (Settings, error) // what to serve from now on; nil: always the same
	Reopen <-chan struct{}          // asks for the logs of transfers to be opened anew; nil: never

	Show Show

	// Confine has the daemon drop every capability but the two that serving takes, once it has looked at the
	// host. The process has no others from then on, even after Run.
	Confine bool
}

// heapFloor counts as memory in use, in bytes, and is never touched, so that it takes none: with a heap of a few
// sessions only the collector would run several times a second.
const heapFloor = 16 << 20

// Run serves until ctx is done, and returns nil then. Before the first client is served it has
// logged "ready". The error is ErrStart where the host is not ready.
func (d *Daemon) Run(ctx context.Context) error {
	defer runtime.KeepAlive(make([]byte, heapFloor))
	r := d.prepare()
	defer r.close()
	claim, findings := r.p.Claim()
	if claim != nil {
		defer claim.Release() // after the table is gone
	}
	forwards, unresolved := r.g.Resolve(ctx, d.Forwards)
	findings = slices.Concat(findings, oneIsEnough(forwards, unresolved), r.p.Probe(ctx, forwards))
	fresh, taken := r.proxies.Open(ctx, forwards)
	defer fresh.Close() // those that do not serve
	findings = slices.Concat(findings, taken, r.openShow())
	d.confine() // before keys are read, so that a start and a reload fail alike
	findings = append(findings, loadKeys(r.keys, d.Forwards)...)
	if ctx.Err() != nil {
		return nil
	}
	if faults := d.report(findings); faults > 0 {
		return fmt.Errorf("%w: %s, nothing has been changed", ErrStart, count(faults))
	}
	if err := r.publish(forwards, r.p.Dead...); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	r.observe(forwards)
	r.proxies.Serve(ctx, forwards, fresh, d.Drain)
	r.answer()
	d.announce(forwards, r.p.Usable)
	d.Log.Info("ready", append([]any{"forwards", len(forwards)}, r.table()...)...)
	r.tell(systemd.Ready())
	guarding, stopGuard := context.WithCancel(context.WithoutCancel(ctx))
	defer stopGuard() // behind the drain
	go r.guard(guarding)
	r.follow(ctx)
	r.draining.Store(true)
	r.tell(systemd.Stopping(d.Drain))
	r.proxies.Stop(d.Drain)
	attrs := r.table()
	if err := r.g.Stop(); err != nil {
		return err
	}
	d.sayStopped(attrs, r.counts)
	return nil
}

// confine drops the capabilities that are not needed any more.
func (d *Daemon) confine() {
	if !d.Confine {
		return
	}
	err := system.KeepCapabilities(unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		d.Log.Info("all capabilities are kept", "err", err)
	case err != nil:
		d.Log.Warn("capabilities that are not needed are kept", "err", err)
	}
}

// table names the kernel's table in a log line, if there is one.
func (r *running) table() []any {
	if !r.p.Usable || !r.g.Installed() {
		return nil
	}
	return []any{"table", "inet " + r.Table}
}

// sayStopped ends the log with what the sessions have come to.
func (d *Daemon) sayStopped(attrs []any, counts *proxy.Counts) {
	attrs = append(attrs, "sessions", counts.Sessions(), "transfers", counts.Transfers())
	for kind, n := range counts.Refused() {
		if n > 0 {
			attrs = append(attrs, "refused_"+kind.String(), n)
		}
	}
	d.Log.Info("stopped", attrs...)
}

// sayRelayed says why the kernel carries no data though the forwards would let it.
func (d *Daemon) sayRelayed(p *preflight.Prober, forwards []forward.Resolved) {
	if p.Usable || !slices.ContainsFunc(forwards, func(f forward.Resolved) bool { return f.MayUseKernel() }) {
		return
	}
	for _, why := range p.Unusable {
		d.Log.Info("data connections are relayed by ftpgate itself: "+why.Text, "remedy", why.Remedy)
	}
}

// oneIsEnough turns the faults of names that do not resolve into warnings, unless no forward at all
// is left: one name that is out of order must not keep the others from serving.
func oneIsEnough(forwards []forward.Resolved, findings []finding.Finding) []finding.Finding {
	for _, f := range forwards {
		if f.Server4.IsValid() || f.Server6.IsValid() {
			for i := range findings {
				findings[i].Severity = finding.Warning
			}
		}
	}
	return findings
}

// report logs findings, and counts those that are no warnings.
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

// count says how many faults were logged.
func count(faults int) string {
	if faults == 1 {
		return "1 fault"
	}
	return fmt.Sprintf("%d faults", faults)
}

// enableForwarding switches on what the forwards need, and says what it switched.
func (d *Daemon) enableForwarding(forwards []forward.Resolved) error {
	translates, ipv6 := false, false
	for _, f := range forwards {
		if f.MayUseKernel() {
			translates = true
			ipv6 = ipv6 || f.Server6.IsValid()
		}
	}
	if !translates {
		return nil
	}
	if ipv6 {
		// An error here is no reason not to start: the question is only whether to warn.
		risk, err := system.RouterAdvertisementRisk()
		if err != nil {
			d.Log.Warn("cannot tell whether this host lives by IPv6 router advertisements", "err", err)
		}
		for _, iface := range risk {
			d.Log.Warn("interface "+iface+" has its IPv6 route from router advertisements, which a host that forwards does not take",
				"remedy", "sysctl -w "+system.AcceptRAKey(iface)+"=2")
		}
	}
	changed, err := system.EnableForwarding(ipv6)
	for _, c := range changed {
		d.Log.Info("IP forwarding switched on; it stays on when ftpgate stops", "sysctl", c)
	}
	return err
}

// announceAtMost keeps a gateway with thousands of forwards from writing a line for each.
const announceAtMost = 20

func (d *Daemon) announce(forwards []forward.Resolved, tables bool) {
	for i, f := range forwards {
		if i == announceAtMost {
			d.Log.Info("more forwards are published", "count", len(forwards)-announceAtMost)
			return
		}
		attrs := []any{"forward", f.Name, "listen", f.Listen.String(), "server", f.Server.String(), "tracking", f.Tracking.String()}
		if f.Tracking == forward.TrackingProxy {
			attrs = append(attrs, "data", carrierOf(f, tables).String())
		}
		d.Log.Info("forward", attrs...)
	}
}

// carrierOf is what carries the data connections of a forward that ftpgate or the kernel tracks: DataAuto where
// it depends on what the client encrypts.
func carrierOf(f forward.Resolved, tables bool) forward.DataPath {
	switch always, mostly := f.EncryptsData(); {
	case !tables || !f.MayUseKernel() || always:
		return forward.DataRelay
	case mostly:
		return forward.DataAuto
	}
	return forward.DataKernel
}
