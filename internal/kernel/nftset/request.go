package nftset

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"ftpgate/internal/core/pinhole"
)

// request asks to add or remove a pinhole.
type request struct {
	pinhole   pinhole.Pinhole
	remove    bool
	deletions []change    // of a removal
	wanted    func() bool // of a renewal: see Keep
	answer    chan error  // has room for the answer; nil: no caller reads it
}

// done answers the request.
func (r *request) done(err error) {
	if r.answer != nil {
		r.answer <- err
	}
}

// pinholeKey is the key of a pinhole in its dnatMap.
type pinholeKey struct {
	from netip.Addr
	at   netip.AddrPort
}

// snatKey is the key of a pinhole in its snatMap. Several pinholes may share one.
type snatKey struct {
	from, dialled netip.Addr
	to            netip.AddrPort
}

func pinholeKeyOf(h pinhole.Pinhole) pinholeKey { return pinholeKey{h.From, h.Listen} }
func snatKeyOf(h pinhole.Pinhole) snatKey       { return snatKey{h.From, h.Listen.Addr(), h.Target} }

// conflictsWith reports whether two pinholes share a key, so that one transaction cannot add both.
func (r *request) conflictsWith(other *request) bool {
	return pinholeKeyOf(r.pinhole) == pinholeKeyOf(other.pinhole) ||
		snatKeyOf(r.pinhole) == snatKeyOf(other.pinhole)
}

// await queues a request and waits for the kernel's answer. If no transaction is under way, the caller
// commits its own request, and those that arrive meanwhile: passing it to the writer would take longer than
// the transaction.
func (p *PinholeSet) await(r *request) error {
	r.answer = make(chan error, 1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return net.ErrClosed
	}
	p.queue = append(p.queue, r)
	// A delayed removal must not remove the pinhole that replaces the removed one.
	key := pinholeKeyOf(r.pinhole)
	p.removals = slices.DeleteFunc(p.removals, func(h pinhole.Pinhole) bool { return pinholeKeyOf(h) == key })
	p.mu.Unlock()
	if p.txLock.TryLock() { // otherwise the holder of the lock finds the request when it unlocks
		p.commitAll(p.takeQueue())
		p.unlockTx()
	}
	return <-r.answer
}

// unlockTx releases txLock, and wakes the writer for the requests that were queued while it was locked.
func (p *PinholeSet) unlockTx() {
	p.txLock.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		p.wakeWriter()
	}
}

// wakeWriter makes the writer check the queue. The caller holds mu.
func (p *PinholeSet) wakeWriter() {
	if p.closed {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default: // the writer wakes up already
	}
}

// takeQueue returns the requests that wait, and empties the queue.
func (p *PinholeSet) takeQueue() []*request {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := p.queue
	p.queue = nil
	return requests
}

// commitAll commits requests and answers them. The caller holds txLock.
func (p *PinholeSet) commitAll(requests []*request) {
	for batch := range slices.Chunk(requests, pinholesAtOnce) {
		p.commit(batch)
	}
}

// commit commits requests in two transactions: first the additions, then the removals.
func (p *PinholeSet) commit(requests []*request) {
	var add, remove []*request
	for _, r := range requests {
		switch {
		case r.remove:
			remove = append(remove, r)
		case slices.ContainsFunc(add, r.conflictsWith):
			p.add(add)
			add = []*request{r}
		default:
			add = append(add, r)
		}
	}
	p.add(add)
	p.remove(remove)
}

// write is the writer's goroutine. It commits the requests that arrived during another transaction, delayed
// removals, and expiry. It ends when Close has closed wake and the queue is empty.
func (p *PinholeSet) write() {
	defer close(p.done)
	expiry, flush := time.NewTimer(p.life), time.NewTimer(removalDelay)
	defer expiry.Stop()
	defer flush.Stop()
	flushPending := true // the flush timer runs
	for open := true; open; {
		select {
		case _, open = <-p.wake:
			p.txLock.Lock()
			p.commitAll(p.takeQueue())
			removals := p.countRemovals()
			if removals > 0 && !flushPending {
				flushPending = true
				flush.Reset(removalDelay)
			}
			if removals >= pinholesAtOnce || !open {
				p.flushRemovals()
			}
			p.unlockTx()
		case <-flush.C:
			flushPending = false
			p.txLock.Lock()
			p.flushRemovals()
			p.unlockTx()
		case now := <-expiry.C:
			p.txLock.Lock()
			expiry.Reset(p.expire(now))
			p.unlockTx()
		}
	}
}
