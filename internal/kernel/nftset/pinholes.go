package nftset

import (
	"container/list"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/kernel/nft"
)

// A pinhole waits for its connection: a client connects at once, or after a few lost SYNs (sent again
// after 1, 3, 7 and 15 seconds), or never.
const (
	// pinholeTime is how long, until Pinholes takes it out.
	pinholeTime = 25 * time.Second
	// pinholeTimeout is when the kernel does so by itself: after a crash. It is later, because the
	// kernel refuses to take out what it has taken out, and everything else in the same transaction; and
	// its own collection of what has expired is put off while transactions come in, so that under
	// load the maps would fill up (nft_rhash_gc in net/netfilter/nft_set_hash.c).
	pinholeTimeout = 30 * time.Second
)

// pinholesAtOnce bounds a transaction, and with it what a caller waits for others, and how many
// answers the kernel has to keep where it refuses everything.
const pinholesAtOnce = 64

// Pinholes puts pinholes into a table of the kernel and takes them out. Any number of goroutines may
// use it at once: what they ask for while the kernel is busy goes to it together. Which port is free
// is for the caller to know.
type Pinholes struct {
	life    time.Duration
	timeout time.Duration
	wake    chan struct{} // has a token while the writer is to look at the queue; closed by Close
	done    chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	queue   []*order          // what the writer has not seen yet
	retired []pinhole.Pinhole // used, to be taken out some time
	closed  bool

	turn  sync.Mutex // whose turn it is to talk to the kernel: a caller's with an order, or the writer's
	line  *line
	held  map[gate]*list.Element // what is in the kernel: elements of byAge
	byAge list.List              // of heldHole, the oldest first
	users map[source]int         // how many of held share an element of a source map
}

// gate is a key of a pinhole map.
type gate struct {
	from netip.Addr
	at   netip.AddrPort
}

// source is a key of a source map.
type source struct {
	from, dialled netip.Addr
	to            netip.AddrPort
}

func gateOf(h pinhole.Pinhole) gate     { return gate{h.From, h.Listen} }
func sourceOf(h pinhole.Pinhole) source { return source{h.From, h.Listen.Addr(), h.Target} }

// heldHole is a pinhole that is in the kernel.
type heldHole struct {
	hole pinhole.Pinhole
	due  time.Time // when it is taken out
}

// order is what a caller waits for.
type order struct {
	hole   pinhole.Pinhole
	remove bool
	gone   []change   // what there is to be removed
	answer chan error // has room for the answer
}

// OpenPinholes connects to the nftables of the network namespace that it is called in, for the
// pinholes of one of ftpgate's own tables; the table may come later. The caller closes it.
func OpenPinholes(table string) (*Pinholes, error) {
	return openPinholes(table, pinholeTime, pinholeTimeout)
}

func openPinholes(table string, life, timeout time.Duration) (*Pinholes, error) {
	if !nft.OwnTable(table) {
		return nil, fmt.Errorf("nft: table %s is not ftpgate's own", table)
	}
	l, err := openLine(table)
	if err != nil {
		return nil, fmt.Errorf("nft: open netlink: %w", err)
	}
	p := &Pinholes{
		life:    life,
		timeout: timeout,
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		line:    l,
		held:    map[gate]*list.Element{},
		users:   map[source]int{},
	}
	go p.write()
	return p, nil
}

// Add has the kernel let the pinhole's connection through, once and within 25 seconds; it returns
// when that holds. hole.At has a port, and all addresses are of one family. Another pinhole for
// the same From and At makes way. errors.Is tells ENOENT (the table or its maps are gone), ENFILE
// (ruleset.MaxPinholes are open) and net.ErrClosed.
func (p *Pinholes) Add(hole pinhole.Pinhole) error {
	if !hole.OneFamily() || hole.Listen.Port() == 0 || hole.Target.Port() == 0 {
		return fmt.Errorf("nft: add pinhole %s: want addresses of one family, and ports", hole)
	}
	if err := p.await(&order{hole: hole}); err != nil {
		return fmt.Errorf("nft: add pinhole %s: %w", hole, err)
	}
	return nil
}

// Remove closes a pinhole; it returns when nobody can come through any more. A connection that has
// come through goes on. A pinhole that is not there, or that somebody took away with its table, is
// no error. After an error the kernel closes it within 30 seconds of its Add.
func (p *Pinholes) Remove(hole pinhole.Pinhole) error {
	if err := p.await(&order{hole: hole, remove: true}); err != nil {
		return fmt.Errorf("nft: remove pinhole %s: %w", hole, err)
	}
	return nil
}

// Close answers what was asked for before, takes out what is retired, and disconnects from the kernel.
// Pinholes that are open stay until they are used or expire. The second time it does nothing.
func (p *Pinholes) Close() error {
	p.mu.Lock()
	again := p.closed
	if p.closed = true; !again {
		close(p.wake)
	}
	p.mu.Unlock()
	if <-p.done; again {
		return nil
	}
	if err := p.line.close(); err != nil {
		return fmt.Errorf("nft: close netlink: %w", err)
	}
	return nil
}

// await has an order carried out and returns its answer. A caller that finds nobody at it does so
// itself, and for those who come meanwhile: handing it over would cost more than the deed.
func (p *Pinholes) await(o *order) error {
	o.answer = make(chan error, 1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return net.ErrClosed
	}
	p.queue = append(p.queue, o)
	// A retired pinhole that the new one displaces is not to take the new one with it.
	p.retired = slices.DeleteFunc(p.retired, func(h pinhole.Pinhole) bool { return gateOf(h) == gateOf(o.hole) })
	p.mu.Unlock()
	if p.turn.TryLock() { // else who has the turn finds the order when it passes the turn on
		p.carryOut(p.take())
		p.passOn()
	}
	return <-o.answer
}

// passOn ends a turn. What was ordered meanwhile is for the writer: whoever came found the turn taken.
func (p *Pinholes) passOn() {
	p.turn.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		p.rouse()
	}
}

// carryOut is for whose turn it is.
func (p *Pinholes) carryOut(orders []*order) {
	for batch := range slices.Chunk(orders, pinholesAtOnce) {
		p.commit(batch)
	}
}

// take returns the orders that wait.
func (p *Pinholes) take() []*order {
	p.mu.Lock()
	defer p.mu.Unlock()
	orders := p.queue
	p.queue = nil
	return orders
}

// write is the writer: it carries out what came while somebody else was at it, and what nobody waits
// for. It ends when Close has closed wake and the queue is empty.
func (p *Pinholes) write() {
	defer close(p.done)
	clock, sweep := time.NewTimer(p.life), time.NewTimer(retireTime)
	defer clock.Stop()
	defer sweep.Stop()
	sweeping := true // the timer runs
	for open := true; open; {
		select {
		case _, open = <-p.wake:
			p.turn.Lock()
			p.carryOut(p.take())
			retired := p.countRetired()
			if retired > 0 && !sweeping {
				sweeping = true
				sweep.Reset(retireTime)
			}
			if retired >= pinholesAtOnce || !open {
				p.sweep()
			}
			p.passOn()
		case <-sweep.C:
			sweeping = false
			p.turn.Lock()
			p.sweep()
			p.passOn()
		case now := <-clock.C:
			p.turn.Lock()
			clock.Reset(p.withdraw(now))
			p.passOn()
		}
	}
}

// commit carries out orders in two transactions: what is added, and what is removed.
func (p *Pinholes) commit(orders []*order) {
	var add, remove []*order
	for _, o := range orders {
		switch {
		case o.remove:
			remove = append(remove, o)
		case slices.ContainsFunc(add, o.clashes):
			p.add(add)
			add = []*order{o}
		default:
			add = append(add, o)
		}
	}
	p.add(add)
	p.remove(remove)
}

// clashes tells whether two pinholes share a key, so that one must follow the other.
func (o *order) clashes(other *order) bool {
	return gateOf(o.hole) == gateOf(other.hole) || sourceOf(o.hole) == sourceOf(other.hole)
}

// add puts pinholes in. A transaction that fails is run anew for each of them, so that only who is
// at fault gets the error.
func (p *Pinholes) add(orders []*order) {
	if len(orders) == 0 {
		return
	}
	var changes []change
	for _, o := range orders {
		changes = append(changes, p.displaced(o.hole)...)
	}
	for k := range kinds {
		for _, o := range orders {
			changes = append(changes, change{unix.NFT_MSG_NEWSETELEM, pinholeElement(k, o.hole)})
		}
	}
	err := p.line.run(p.timeout, changes...)
	for _, o := range orders {
		errAlone := err
		if err != nil {
			errAlone = p.addAlone(o.hole)
		}
		if errAlone == nil {
			p.hold(o.hole)
		}
		o.answer <- errAlone
	}
}

// addAlone puts one pinhole in, in place of what has its keys without being held.
func (p *Pinholes) addAlone(hole pinhole.Pinhole) error {
	add := []change{{unix.NFT_MSG_NEWSETELEM, pinholeElement(leadsTo, hole)}, {unix.NFT_MSG_NEWSETELEM, pinholeElement(seenAs, hole)}}
	err := p.line.run(p.timeout, add...)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := p.line.removeEach([]change{{unix.NFT_MSG_DELSETELEM, pinholeElement(leadsTo, hole)}, {unix.NFT_MSG_DELSETELEM, pinholeElement(seenAs, hole)}}); err != nil {
		return err
	}
	return p.line.run(p.timeout, add...)
}

// remove takes pinholes out. Where an element is gone, with a table that was replaced, the transaction
// fails. Then what is left is destroyed, or where the kernel cannot do that, each element on its own:
// a transaction that fails has everybody wait for ten milliseconds.
func (p *Pinholes) remove(orders []*order) {
	var changes []change
	for _, o := range orders {
		o.gone = p.letGo(o.hole)
	}
	for k := range kinds {
		for _, o := range orders {
			for _, c := range o.gone {
				if c.element.kind == k {
					changes = append(changes, c)
				}
			}
		}
	}
	var err error
	if len(changes) > 0 {
		err = p.line.run(0, changes...)
	}
	if errors.Is(err, unix.ENOENT) {
		for i := range changes {
			changes[i].verb = destroySetElement
		}
		err = p.line.run(0, changes...)
	}
	for _, o := range orders {
		if err == nil {
			o.answer <- nil
		} else {
			o.answer <- p.line.removeEach(o.gone)
		}
	}
}

// withdraw takes out what nobody has used or removed in time, and tells when to look again. What fails
// here the kernel does a little later.
func (p *Pinholes) withdraw(now time.Time) time.Duration {
	var due []*order
	next := p.life
	for e := p.byAge.Front(); e != nil; e = e.Next() {
		held := e.Value.(heldHole)
		if next = held.due.Sub(now); next > 0 {
			break
		}
		due = append(due, &order{hole: held.hole, answer: make(chan error, 1)})
		next = p.life
	}
	for batch := range slices.Chunk(due, pinholesAtOnce) {
		p.remove(batch)
	}
	return next
}

// hold notes a pinhole that is in the kernel.
func (p *Pinholes) hold(hole pinhole.Pinhole) {
	p.held[gateOf(hole)] = p.byAge.PushBack(heldHole{hole, time.Now().Add(p.life)})
	p.users[sourceOf(hole)]++
}

// letGo forgets a pinhole, and returns what the kernel has of it and of no other.
func (p *Pinholes) letGo(hole pinhole.Pinhole) []change {
	e := p.held[gateOf(hole)]
	if e == nil || e.Value.(heldHole).hole != hole {
		return nil
	}
	p.byAge.Remove(e)
	delete(p.held, gateOf(hole))
	gone := []change{{unix.NFT_MSG_DELSETELEM, pinholeElement(leadsTo, hole)}}
	s := sourceOf(hole)
	if p.users[s]--; p.users[s] == 0 {
		delete(p.users, s)
		gone = append(gone, change{unix.NFT_MSG_DELSETELEM, pinholeElement(seenAs, hole)})
	}
	return gone
}

// displaced returns what has to go so that a pinhole can come: what leads elsewhere from the same
// place, and what tells the same far end, whose time shall begin anew.
func (p *Pinholes) displaced(hole pinhole.Pinhole) (gone []change) {
	if e := p.held[gateOf(hole)]; e != nil {
		gone = p.letGo(e.Value.(heldHole).hole)
	}
	if p.users[sourceOf(hole)] > 0 {
		gone = append(gone, change{unix.NFT_MSG_DELSETELEM, pinholeElement(seenAs, hole)})
	}
	return gone
}
