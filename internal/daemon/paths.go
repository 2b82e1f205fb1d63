package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dnat"
	"ftpgate/internal/gateway"
	"ftpgate/internal/nft"
	"ftpgate/internal/pinhole"
	"ftpgate/internal/relay"
	"ftpgate/internal/system"
	"ftpgate/internal/tracker"
)

// paths are the data paths of all forwards: the kernel's, where it can be had, and the relay.
type paths struct {
	table string
	log   *slog.Logger

	holes  *nft.Pinholes // nil: none
	kernel atomic.Pointer[pinhole.Path]
	local  atomic.Pointer[map[netip.Addr]bool] // the gateway's own addresses
	static atomic.Pointer[[]dnat.Resolved]     // forwards whose rules translate ports for everybody

	mu    sync.Mutex
	found map[netip.AddrPort]time.Time // ports that nobody listened at then

	lost     chan loss // asks follow to bring the table back
	restored atomic.Uint64
}

// loss is a table that somebody else has taken away.
type loss struct {
	seen uint64 // restored when it was noticed
	done chan error
}

func newPaths(table string, log *slog.Logger) *paths {
	return &paths{table: table, log: log, found: map[netip.AddrPort]time.Time{}, lost: make(chan loss)}
}

func (p *paths) close() {
	if p.holes != nil {
		p.holes.Close()
	}
}

// update tells the paths of the forwards that are published now, and whether the kernel has their table.
func (p *paths) update(forwards []dnat.Resolved, tables bool) error {
	var static []dnat.Resolved
	for _, f := range forwards {
		if f.Tracking != dnat.TrackingProxy {
			static = append(static, f)
		}
	}
	p.static.Store(&static)
	p.lookAround()
	if !tables {
		p.kernel.Store(nil)
		return nil
	}
	if p.holes == nil {
		holes, err := nft.OpenPinholes(p.table)
		if err != nil {
			return fmt.Errorf("data path: %w", err)
		}
		p.holes = holes
	}
	if p.kernel.Load() == nil {
		p.kernel.Store(pinhole.New(restoring{p}, p.free, p.log))
	}
	return nil
}

// lookAround learns which addresses are the gateway's own at the moment.
func (p *paths) lookAround() {
	addrs, err := system.Addresses()
	if err != nil {
		p.log.Warn("the gateway's own addresses cannot be read", "err", err)
		return
	}
	local := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		local[a.WithZone("")] = true
	}
	p.local.Store(&local)
}

func (p *paths) isLocal(a netip.Addr) bool {
	local := p.local.Load()
	return a.IsLoopback() || local != nil && (*local)[a]
}

// translated tells whether a static rule leads connections to this port of the gateway elsewhere.
func (p *paths) translated(at netip.AddrPort) bool {
	static := p.static.Load()
	if static == nil {
		return false
	}
	for _, f := range *static {
		if f.Listen.Addr.IsValid() && f.Listen.Addr != at.Addr() {
			continue
		}
		if f.Listen.Port == at.Port() || f.ServerPorts != dnat.AllPorts && f.ServerPorts.Contains(at.Port()) {
			return true
		}
	}
	return false
}

// free tells whether the gateway has no use of its own for a port. Whether a program listens there is
// asked of the kernel once in askAgain: a program that comes later has clients of its own, of whom
// one at most meets a pinhole, once.
func (p *paths) free(at netip.AddrPort) bool {
	if p.translated(at) {
		return false
	}
	now := time.Now()
	p.mu.Lock()
	asked, known := p.found[at]
	p.mu.Unlock()
	if known && now.Sub(asked) < askAgain {
		return true
	}
	if !system.PortFree(at) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.found) >= maxFound {
		clear(p.found)
	}
	p.found[at] = now
	return true
}

const (
	// askAgain is no longer than a pinhole lives: what is found free when one opens may be taken
	// while it is open, too.
	askAgain = 30 * time.Second
	// maxFound is a range of passive ports at four addresses, some 6 MiB.
	maxFound = 1 << 16
)

// of returns the data path of a forward.
func (p *paths) of(current func() dnat.Resolved) tracker.DataPath { return forwardPath{p, current} }

// forwardPath is a data path with the settings of one forward.
type forwardPath struct {
	*paths
	current func() dnat.Resolved
}

// Open reserves a port of the path that can carry the connection.
func (p forwardPath) Open(ctx context.Context, hole dnat.Pinhole) (tracker.Data, error) {
	f, kernel := p.current(), p.kernel.Load()
	carrier, err := gateway.Carrier(f.Data, hole, kernel != nil, p.isLocal)
	if err != nil {
		return nil, err
	}
	if carrier == dnat.DataRelay {
		return orNil(p.relay(f).Open(ctx, hole))
	}
	opened, err := kernel.Open(f.PortsForData(), hole)
	if err != nil || !hole.Active {
		return orNil(opened, err)
	}
	return orNil(park(ctx, opened, hole))
}

// Join joins an active client and a passive server by the relay: no other path connects by itself.
func (p forwardPath) Join(ctx context.Context, bridge dnat.Bridge) (tracker.Data, error) {
	return orNil(p.relay(p.current()).Join(ctx, bridge))
}

func (p forwardPath) relay(f dnat.Resolved) *relay.Path {
	return &relay.Path{Ports: f.PortsForData(), Avoid: p.translated}
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil[D tracker.Data](data D, err error) (tracker.Data, error) {
	if err != nil {
		return nil, err
	}
	return data, nil
}

// restoring are the kernel's pinholes, with the table brought back where somebody has taken it away.
type restoring struct{ *paths }

// Add opens a pinhole.
func (t restoring) Add(hole dnat.Pinhole) error {
	seen := t.restored.Load()
	err := t.holes.Add(hole)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	lost := loss{seen, make(chan error, 1)}
	select {
	case t.lost <- lost:
	case <-time.After(restoreTime):
		return err
	}
	if errRestore := <-lost.done; errRestore != nil {
		return errors.Join(err, errRestore)
	}
	return t.holes.Add(hole)
}

// Remove closes a pinhole.
func (t restoring) Remove(hole dnat.Pinhole) error { return t.holes.Remove(hole) }

// Retire closes a pinhole that has been used.
func (t restoring) Retire(hole dnat.Pinhole) { t.holes.Retire(hole) }

// restoreTime bounds how long a client waits for the table: the gateway may be busy with names.
const restoreTime = 5 * time.Second

// reinstall brings the table back, once for all that have missed it.
func (p *paths) reinstall(l loss, g *gateway.Gateway) {
	if p.restored.Load() != l.seen {
		l.done <- nil
		return
	}
	p.log.Warn("the table has been removed by another program: installing it again", "table", "inet "+p.table,
		"remedy", "have that program leave tables alone that are not its own (nft flush ruleset removes all)")
	err := g.Reinstall()
	p.restored.Add(1)
	l.done <- err
}
