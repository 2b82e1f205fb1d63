package nftset

import (
	"slices"
	"time"

	"ftpgate/internal/core/pinhole"
)

// retireTime is how long a pinhole that has been used may stay, to be taken out together with others.
const retireTime = 50 * time.Millisecond

// Retire is Remove for a pinhole that has let its connection through, and so lets nobody through any
// more: it is taken out soon, together with others, and nobody waits for it.
func (p *Pinholes) Retire(hole pinhole.Pinhole) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = append(p.retired, hole)
	if n := len(p.retired); n == 1 || n == pinholesAtOnce {
		p.rouse()
	}
}

// rouse has the writer look at what there is to do. It is called with the lock held.
func (p *Pinholes) rouse() {
	if p.closed {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default: // the writer is on its way
	}
}

// countRetired returns how many pinholes are to be swept.
func (p *Pinholes) countRetired() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.retired)
}

// sweep takes out the pinholes that are retired.
func (p *Pinholes) sweep() {
	p.mu.Lock()
	retired := p.retired
	p.retired = nil
	p.mu.Unlock()
	for batch := range slices.Chunk(retired, pinholesAtOnce) {
		orders := make([]*order, len(batch))
		for i, hole := range batch {
			orders[i] = &order{hole: hole, answer: make(chan error, 1)} // what fails the kernel does later
		}
		p.remove(orders)
	}
}
