package nftset

import (
	"slices"
	"time"

	"ftpgate/internal/core/pinhole"
)

// removalDelay bounds how long a used pinhole stays before it is deleted together with others.
const removalDelay = 50 * time.Millisecond

// RemoveLater is Remove for a pinhole whose connection exists: a second one would find the far end taken. It
// returns at once; the pinhole is deleted within removalDelay, together with others.
func (p *PinholeSet) RemoveLater(pinhole pinhole.Pinhole) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removals = append(p.removals, pinhole)
	if n := len(p.removals); n == 1 || n == pinholesAtOnce {
		p.wakeWriter()
	}
}

// countRemovals returns how many delayed removals wait.
func (p *PinholeSet) countRemovals() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.removals)
}

// flushRemovals deletes the pinholes whose removal was delayed. The caller holds txLock.
func (p *PinholeSet) flushRemovals() {
	p.mu.Lock()
	removals := p.removals
	p.removals = nil
	p.mu.Unlock()
	for batch := range slices.Chunk(removals, pinholesAtOnce) {
		requests := make([]*request, len(batch))
		for i, pinhole := range batch {
			requests[i] = &request{pinhole: pinhole} // after an error the pinhole expires
		}
		p.remove(requests)
	}
}
