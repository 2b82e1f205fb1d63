// Package daemon runs a gateway from start to end: it looks at the host before it changes anything,
// publishes the forwards, follows reloads and names, and takes everything away when it is told to
// stop. It wires the packages of the kernel to the gateway and decides nothing itself.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"ftpgate/internal/dnat"
	"ftpgate/internal/gateway"
	"ftpgate/internal/journal"
	"ftpgate/internal/secure"
	"ftpgate/internal/system"
	"ftpgate/internal/tracker"
)

// ErrStart says that the host is not ready for the forwards. Every finding has been logged, and
// nothing has been changed.
var ErrStart = errors.New("not started")

// Settings are what a daemon serves; a reload brings others.
type Settings struct {
	Forwards []dnat.Forward // sound (dnat.Check)
	Resolve  time.Duration  // how often server names are resolved again
	Drain    time.Duration  // how long transfers may go on after a forward or the daemon has been told to end
}

// Daemon is a gateway in the making. All fields but Load and Reload must be set.
type Daemon struct {
	Table string // of the kernel; one running daemon has it
	Settings
	Log *slog.Logger

	Reload <-chan struct{}          // asks for Load; nil: never
	Load   func() (Settings, error) // what to serve from now on
}

// Run serves until ctx is done, and returns nil then. Before the first client is served it has
// logged "ready". The error is ErrStart where the host is not ready.
func (d *Daemon) Run(ctx context.Context) error {
	p := openProber(d.Table)
	defer p.close()
	g := gateway.New(d.Table, p, net.DefaultResolver, d.Log)
	counts, book := &tracker.Counts{}, journal.New(time.Now())
	paths := newPaths(d.Table, d.Log)
	defer paths.close()
	keys := secure.New(secure.StateDir(), d.Log)
	proxies := newServers(d.Log, counts, book, paths, sessionKeys{keys})
	p.ours, g.Moved, g.Held = proxies.listensAt, proxies.follow, paths.held

	claim, findings := p.claim()
	if claim != nil {
		defer claim.Release() // after the table is gone
	}
	forwards, unresolved := g.Resolve(ctx, d.Forwards)
	findings = slices.Concat(findings, oneIsEnough(forwards, unresolved), p.probe(ctx, forwards))
	fresh, taken := proxies.open(ctx, forwards)
	defer fresh.close() // those that do not serve
	findings = slices.Concat(findings, taken, loadKeys(keys, d.Forwards))
	if ctx.Err() != nil {
		return nil
	}
	if faults := d.report(findings); faults > 0 {
		return fmt.Errorf("%w: %s, nothing has been changed", ErrStart, count(faults))
	}
	if err := d.publish(g, p, paths, forwards, p.dead...); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	proxies.serve(ctx, forwards, fresh, d.Drain)
	d.announce(forwards, p.usable)
	d.Log.Info("ready", append([]any{"forwards", len(forwards)}, d.table(p)...)...)
	d.follow(ctx, g, p, paths, proxies, keys)
	proxies.stop(d.Drain)
	if err := g.Stop(); err != nil {
		return err
	}
	d.sayStopped(p, counts)
	return nil
}

// table names the kernel's table in a log line, if there is one.
func (d *Daemon) table(p *prober) []any {
	if !p.usable {
		return nil
	}
	return []any{"table", "inet " + d.Table}
}

// sayStopped ends the log with what the sessions have come to.
func (d *Daemon) sayStopped(p *prober, counts *tracker.Counts) {
	attrs := append(d.table(p), "sessions", counts.Sessions(), "transfers", counts.Transfers())
	for kind, n := range counts.Refused() {
		if n > 0 {
			attrs = append(attrs, "refused_"+kind.String(), n)
		}
	}
	d.Log.Info("stopped", attrs...)
}

// publish has the kernel and the data paths serve the forwards.
func (d *Daemon) publish(g *gateway.Gateway, p *prober, paths *paths, forwards []dnat.Resolved, sweep ...string) error {
	if p.usable {
		if err := d.enableForwarding(forwards); err != nil {
			return err
		}
	}
	if err := g.Publish(forwards, sweep...); err != nil {
		return err
	}
	if err := paths.update(forwards, p.usable); err != nil {
		return err
	}
	d.sayRelayed(p, forwards)
	return nil
}

// sayRelayed says why the kernel carries no data though the forwards would let it.
func (d *Daemon) sayRelayed(p *prober, forwards []dnat.Resolved) {
	if p.usable || !slices.ContainsFunc(forwards, func(f dnat.Resolved) bool { return f.MayUseKernel() }) {
		return
	}
	for _, why := range p.unusable {
		d.Log.Info("data connections are relayed by ftpgate itself: "+why.Text, "remedy", why.Remedy)
	}
}

// oneIsEnough turns the faults of names that do not resolve into warnings, unless no forward at all
// is left: one name that is out of order must not keep the others from serving.
func oneIsEnough(forwards []dnat.Resolved, findings []gateway.Finding) []gateway.Finding {
	for _, f := range forwards {
		if f.Server4.IsValid() || f.Server6.IsValid() {
			for i := range findings {
				findings[i].Warning = true
			}
		}
	}
	return findings
}

// report logs findings, and counts those that are no warnings.
func (d *Daemon) report(findings []gateway.Finding) (faults int) {
	for _, f := range findings {
		level := slog.LevelWarn
		if !f.Warning {
			level = slog.LevelError
			faults++
		}
		attrs := []any{"remedy", f.Remedy}
		if f.Forward != "" {
			attrs = append([]any{"forward", f.Forward}, attrs...)
		}
		d.Log.Log(context.Background(), level, f.Text, attrs...)
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
func (d *Daemon) enableForwarding(forwards []dnat.Resolved) error {
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

func (d *Daemon) announce(forwards []dnat.Resolved, tables bool) {
	for i, f := range forwards {
		if i == announceAtMost {
			d.Log.Info("more forwards are published", "count", len(forwards)-announceAtMost)
			return
		}
		attrs := []any{"forward", f.Name, "listen", f.Listen.String(), "server", f.Server.String(), "tracking", f.Tracking.String()}
		if f.Tracking == dnat.TrackingProxy {
			carrier := dnat.DataRelay
			switch always, mostly := f.EncryptsData(); {
			case !tables || !f.MayUseKernel() || always:
			case mostly: // what the client has not encrypted goes by the kernel
				carrier = dnat.DataAuto
			default:
				carrier = dnat.DataKernel
			}
			attrs = append(attrs, "data", carrier.String())
		}
		d.Log.Info("forward", attrs...)
	}
}

// follow serves until ctx is done: it reloads when asked to and resolves names when it is time.
func (d *Daemon) follow(ctx context.Context, g *gateway.Gateway, p *prober, paths *paths, proxies *servers, keys *secure.Keys) {
	ticker := time.NewTicker(d.Resolve)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.Reload:
			if err := d.reload(ctx, g, p, paths, proxies, keys); err != nil {
				d.Log.Error("not reloaded: everything stays as it was", "err", err)
			} else {
				ticker.Reset(d.Resolve)
			}
		case lost := <-paths.lost:
			paths.reinstall(lost, g)
		case <-ticker.C:
			paths.lookAround()
			keys.Look(time.Now())
			if !g.Named() {
				continue
			}
			if _, err := g.Refresh(ctx, p.examine); err != nil && ctx.Err() == nil {
				d.Log.Error("server address not followed", "err", err)
			}
		}
	}
}

// reload publishes what Load says, if it is sound and the host is ready for it.
func (d *Daemon) reload(ctx context.Context, g *gateway.Gateway, p *prober, paths *paths, proxies *servers, keys *secure.Keys) error {
	wanted, err := d.Load()
	if err != nil {
		return err
	}
	forwards, unresolved := g.Resolve(ctx, wanted.Forwards)
	findings := slices.Concat(oneIsEnough(forwards, unresolved), p.probe(ctx, forwards))
	fresh, taken := proxies.open(ctx, forwards)
	defer fresh.close()
	if faults := d.report(append(findings, taken...)); faults > 0 {
		return errors.New(count(faults))
	}
	if faults := d.report(loadKeys(keys, wanted.Forwards)); faults > 0 { // which has changed nothing then
		return errors.New(count(faults))
	}
	if err := d.publish(g, p, paths, forwards); err != nil {
		loadKeys(keys, d.Forwards)
		return err
	}
	d.Settings = wanted
	proxies.serve(ctx, forwards, fresh, d.Drain)
	d.Log.Info("reloaded", "forwards", len(forwards))
	return nil
}
