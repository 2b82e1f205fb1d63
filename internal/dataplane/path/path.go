package path

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/kernelpath"
	"ftpgate/internal/dataplane/relay"
	"ftpgate/internal/gateway"
	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/flows"
)

// Paths are the data paths of all forwards: the kernel's, where it can be had, and the relay.
type Paths struct {
	table string
	log   *slog.Logger

	holes    *nftset.Pinholes // nil: none
	passages *nftset.Passages // nil: none
	relayed  *relay.Passages
	path     *kernelpath.Path                    // over both; nil: none
	kernel   atomic.Pointer[kernelpath.Path]     // path, while the tables are in use
	local    atomic.Pointer[map[netip.Addr]bool] // the gateway's own addresses
	static   atomic.Pointer[claimed]             // ports that rules lead elsewhere

	Watcher *flows.Watcher // counts what the kernel carries; nil: nobody does

	mu    sync.Mutex
	found map[netip.AddrPort]time.Time // ports that nobody listened at then

	Lost     chan loss // asks follow to bring the table back
	restores atomic.Uint64
}

// loss is a table that somebody else has taken away.
type loss struct {
	seen uint64 // restores when it was noticed
	done chan error
}

func NewPaths(table string, log *slog.Logger) *Paths {
	p := &Paths{table: table, log: log, found: map[netip.AddrPort]time.Time{}, Lost: make(chan loss)}
	p.relayed = relay.NewPassages(0, p.carried)
	return p
}

func (p *Paths) Close() {
	p.relayed.Close()
	if p.holes != nil {
		p.holes.Close()
	}
	if p.passages != nil {
		p.passages.Close()
	}
}

// Update tells the paths of the forwards that are published now, and whether the kernel has their table.
func (p *Paths) Update(forwards []forward.Resolved, tables bool) error {
	p.static.Store(claim(forwards))
	p.LookAround()
	if !tables {
		p.kernel.Store(nil)
		return nil
	}
	if p.holes == nil {
		if err := p.openTables(); err != nil {
			return fmt.Errorf("data path: %w", err)
		}
	}
	p.kernel.Store(p.path)
	if err := p.passages.Renew(); err != nil { // a table that was replaced has none
		return fmt.Errorf("data path: %w", err)
	}
	return nil
}

// openTables makes the kernel's path, which knows what is taken for as long as the daemon runs.
func (p *Paths) openTables() (err error) {
	if p.holes, err = nftset.OpenPinholes(p.table); err != nil {
		return err
	}
	if p.passages, err = nftset.OpenPassages(p.table, p.notRenewed); err != nil {
		return err
	}
	p.path = kernelpath.New(restoring{p}, p.free, p.log)
	return nil
}

// Held returns the ranges of the passages that are open.
func (p *Paths) Held() []forward.PortRange {
	if p.passages == nil {
		return nil
	}
	return p.passages.Ranges()
}

// LookAround learns which addresses are the gateway's own at the moment.
func (p *Paths) LookAround() {
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

func (p *Paths) isLocal(a netip.Addr) bool {
	local := p.local.Load()
	return a.IsLoopback() || local != nil && (*local)[a]
}

// claimed are the ports of the gateway that rules lead elsewhere: an address that is not valid stands for
// all of them. Forwards do not share any (dnat.Check).
type claimed struct {
	listens map[netip.Addr]map[uint16]bool
	ranges  map[netip.Addr][]forward.PortRange
}

// claim finds what the forwards' rules, and those of their passages, lead elsewhere.
func claim(forwards []forward.Resolved) *claimed {
	c := &claimed{map[netip.Addr]map[uint16]bool{}, map[netip.Addr][]forward.PortRange{}}
	for _, f := range forwards {
		at := f.Listen.Addr
		if f.Tracking != forward.TrackingProxy {
			if c.listens[at] == nil {
				c.listens[at] = map[uint16]bool{}
			}
			c.listens[at][f.Listen.Port] = true
		}
		if !f.ServerPorts.IsEmpty() && f.ServerPorts != forward.AllPorts {
			c.ranges[at] = append(c.ranges[at], f.ServerPorts)
		}
	}
	return c
}

// has tells whether a port is led elsewhere.
func (c *claimed) has(at netip.AddrPort) bool {
	for _, addr := range []netip.Addr{at.Addr(), {}} {
		if c.listens[addr][at.Port()] ||
			slices.ContainsFunc(c.ranges[addr], func(r forward.PortRange) bool { return r.Contains(at.Port()) }) {
			return true
		}
	}
	return false
}

// led tells whether rules lead a port elsewhere.
func (p *Paths) led(at netip.AddrPort) bool {
	static := p.static.Load()
	return static != nil && static.has(at)
}

// free tells whether the gateway has no use of its own for a port. Whether a program listens there is
// asked of the kernel once in askAgain: a program that comes later has clients of its own, of whom
// one at most meets a pinhole, once.
func (p *Paths) free(at netip.AddrPort) bool {
	if p.led(at) {
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
	// askAgain is how old an answer may be. To ask takes four system calls, and most ports of a range are asked for
	// again and again where there is much to transfer.
	askAgain = 2 * time.Minute
	// maxFound is a range of passive ports at four addresses, some 6 MiB.
	maxFound = 1 << 16
)

// Of returns the data path of a forward.
func (p *Paths) Of(current func() forward.Resolved) dataplane.DataPath {
	return forwardPath{p, current}
}

// forwardPath is a data path with the settings of one forward.
type forwardPath struct {
	*Paths
	current func() forward.Resolved
}

// Open reserves a port of the path that can carry the connection.
func (p forwardPath) Open(ctx context.Context, hole pinhole.Pinhole, seals dataplane.Seals) (dataplane.Data, error) {
	f, kernel := p.current(), p.kernel.Load()
	carrier, err := Carrier(f.Data, hole, kernel != nil, p.isLocal)
	if err != nil {
		return nil, judge(err, f.DataPorts())
	}
	if carrier == forward.DataRelay {
		t, err := p.relay(f).Open(ctx, hole, relay.Seals(seals))
		return orNil(relayed{t, hole.Active}, judge(err, f.DataPorts()))
	}
	opened, err := kernel.Open(f.DataPorts(), hole)
	if err != nil {
		return nil, judge(err, f.DataPorts())
	}
	counted := p.count(opened, hole)
	if !hole.Active {
		return counted, nil
	}
	parked, err := park(ctx, counted, hole)
	return orNil(parked, judge(err, f.DataPorts()))
}

// Join joins an active client and a passive server by the relay: no other path connects by itself.
func (p forwardPath) Join(ctx context.Context, bridge pinhole.Bridge, seals dataplane.Seals) (dataplane.Data, error) {
	f := p.current()
	t, err := p.relay(f).Join(ctx, bridge, relay.Seals(seals))
	return orNil(relayed{t, false}, judge(err, f.DataPorts()))
}

// Pass opens a passage.
func (p forwardPath) Pass(passage pinhole.Passage) (dataplane.Gate, error) {
	kernel := p.kernel.Load()
	carrier, err := PassageCarrier(p.current().Data, passage, kernel != nil, p.isLocal)
	if err != nil {
		return nil, err
	}
	if carrier == forward.DataRelay {
		gate, err := p.relayed.Open(passage)
		if err != nil { // and no interface that is not nil
			return nil, err
		}
		return gate, nil
	}
	gate, err := kernel.Pass(passage)
	if err != nil {
		return nil, err
	}
	return gate, nil
}

// carried tells the log of a connection of a passage over the relay that came to nothing.
func (p *Paths) carried(passage pinhole.Passage, r relay.Result) {
	if r.Err != nil && !errors.Is(r.Err, relay.ErrClosed) {
		p.log.Info("a data connection of an encrypted session ended early; its ends know whether all has arrived", "passage", passage.String(), "err", r.Err)
	}
}

func (p forwardPath) relay(f forward.Resolved) *relay.Path {
	return &relay.Path{Ports: f.DataPorts(), Avoid: p.led}
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil[D dataplane.Data](data D, err error) (dataplane.Data, error) {
	if err != nil {
		return nil, err
	}
	return data, nil
}

// restoring are the kernel's pinholes and passages, with the table brought back where somebody has taken
// it away.
type restoring struct{ *Paths }

// Add opens a pinhole.
func (t restoring) Add(hole pinhole.Pinhole) error {
	return t.restored(func() error { return t.holes.Add(hole) })
}

// Pass opens a passage.
func (t restoring) Pass(passage pinhole.Passage) error {
	return t.restored(func() error { return t.passages.Add(passage) })
}

// restored does something with the table, once more if it has to be brought back for that.
func (p *Paths) restored(do func() error) error {
	seen := p.restores.Load()
	err := do()
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	lost := loss{seen, make(chan error, 1)}
	select {
	case p.Lost <- lost:
	case <-time.After(restoreTime):
		return err
	}
	if errRestore := <-lost.done; errRestore != nil {
		return errors.Join(err, errRestore)
	}
	return do()
}

// Shut closes a passage.
func (t restoring) Shut(passage pinhole.Passage) error { return t.passages.Remove(passage) }

// Remove closes a pinhole.
func (t restoring) Remove(hole pinhole.Pinhole) error { return t.holes.Remove(hole) }

// Retire closes a pinhole that has been used.
func (t restoring) Retire(hole pinhole.Pinhole) { t.holes.Retire(hole) }

// restoreTime bounds how long a client waits for the table: the gateway may be busy with names.
const restoreTime = 5 * time.Second

// Reinstall brings the table back, once for all that have missed it.
func (p *Paths) Reinstall(l loss, g *gateway.Gateway) {
	if p.restores.Load() != l.seen {
		l.done <- nil
		return
	}
	p.log.Warn("the table has been removed by another program: installing it again", "table", "inet "+p.table,
		"remedy", "have that program leave tables alone that are not its own (nft flush ruleset removes all)")
	err := g.Reinstall()
	if err == nil {
		err = p.passages.Renew()
	}
	p.restores.Add(1)
	l.done <- err
}

// notRenewed is told that passages could not be renewed. Where the table is gone it is brought back, and
// they with it; not before it returns, because the one who asks may be about to close them.
func (p *Paths) notRenewed(err error) {
	p.log.Warn("encrypted sessions may lose their ports", "err", err)
	if !errors.Is(err, unix.ENOENT) {
		return
	}
	select {
	case p.Lost <- loss{p.restores.Load(), make(chan error, 1)}:
	default: // somebody else asks, or it is the end
	}
}
