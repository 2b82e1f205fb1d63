package nftset

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
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

// PassthroughSet adds passthrough ranges to a table of the kernel, keeps them there, and deletes them. Any
// number of goroutines may use it at once.
type PassthroughSet struct {
	renewalFailed func(error)
	timeout       time.Duration
	stop          chan struct{} // closed by Close
	done          chan struct{} // closed when renewLoop has ended
	conn          *elementConn  // used only by the goroutine that began a transaction

	mu     sync.Mutex
	busy   chan struct{}                          // has a token during a transaction, and after Close
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

// OpenPassthroughSet connects to the nftables of the network namespace that it is called in. The table must
// be one of ftpgate's; it may be installed later. When a renewal fails, the set calls renewalFailed:
// ENOENT means that the table or a map of it is gone. renewalFailed may call every method but Close. The
// caller closes the set.
func OpenPassthroughSet(table string, renewalFailed func(error)) (*PassthroughSet, error) {
	return openPassthroughs(table, renewalFailed, passthroughRenewal, passthroughTimeout)
}

func openPassthroughs(table string, renewalFailed func(error), renewal, timeout time.Duration) (
	*PassthroughSet, error) {
	c, err := openElementConn(table)
	if err != nil {
		return nil, err
	}
	p := newPassthroughs(c, renewalFailed, timeout)
	go p.renewLoop(renewal)
	return p, nil
}

// newPassthroughs returns a set without its goroutine.
func newPassthroughs(c *elementConn, renewalFailed func(error), timeout time.Duration) *PassthroughSet {
	return &PassthroughSet{
		renewalFailed: renewalFailed,
		timeout:       timeout,
		stop:          make(chan struct{}),
		done:          make(chan struct{}),
		conn:          c,
		busy:          make(chan struct{}, 1),
		wanted:        map[passthroughKey]pinhole.Passthrough{},
	}
}

// Add accepts any number of the client's connections, until Remove. It returns when the range is in the
// kernel. All addresses are of one family, and the client has no other server for these ports at this
// address. It is no error to add a range again. The error wraps ENOENT if the table is gone or has no maps
// for these ports, ENFILE if there are ruleset.MaxPassthroughs, and net.ErrClosed.
func (p *PassthroughSet) Add(passthrough pinhole.Passthrough) error {
	if err := p.add(passthrough); err != nil {
		return fmt.Errorf("nftset: add passthrough %s: %w", passthrough, err)
	}
	return nil
}

func (p *PassthroughSet) add(passthrough pinhole.Passthrough) error {
	if ports := passthrough.Ports; !passthrough.OneFamily() || ports.IsEmpty() || ports.First > ports.Last {
		return errors.New("want addresses of one family, and ports")
	}
	if err := p.begin(); err != nil {
		return err
	}
	defer p.end()
	key := passthroughKeyOf(passthrough)
	before, exists := p.want(key, passthrough)
	switch {
	case exists && before != passthrough:
		return fmt.Errorf("the client has another: %s", before)
	case exists:
		return p.replace([]pinhole.Passthrough{passthrough})
	}
	err := p.conn.add(p.timeout, passthroughElements(passthrough))
	if err != nil {
		p.forget(key)
	}
	return err
}

// Remove closes a range. When it returns, no new connection can be made; existing ones continue. It is no
// error if there is no such range, or if another program deleted it with its table. After an error the kernel
// deletes it within 10 minutes.
func (p *PassthroughSet) Remove(passthrough pinhole.Passthrough) error {
	if err := p.remove(passthrough); err != nil {
		return fmt.Errorf("nftset: remove passthrough %s: %w", passthrough, err)
	}
	return nil
}

func (p *PassthroughSet) remove(passthrough pinhole.Passthrough) error {
	if err := p.begin(); err != nil {
		return err
	}
	defer p.end()
	if !p.isWanted(passthrough) {
		return nil
	}
	p.forget(passthroughKeyOf(passthrough))
	deletions := changesOf(unix.NFT_MSG_DELSETELEM, passthroughElements(passthrough))
	err := p.conn.commit(0, deletions...)
	if errors.Is(err, unix.ENOENT) {
		err = p.conn.deleteEach(deletions)
	}
	return err
}

// Renew adds every range that was added and not removed to the kernel again, with a new timeout. Connections
// do not notice. Call it after the table was installed again; timeouts are renewed without it. The error
// names ranges of ports.
func (p *PassthroughSet) Renew() error {
	var errs []error
	for set, passthroughs := range p.bySet() {
		for batch := range slices.Chunk(passthroughs, passthroughsAtOnce) {
			err := p.renew(batch)
			if err != nil {
				errs = append(errs, fmt.Errorf("nftset: renew passthroughs of ports %s: %w", set.ports, err))
			}
			if errors.Is(err, unix.ENOENT) {
				break // the other batches would fail alike
			}
		}
	}
	return errors.Join(errs...)
}

// Ranges returns the port ranges in use, in no order. Their maps have to stay in the table, even if no
// forward asks for them any more (ruleset.Build).
func (p *PassthroughSet) Ranges() []forward.PortRange {
	p.mu.Lock()
	defer p.mu.Unlock()
	ranges := map[forward.PortRange]bool{}
	for key := range p.wanted {
		ranges[key.ports] = true
	}
	return slices.Collect(maps.Keys(ranges))
}

// Close disconnects from the kernel; if a transaction is under way, its end does. Close waits for a renewal
// only. Open ranges stay for up to 10 minutes, unless their table is removed before. A second call does
// nothing.
func (p *PassthroughSet) Close() error {
	p.mu.Lock()
	again, idle := p.closed, false
	if p.closed = true; !again {
		close(p.stop)
		select {
		case p.busy <- struct{}{}:
			idle = true
		default: // end disconnects
		}
	}
	p.mu.Unlock()
	if <-p.done; !idle {
		return nil
	}
	return p.conn.close()
}

// begin waits until no transaction is under way, and begins one, which end ends. No lock is held meanwhile.
func (p *PassthroughSet) begin() error {
	select {
	case <-p.stop:
		return net.ErrClosed
	default:
	}
	select {
	case p.busy <- struct{}{}:
		return nil
	case <-p.stop:
		return net.ErrClosed
	}
}

// end ends a transaction. The last one after Close disconnects from the kernel.
func (p *PassthroughSet) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = p.conn.close() // Close has returned
		return
	}
	<-p.busy
}

// want records a range, unless one with its key is recorded, which want returns.
func (p *PassthroughSet) want(key passthroughKey, passthrough pinhole.Passthrough) (
	before pinhole.Passthrough, exists bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before, exists = p.wanted[key]; !exists {
		p.wanted[key] = passthrough
	}
	return before, exists
}

func (p *PassthroughSet) forget(key passthroughKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.wanted, key)
}

func (p *PassthroughSet) isWanted(passthrough pinhole.Passthrough) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wanted[passthroughKeyOf(passthrough)] == passthrough
}

// renewLoop renews the ranges until Close.
func (p *PassthroughSet) renewLoop(renewal time.Duration) {
	defer close(p.done)
	ticker := time.NewTicker(renewal)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			if err := p.Renew(); err != nil {
				p.renewalFailed(err)
			}
		}
	}
}

// bySet returns the wanted ranges, by the map that they are in.
func (p *PassthroughSet) bySet() map[setID][]pinhole.Passthrough {
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
func (p *PassthroughSet) renew(passthroughs []pinhole.Passthrough) error {
	if p.begin() != nil { // closed
		return nil
	}
	defer p.end()
	unwanted := func(x pinhole.Passthrough) bool { return !p.isWanted(x) }
	if passthroughs = slices.DeleteFunc(passthroughs, unwanted); len(passthroughs) == 0 {
		return nil
	}
	return p.replace(passthroughs)
}

// replace deletes and adds ranges of one map in one transaction, so that a packet meanwhile finds the old
// element or the new one. Since Linux 6.12 the kernel can renew a timeout without that, but older kernels do
// not report that they ignore it.
func (p *PassthroughSet) replace(passthroughs []pinhole.Passthrough) error {
	elements := passthroughElements(passthroughs...)
	add := changesOf(unix.NFT_MSG_NEWSETELEM, elements)
	err := p.conn.commit(p.timeout, append(changesOf(unix.NFT_MSG_DELSETELEM, elements), add...)...)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	err = p.conn.commit(p.timeout, append(changesOf(destroySetElement, elements), add...)...)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return err
	}
	for _, passthrough := range passthroughs { // this kernel has no destroySetElement
		if err := p.conn.deleteAndAdd(p.timeout, passthroughElements(passthrough)); err != nil {
			return err
		}
	}
	return nil
}
