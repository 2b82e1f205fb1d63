package nftset

import (
	"container/list"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
)

// expiryDelay is how much later than PinholeSet the kernel deletes a pinhole that was not used: after a
// crash. It is later for two reasons. If an element has expired, the kernel refuses to delete it, and the
// whole transaction with it. And the kernel puts the collection of expired elements off while transactions
// come in, so that under load the maps would fill up (nft_rhash_gc in net/netfilter/nft_set_hash.c).
const expiryDelay = 5 * time.Second

// pinholesAtOnce bounds a transaction. This bounds how long a caller waits for others, and how many answers
// the kernel has to store if it refuses everything.
const pinholesAtOnce = 64

// PinholeSet adds pinholes to a table of the kernel and deletes them. Any number of goroutines may use it at
// once: the requests that arrive while the kernel is busy share a transaction. The caller has to know which
// ports are free.
type PinholeSet struct {
	life    time.Duration
	timeout time.Duration
	wake    chan struct{} // has a token if the writer has to check the queue; closed by Close
	done    chan struct{} // closed when the writer has ended

	mu       sync.Mutex
	queue    []*request        // not committed yet
	removals []pinhole.Pinhole // that RemoveLater has asked for
	kept     map[pinhole.Pinhole]func() bool
	closed   bool

	txLock    sync.Mutex // held during a transaction; mu may be locked meanwhile, but not the other way round
	conn      *elementConn
	installed map[pinholeKey]*list.Element // the pinholes in the kernel: elements of byAge
	byAge     list.List                    // of *installedPinhole, the oldest first
	snatUsers map[snatKey]int              // how many installed pinholes share an element of an snatMap
}

type installedPinhole struct {
	pinhole pinhole.Pinhole
	expires time.Time // when the writer deletes it
}

// OpenPinholeSet connects to the nftables of the network namespace that it is called in. The table must be
// one of ftpgate's; it may be installed later. The caller closes the set.
func OpenPinholeSet(table string) (*PinholeSet, error) {
	return openPinholes(table, pinhole.Lifetime, pinhole.Lifetime+expiryDelay)
}

func openPinholes(table string, life, timeout time.Duration) (*PinholeSet, error) {
	c, err := openElementConn(table)
	if err != nil {
		return nil, err
	}
	p := &PinholeSet{
		life:      life,
		timeout:   timeout,
		wake:      make(chan struct{}, 1),
		done:      make(chan struct{}),
		conn:      c,
		installed: map[pinholeKey]*list.Element{},
		snatUsers: map[snatKey]int{},
		kept:      map[pinhole.Pinhole]func() bool{},
	}
	go p.write()
	return p, nil
}

// Add accepts at most pinhole.FirstPackets first packets of the pinhole's connection, within
// pinhole.Lifetime, or longer after Keep. It returns when the pinhole is in the kernel. pinhole.Listen has a
// port, and all addresses are of one family. The pinhole replaces another one with the same From and Listen.
// The error wraps ENOENT if the table or its maps are gone, ENFILE if ruleset.MaxPinholes are open, and
// net.ErrClosed.
func (p *PinholeSet) Add(pinhole pinhole.Pinhole) error {
	if !pinhole.OneFamily() || pinhole.Listen.Port() == 0 || pinhole.Target.Port() == 0 {
		return fmt.Errorf("nftset: add pinhole %s: want addresses of one family, and ports", pinhole)
	}
	if err := p.await(&request{pinhole: pinhole}); err != nil {
		return fmt.Errorf("nftset: add pinhole %s: %w", pinhole, err)
	}
	return nil
}

// Remove closes a pinhole. When it returns, no connection can be made any more; an existing one continues. It
// is no error if there is no such pinhole, or if another program deleted it with its table. After an error
// the kernel closes the pinhole at the end of its lifetime.
func (p *PinholeSet) Remove(pinhole pinhole.Pinhole) error {
	if err := p.await(&request{pinhole: pinhole, remove: true}); err != nil {
		return fmt.Errorf("nftset: remove pinhole %s: %w", pinhole, err)
	}
	return nil
}

// Keep keeps a pinhole open longer: at each end of its lifetime the lifetime begins anew if wanted returns
// true. It does not wait, and wanted must not either. A pinhole that was used must not be wanted, because it
// would serve a second connection.
func (p *PinholeSet) Keep(pinhole pinhole.Pinhole, wanted func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept[pinhole] = wanted
}

// takeKept removes and returns the function that Keep set for a pinhole.
func (p *PinholeSet) takeKept(pinhole pinhole.Pinhole) (wanted func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted = p.kept[pinhole]
	delete(p.kept, pinhole)
	return wanted
}

// Close answers the requests that wait, deletes the pinholes that RemoveLater was called for, and disconnects
// from the kernel. Open pinholes stay until they are used or expire. A second call does nothing.
func (p *PinholeSet) Close() error {
	p.mu.Lock()
	again := p.closed
	if p.closed = true; !again {
		close(p.wake)
	}
	p.mu.Unlock()
	if <-p.done; again {
		return nil
	}
	return p.conn.close()
}

// add adds pinholes in one transaction. If that fails, it adds each one alone, so that only the requests at
// fault get an error.
func (p *PinholeSet) add(requests []*request) {
	if len(requests) == 0 {
		return
	}
	changes := make([]change, 0, len(requests)*int(pinholeMaps))
	for _, r := range requests {
		changes = append(changes, p.replaced(&r.pinhole)...)
	}
	for m := range pinholeMaps {
		for _, r := range requests {
			changes = append(changes, change{unix.NFT_MSG_NEWSETELEM, pinholeElement(m, &r.pinhole)})
		}
	}
	err := p.conn.commit(p.timeout, changes...)
	for _, r := range requests {
		errAlone := err
		if err != nil {
			errAlone = p.conn.add(p.timeout, pinholeElements(&r.pinhole))
		}
		if errAlone == nil {
			p.record(r.pinhole)
		}
		r.done(errAlone)
	}
}

// remove deletes pinholes in one transaction. The kernel refuses it with ENOENT if an element is gone,
// because the table was replaced. Then remove destroys the rest in one transaction, or deletes each element
// alone if the kernel cannot destroy: every transaction that fails makes all others wait for ten
// milliseconds.
func (p *PinholeSet) remove(requests []*request) {
	changes := make([]change, 0, len(requests)*int(pinholeMaps))
	for _, r := range requests {
		r.deletions = p.forget(&r.pinhole)
	}
	for m := range pinholeMaps {
		for _, r := range requests {
			for _, c := range r.deletions {
				if c.element.role == m {
					changes = append(changes, c)
				}
			}
		}
	}
	var err error
	if len(changes) > 0 {
		err = p.conn.commit(0, changes...)
	}
	if errors.Is(err, unix.ENOENT) {
		for i := range changes {
			changes[i].operation = destroySetElement
		}
		err = p.conn.commit(0, changes...)
	}
	for _, r := range requests {
		if err == nil {
			r.done(nil)
		} else {
			r.done(p.conn.deleteEach(r.deletions))
		}
	}
}

// expire deletes the pinholes that were neither used nor removed in time, renews those that are still wanted,
// and returns when to call it again. If a deletion fails, the kernel deletes the pinhole a little later.
func (p *PinholeSet) expire(now time.Time) time.Duration {
	var expired, renewed []*request
	next := p.life
	for e := p.byAge.Front(); e != nil; e = e.Next() {
		oldest := e.Value.(*installedPinhole)
		if next = oldest.expires.Sub(now); next > 0 {
			break
		}
		r := &request{pinhole: oldest.pinhole}
		if wanted := p.takeKept(r.pinhole); wanted != nil && wanted() {
			r.wanted = wanted
			renewed = append(renewed, r)
		} else {
			expired = append(expired, r)
		}
		next = p.life
	}
	for batch := range slices.Chunk(expired, pinholesAtOnce) {
		p.remove(batch)
	}
	for _, r := range renewed { // one by one: they may share an element of an snatMap
		p.add([]*request{r})
		p.Keep(r.pinhole, r.wanted)
	}
	return next
}

func (p *PinholeSet) record(pinhole pinhole.Pinhole) {
	p.installed[pinholeKeyOf(pinhole)] = p.byAge.PushBack(&installedPinhole{pinhole, time.Now().Add(p.life)})
	p.snatUsers[snatKeyOf(pinhole)]++
}

// forget drops a pinhole from the record, and returns the changes that delete its elements from the kernel.
// It keeps an element that other pinholes share.
func (p *PinholeSet) forget(pinhole *pinhole.Pinhole) []change {
	p.takeKept(*pinhole)
	e := p.installed[pinholeKeyOf(*pinhole)]
	if e == nil || e.Value.(*installedPinhole).pinhole != *pinhole {
		return nil
	}
	p.byAge.Remove(e)
	delete(p.installed, pinholeKeyOf(*pinhole))
	deletions := make([]change, 0, pinholeMaps)
	deletions = append(deletions, change{unix.NFT_MSG_DELSETELEM, pinholeElement(dnatMap, pinhole)})
	key := snatKeyOf(*pinhole)
	if p.snatUsers[key]--; p.snatUsers[key] == 0 {
		delete(p.snatUsers, key)
		deletions = append(deletions, change{unix.NFT_MSG_DELSETELEM, pinholeElement(snatMap, pinhole)})
	}
	return deletions
}

// replaced returns the deletions that a new pinhole needs: of the pinhole with the same key, and of the
// shared element in the snatMap, so that its timeout starts again.
func (p *PinholeSet) replaced(pinhole *pinhole.Pinhole) (deletions []change) {
	if e := p.installed[pinholeKeyOf(*pinhole)]; e != nil {
		deletions = p.forget(&e.Value.(*installedPinhole).pinhole)
	}
	if p.snatUsers[snatKeyOf(*pinhole)] > 0 {
		deletions = append(deletions, change{unix.NFT_MSG_DELSETELEM, pinholeElement(snatMap, pinhole)})
	}
	return deletions
}
