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
	"ftpgate/internal/nft"
	"ftpgate/internal/system"
)

// ErrStart says that the host is not ready for the forwards. Every finding has been logged, and
// nothing has been changed.
var ErrStart = errors.New("not started")

// Daemon is a gateway in the making. All fields but Load and Reload must be set.
type Daemon struct {
	Table    string         // of the kernel; one running daemon has it
	Forwards []dnat.Forward // sound (dnat.Check)
	Resolve  time.Duration  // how often server names are resolved again
	Log      *slog.Logger

	Reload <-chan struct{}                               // asks for Load; nil: never
	Load   func() ([]dnat.Forward, time.Duration, error) // what to serve from now on
}

// Run serves until ctx is done, and returns nil then. Before the first client is served it has
// logged "ready". The error is ErrStart where the host is not ready.
func (d *Daemon) Run(ctx context.Context) error {
	kernel, err := nft.Open()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	defer kernel.Close()
	g := gateway.New(d.Table, kernel, net.DefaultResolver, d.Log)
	p := &prober{kernel: kernel, table: d.Table}

	claim, findings := p.claim()
	if claim != nil {
		defer claim.Release() // after the table is gone
	}
	forwards, unresolved := g.Resolve(ctx, d.Forwards)
	findings = slices.Concat(findings, oneIsEnough(forwards, unresolved), p.probe(ctx, forwards))
	if ctx.Err() != nil {
		return nil
	}
	if faults := d.report(findings); faults > 0 {
		return fmt.Errorf("%w: %s, nothing has been changed", ErrStart, count(faults))
	}
	if err := d.enableForwarding(forwards); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	if err := g.Publish(forwards, p.dead...); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	d.announce(forwards)
	d.Log.Info("ready", "forwards", len(forwards), "table", "inet "+d.Table)
	d.follow(ctx, g, p)
	if err := g.Stop(); err != nil {
		return err
	}
	d.Log.Info("stopped", "table", "inet "+d.Table)
	return nil
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
	ipv6 := false
	for _, f := range forwards {
		ipv6 = ipv6 || f.Server6.IsValid()
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

func (d *Daemon) announce(forwards []dnat.Resolved) {
	for i, f := range forwards {
		if i == announceAtMost {
			d.Log.Info("more forwards are published", "count", len(forwards)-announceAtMost)
			return
		}
		d.Log.Info("forward", "forward", f.Name, "listen", f.Listen.String(), "server", f.Server.String(),
			"tracking", f.Tracking.String())
	}
}

// follow serves until ctx is done: it reloads when asked to and resolves names when it is time.
func (d *Daemon) follow(ctx context.Context, g *gateway.Gateway, p *prober) {
	ticker := time.NewTicker(d.Resolve)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.Reload:
			if every, err := d.reload(ctx, g, p); err != nil {
				d.Log.Error("not reloaded: everything stays as it was", "err", err)
			} else {
				ticker.Reset(every)
			}
		case <-ticker.C:
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
func (d *Daemon) reload(ctx context.Context, g *gateway.Gateway, p *prober) (every time.Duration, err error) {
	wanted, every, err := d.Load()
	if err != nil {
		return 0, err
	}
	forwards, unresolved := g.Resolve(ctx, wanted)
	findings := slices.Concat(oneIsEnough(forwards, unresolved), p.probe(ctx, forwards))
	if faults := d.report(findings); faults > 0 {
		return 0, errors.New(count(faults))
	}
	if err := d.enableForwarding(forwards); err != nil {
		return 0, err
	}
	if err := g.Publish(forwards); err != nil {
		return 0, err
	}
	d.Log.Info("reloaded", "forwards", len(forwards))
	return every, nil
}
