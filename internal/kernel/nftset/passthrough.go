package nftset

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/ruleset"
)

const (
	// passthroughTimeout is when the kernel deletes a passthrough range by itself, after a crash.
	passthroughTimeout = 10 * time.Minute
	// passthroughRenewal is how often the timeouts start again. If one renewal fails, there is time for
	// another.
	passthroughRenewal = 4 * time.Minute
)

// passthroughsAtOnce bounds a transaction: other programs that change a table wait for it, and its elements
// have to fit into messages whose lists have a 16-bit length.
const passthroughsAtOnce = 256

// Passthroughs adds passthrough ranges to a table of the kernel, keeps them there, and deletes them. Any
// number of goroutines may use it at once.
type Passthroughs struct {
	failed  func(error)
	timeout time.Duration
	stop    chan struct{} // closed by Close
	done    chan struct{} // closed when keep has ended

	mu     sync.Mutex
	conn   *elementConn
	wanted map[passthroughKey]pinhole.Passthrough // in the kernel as well, unless another program deleted it
	closed bool
}

// passthroughKey identifies an element of a passthroughDNATMap, and which of these maps it is in.
type passthroughKey struct {
	from, at netip.Addr
	ports    forward.PortRange
}

func passthroughKeyOf(p pinhole.Passthrough) passthroughKey {
	return passthroughKey{p.From, p.Listen, p.Ports}
}

// OpenPassthroughs connects to the nftables of the network namespace that it is called in. The table must be
// one of ftpgate's; it may be installed later. When a renewal fails, Passthroughs calls failed: ENOENT means
// that the table or a map of it is gone. failed may call every method but Close. The caller closes the
// Passthroughs.
func OpenPassthroughs(table string, failed func(error)) (*Passthroughs, error) {
	return openPassthroughs(table, failed, passthroughRenewal, passthroughTimeout)
}

func openPassthroughs(table string, failed func(error), renewal, timeout time.Duration) (
	*Passthroughs, error) {
	if !ruleset.OwnTable(table) {
		return nil, fmt.Errorf("nft: table %s is not ftpgate's own", table)
	}
	c, err := openElementConn(table)
	if err != nil {
		return nil, fmt.Errorf("nft: open netlink: %w", err)
	}
	p := &Passthroughs{
		failed:  failed,
		timeout: timeout,
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
		conn:    c,
		wanted:  map[passthroughKey]pinhole.Passthrough{},
	}
	go p.keep(renewal)
	return p, nil
}

// Add lets the client through any number of times, until Remove. It returns when the range is in the kernel.
// All addresses are of one family, and the client has no other server for these ports at this address. It is
// no error to add a range again. The error wraps ENOENT if the table is gone or has no maps for these ports,
// ENFILE if there are ruleset.MaxPassthroughs, and net.ErrClosed.
func (p *Passthroughs) Add(passthrough pinhole.Passthrough) error {
	if err := p.add(passthrough); err != nil {
		return fmt.Errorf("nft: add passthrough %s: %w", passthrough, err)
	}
	return nil
}

func (p *Passthroughs) add(passthrough pinhole.Passthrough) error {
	if ports := passthrough.Ports; !passthrough.OneFamily() || ports.IsEmpty() || ports.First > ports.Last {
		return errors.New("want addresses of one family, and ports")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	before, exists := p.wanted[passthroughKeyOf(passthrough)]
	if exists && before != passthrough {
		return fmt.Errorf("the client has another: %s", before)
	}
	if exists {
		return p.replace([]pinhole.Passthrough{passthrough})
	}
	err := p.conn.commit(p.timeout, passthroughChanges(unix.NFT_MSG_NEWSETELEM, passthrough)...)
	if errors.Is(err, unix.EEXIST) { // another process has left it
		err = p.deleteAndAdd(passthrough)
	}
	if err == nil {
		p.wanted[passthroughKeyOf(passthrough)] = passthrough
	}
	return err
}

// Remove closes a range. When it returns, no new connection can come through; connections that did go on. It
// is no error if there is no such range, or if another program deleted it with its table. After an error the
// kernel deletes it within 10 minutes.
func (p *Passthroughs) Remove(passthrough pinhole.Passthrough) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("nft: remove passthrough %s: %w", passthrough, net.ErrClosed)
	}
	if p.wanted[passthroughKeyOf(passthrough)] != passthrough {
		return nil
	}
	delete(p.wanted, passthroughKeyOf(passthrough))
	deletions := passthroughChanges(unix.NFT_MSG_DELSETELEM, passthrough)
	err := p.conn.commit(0, deletions...)
	if errors.Is(err, unix.ENOENT) {
		err = p.conn.deleteEach(deletions)
	}
	if err != nil {
		return fmt.Errorf("nft: remove passthrough %s: %w", passthrough, err)
	}
	return nil
}

// Renew adds every range that was added and not removed to the kernel again, with a new timeout. Connections
// do not notice. Call it after the table was installed again; timeouts are renewed without it. The error
// names ranges of ports.
func (p *Passthroughs) Renew() error {
	var failed []error
	for set, passthroughs := range p.bySet() {
		for batch := range slices.Chunk(passthroughs, passthroughsAtOnce) {
			err := p.renew(batch)
			if err != nil {
				failed = append(failed, fmt.Errorf("nft: renew passthroughs of ports %s: %w", set.ports, err))
			}
			if errors.Is(err, unix.ENOENT) {
				break // the other batches would fail alike
			}
		}
	}
	return errors.Join(failed...)
}

// Ranges returns the port ranges in use, in no order. Their maps have to stay in the table, even if no
// forward asks for them any more (ruleset.Build).
func (p *Passthroughs) Ranges() []forward.PortRange {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ranges []forward.PortRange
	seen := map[forward.PortRange]bool{}
	for key := range p.wanted {
		if !seen[key.ports] {
			seen[key.ports] = true
			ranges = append(ranges, key.ports)
		}
	}
	return ranges
}

// Close disconnects from the kernel. Open ranges stay for up to 10 minutes, unless their table is removed
// before. A second call does nothing.
func (p *Passthroughs) Close() error {
	p.mu.Lock()
	again := p.closed
	if p.closed = true; !again {
		close(p.stop)
	}
	p.mu.Unlock()
	if <-p.done; again {
		return nil
	}
	if err := p.conn.close(); err != nil {
		return fmt.Errorf("nft: close netlink: %w", err)
	}
	return nil
}

// keep renews the ranges until Close.
func (p *Passthroughs) keep(renewal time.Duration) {
	defer close(p.done)
	ticker := time.NewTicker(renewal)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			if err := p.Renew(); err != nil {
				p.failed(err)
			}
		}
	}
}

// bySet returns the wanted ranges, by the map that they are in.
func (p *Passthroughs) bySet() map[setID][]pinhole.Passthrough {
	p.mu.Lock()
	defer p.mu.Unlock()
	sets := map[setID][]pinhole.Passthrough{}
	for _, passthrough := range p.wanted {
		set := passthroughElement(passthroughDNATMap, passthrough).set()
		sets[set] = append(sets[set], passthrough)
	}
	return sets
}

// renew replaces those ranges of one map that are still wanted.
func (p *Passthroughs) renew(passthroughs []pinhole.Passthrough) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	unwanted := func(x pinhole.Passthrough) bool { return p.wanted[passthroughKeyOf(x)] != x }
	passthroughs = slices.DeleteFunc(passthroughs, unwanted)
	if p.closed || len(passthroughs) == 0 {
		return nil
	}
	return p.replace(passthroughs)
}

// replace deletes and adds ranges of one map in one transaction, so that a packet meanwhile finds the old
// element or the new one. Since Linux 6.12 the kernel can renew a timeout without that, but older kernels do
// not report that they ignore it.
func (p *Passthroughs) replace(passthroughs []pinhole.Passthrough) error {
	add := passthroughChanges(unix.NFT_MSG_NEWSETELEM, passthroughs...)
	del := passthroughChanges(unix.NFT_MSG_DELSETELEM, passthroughs...)
	err := p.conn.commit(p.timeout, append(del, add...)...)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	destroy := passthroughChanges(destroySetElement, passthroughs...)
	err = p.conn.commit(p.timeout, append(destroy, add...)...)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return err
	}
	for _, passthrough := range passthroughs { // this kernel has no destroySetElement
		if err := p.deleteAndAdd(passthrough); err != nil {
			return err
		}
	}
	return nil
}

// deleteAndAdd replaces a range, or the part of it that is in the kernel. In between it is closed for a
// moment.
func (p *Passthroughs) deleteAndAdd(passthrough pinhole.Passthrough) error {
	if err := p.conn.deleteEach(passthroughChanges(unix.NFT_MSG_DELSETELEM, passthrough)); err != nil {
		return err
	}
	return p.conn.commit(p.timeout, passthroughChanges(unix.NFT_MSG_NEWSETELEM, passthrough)...)
}

// passthroughChanges returns changes of all elements of ranges. Those of one map are consecutive.
func passthroughChanges(operation uint16, passthroughs ...pinhole.Passthrough) []change {
	changes := make([]change, 0, 2*len(passthroughs))
	for _, r := range []role{passthroughDNATMap, passthroughSNATMap} {
		for _, passthrough := range passthroughs {
			changes = append(changes, change{operation, passthroughElement(r, passthrough)})
		}
	}
	return changes
}
