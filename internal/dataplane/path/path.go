// Package path chooses for each data connection the kernel or the relay, and the gateway's port. It counts
// the kernel's connections, and restores pinholes and passthroughs in the kernel's table after another
// program has removed them.
//
// It moves no data and parses no FTP: package relay copies, package kernelpath programs the kernel, and
// package session decides what to open.
//
// Locks: portCache.mu and hostAddresses.mu are leaves. No function of another package is called while one is
// held.
package path

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/kernelpath"
	"ftpgate/internal/dataplane/passthrough"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/relay"
	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/flows"
)

// Config holds the dependencies of Paths.
type Config struct {
	Table string // the kernel's table for pinholes
	Log   *slog.Logger
	// Repair restores the table after another program has removed it, and calls Restore. It waits until that
	// is done, or until the context ends. Several goroutines may call it at once.
	Repair func(context.Context) error
	// Watcher returns the watcher that counts the kernel's connections; nil, or a nil result: they are not
	// counted.
	Watcher func() *flows.Watcher
}

// Paths are the data paths of all forwards: the kernel, if it is available, and the relay. Several goroutines
// may call its methods at once, except Update and Close.
type Paths struct {
	table      string
	log        *slog.Logger
	expect     func(pinhole.Pinhole) expectation // nil result: not counted
	carried    func() int                        // by the kernel, as far as it is counted
	openTables func(table string, failed func(error)) (*tables, error)

	tables atomic.Pointer[tables] // nil: they were never available
	// over tables, while they are available; nil: they are not
	kernel            atomic.Pointer[kernelpath.Opener]
	relayPassthroughs *passthrough.Passthroughs
	relay             *relay.Relay // data connections
	ports             port.Allocator
	reserved          atomic.Pointer[reservedPorts]
	free              *portCache
	host              *hostAddresses
	repair            func(context.Context) error
}

// tables are the kernel's pinholes and passthroughs, and what opens both.
type tables struct {
	pinholes     pinholeSet
	passthroughs passthroughSet
	ownSources   ownSourceSet
	opener       *kernelpath.Opener
}

// pinholeSet has pinholes in the kernel; nftset.PinholeSet implements it.
type pinholeSet interface {
	Add(pinhole.Pinhole) error
	Keep(p pinhole.Pinhole, wanted func() bool)
	Remove(pinhole.Pinhole) error
	RemoveLater(pinhole.Pinhole)
	Restore(used func(pinhole.Pinhole) bool) error // restores the unused ones
	Close() error
}

// passthroughSet has passthroughs in the kernel; nftset.PassthroughSet implements it.
type passthroughSet interface {
	Add(pinhole.Passthrough) error
	Remove(pinhole.Passthrough) error
	Renew() error // adds the open ones to a new table
	Ranges() []forward.PortRange
	Close() error
}

// ownSourceSet gives connections of the gateway's own another source; nftset.OwnSourceSet implements it.
type ownSourceSet interface {
	Add(own, target netip.AddrPort, source netip.Addr) error
	Remove(own, target netip.AddrPort, source netip.Addr) error
	Close() error
}

// New returns the paths. Until Update there is no forward, and the relay carries everything. The caller
// closes them.
func New(c Config) *Paths {
	p := &Paths{table: c.Table, log: c.Log, openTables: openTables, free: newPortCache(system.PortFree),
		host: &hostAddresses{read: system.Addresses, log: c.Log}, repair: c.Repair}
	watcher := c.Watcher
	if watcher == nil {
		watcher = func() *flows.Watcher { return nil }
	}
	p.expect = func(pinhole pinhole.Pinhole) expectation {
		if w := watcher(); w != nil {
			return w.Expect(pinhole)
		}
		return nil
	}
	p.carried = func() int {
		if w := watcher(); w != nil {
			return w.Carried()
		}
		return 0
	}
	p.relay = relay.New(&p.ports, p.acceptFailed)
	p.relayPassthroughs = passthrough.New(passthrough.Config{Ended: p.passthroughEnded,
		AcceptFailed: p.acceptFailed})
	return p
}

// openTables connects to the kernel's table.
func openTables(table string, failed func(error)) (*tables, error) {
	pinholes, err := nftset.OpenPinholeSet(table)
	if err != nil {
		return nil, err
	}
	passthroughs, err := nftset.OpenPassthroughSet(table, failed)
	if err != nil {
		return nil, errors.Join(err, pinholes.Close())
	}
	ownSources, err := nftset.OpenOwnSourceSet(table)
	if err != nil {
		return nil, errors.Join(err, pinholes.Close(), passthroughs.Close())
	}
	return &tables{pinholes: pinholes, passthroughs: passthroughs, ownSources: ownSources}, nil
}

// Drain waits until the data connections that continue after their sessions have ended, or ctx is done. The
// kernel stops translating its own when the last table with NAT is removed.
func (p *Paths) Drain(ctx context.Context) {
	p.relay.Wait(ctx)
	ticker := time.NewTicker(flows.PollInterval)
	defer ticker.Stop()
	for p.carried() > 0 {
		select {
		case <-ticker.C: // there is no event for the end of a connection: the watcher polls
		case <-ctx.Done():
			return
		}
	}
}

// Close ends all connections of the relay, and waits for them. All sessions must have ended.
func (p *Paths) Close() {
	p.relay.Close()
	p.relayPassthroughs.Close()
	if t := p.tables.Load(); t != nil {
		_ = t.pinholes.Close() // its elements end with the table
		_ = t.passthroughs.Close()
		_ = t.ownSources.Close()
	}
}

// Connect connects to the kernel's table, which need not be installed yet. It does nothing the second time.
func (p *Paths) Connect() error {
	if p.tables.Load() != nil { // they keep the open pinholes for the life of the daemon
		return nil
	}
	t, err := p.openTables(p.table, p.notRenewed)
	if err != nil {
		return fmt.Errorf("data path: %w", err)
	}
	t.opener = kernelpath.New(repairedTables{t, p.repair}, &p.ports, p.isFree, p.log)
	p.tables.Store(t)
	return nil
}

// Update sets the forwards that are published now, and whether the kernel has their table (usable), which
// needs Connect. It cannot fail: passthroughs that it cannot renew are renewed later.
func (p *Paths) Update(forwards []forward.Resolved, usable bool) {
	p.reserved.Store(reservedBy(forwards))
	p.host.refresh()
	if !usable {
		p.kernel.Store(nil)
		return
	}
	t := p.tables.Load()
	p.kernel.Store(t.opener)
	if err := t.passthroughs.Renew(); err != nil { // a new table has none
		p.notRenewed(err)
	}
}

// PassthroughRanges returns the port ranges of the kernel's passthroughs, and of those reserved for sessions
// whose handshake has not ended.
func (p *Paths) PassthroughRanges() []forward.PortRange {
	t := p.tables.Load()
	if t == nil {
		return nil
	}
	ranges := t.passthroughs.Ranges()
	for _, r := range t.opener.PassthroughRanges() {
		if !slices.Contains(ranges, r) {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// For returns the data path of a forward; current returns the forward's current state.
func (p *Paths) For(current func() forward.Resolved) dataplane.Path {
	return forwardPath{p, current}
}

// forwardPath is a data path with the settings of one forward.
type forwardPath struct {
	*Paths
	current func() forward.Resolved
}

// Open reserves a port of the path that can carry the connection.
func (p forwardPath) Open(
	ctx context.Context, pinhole pinhole.Pinhole, dataTLS dataplane.DataTLS,
) (dataplane.Data, netip.AddrPort, error) {
	f := p.current()
	data, listen, err := p.open(ctx, f, pinhole, dataTLS)
	if err != nil {
		return nil, netip.AddrPort{}, openFailure(err, f.DataPorts())
	}
	return data, listen, nil
}

func (p forwardPath) open(
	ctx context.Context, f forward.Resolved, pinhole pinhole.Pinhole, dataTLS dataplane.DataTLS,
) (dataplane.Data, netip.AddrPort, error) {
	kernel := p.kernel.Load()
	path, err := choosePinhole(f.Data, pinhole, kernel != nil, p.host.has)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	if path == forward.DataRelay && pinhole.OwnListen.IsValid() {
		return p.openLed(ctx, f, pinhole, dataTLS)
	}
	if path == forward.DataRelay {
		c, err := p.relayOpener(f).Open(ctx, pinhole, dataTLS)
		if err != nil {
			return nil, netip.AddrPort{}, err
		}
		return relayData{c}, c.Listen(), nil
	}
	opened, err := kernel.Open(f.DataPorts(), pinhole)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	pinhole.Listen = opened.Listen()
	data := metered{opened, p.expect(pinhole)}
	if data.expectation != nil {
		opened.Count(func() bool { return !data.expectation.Outcome().Connected.IsZero() })
		data.expectation.OnComplete(opened.Complete)
	}
	if !pinhole.Active {
		return data, opened.Listen(), nil
	}
	early, err := acceptEarly(ctx, p.relayOpener(f), kernel, data, pinhole)
	if err != nil {
		data.Close()
		return nil, netip.AddrPort{}, err
	}
	return early, opened.Listen(), nil
}

// Bridge connects an active client and a passive server by the relay: the kernel's path makes no connections.
func (p forwardPath) Bridge(
	ctx context.Context, bridge pinhole.Bridge, dataTLS dataplane.DataTLS,
) (dataplane.Data, error) {
	f := p.current()
	c, err := p.relayOpener(f).Bridge(ctx, bridge, dataTLS)
	if err != nil {
		return nil, openFailure(err, f.DataPorts())
	}
	return relayData{c}, nil
}

// OpenPassthrough opens a passthrough by the path that can carry its connections.
func (p forwardPath) OpenPassthrough(pt pinhole.Passthrough) (dataplane.Handle, error) {
	kernel := p.kernel.Load()
	f := p.current()
	want := f.Data
	if f.HidesGateway() { // the relay can listen at the gateway's own addresses only
		want = forward.DataKernel
	}
	path, err := choosePassthrough(want, pt, kernel != nil, p.host.has)
	if err != nil {
		return nil, passthroughFailure(err)
	}
	if path == forward.DataRelay {
		handle, err := p.relayPassthroughs.Open(pt, p.current().Balancers...)
		if err != nil {
			return nil, passthroughFailure(err)
		}
		return handle, nil
	}
	handle, err := kernel.OpenPassthrough(pt)
	if err != nil {
		return nil, passthroughFailure(err)
	}
	return handle, nil
}

// passthroughEnded logs a connection of a passthrough over the relay that did not end in order.
func (p *Paths) passthroughEnded(pt pinhole.Passthrough, err error) {
	if err != nil && !errors.Is(err, relay.ErrClosed) {
		p.log.Info("a data connection of an encrypted session ended early; "+
			"its ends know whether all has arrived",
			"client", pt.From, "passthrough", pt.String(), "err", err)
	}
}

// acceptFailed logs that the system gave no connection at a port for data.
func (p *Paths) acceptFailed(at netip.AddrPort, err error) {
	p.log.Error("cannot accept a data connection", "listen", at.String(), "err", err,
		"remedy", finding.RemedyDescriptors)
}

func (p forwardPath) relayOpener(f forward.Resolved) *relay.Opener {
	return &relay.Opener{Ports: f.DataPorts(), Avoid: p.isReserved, Show: p.ShowSource,
		Balancers: f.Balancers, IdleTime: f.Limits.OrDefault().Idle, Relay: p.relay}
}
