package nftset

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
)

// Restore adds the open pinholes to their maps again after another program has deleted them there, and
// replaces those that are still there. Their lifetimes do not change. It leaves out pinholes that used
// reports: they would serve a second connection. used must not wait. An error is the kernel's.
func (p *PinholeSet) Restore(used func(pinhole.Pinhole) bool) error {
	p.txLock.Lock()
	defer p.unlockTx()
	var unused []pinhole.Pinhole
	for e := p.byAge.Front(); e != nil; e = e.Next() {
		if pinhole := e.Value.(*installedPinhole).pinhole; !used(pinhole) {
			unused = append(unused, pinhole)
		}
	}
	var errs []error
	for batch := range slices.Chunk(unused, pinholesAtOnce) {
		errs = append(errs, p.restore(batch))
	}
	return errors.Join(errs...)
}

// restore puts pinholes back in one transaction. If the kernel cannot destroy elements, and some are still
// there, it replaces each of them alone.
func (p *PinholeSet) restore(batch []pinhole.Pinhole) error {
	var elements []element
	shared := map[snatKey]bool{}
	for i := range batch {
		pinhole := &batch[i]
		elements = append(elements, pinholeElement(dnatMap, pinhole))
		if key := snatKeyOf(*pinhole); !shared[key] {
			shared[key] = true
			elements = append(elements, pinholeElement(snatMap, pinhole))
		}
	}
	slices.SortStableFunc(elements, func(a, b element) int { return int(a.role) - int(b.role) })
	add := changesOf(unix.NFT_MSG_NEWSETELEM, elements)
	err := p.conn.commit(p.timeout, append(changesOf(destroySetElement, elements), add...)...)
	if err == nil || errors.Is(err, unix.ENOENT) { // ENOENT: there is no map
		return err
	}
	if err = p.conn.commit(p.timeout, add...); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return p.conn.deleteAndAdd(p.timeout, elements)
}
