package kernelpath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"ftpgate/internal/core/pinhole"
)

// ErrOverlap says that the client already reaches other ports, or the same of another server, through
// the ports that a passage asks for.
var ErrOverlap = errors.New("another passage of the client has these ports")

// pair is a client and an address of the gateway: between the two each port leads to one place.
type pair struct{ from, at netip.Addr }

// passage is an open passage and who has it.
type passage struct {
	passage pinhole.Passthrough
	gates   int // open, or being opened or closed: it stays in Path.passages until nobody is at it

	mu     sync.Mutex // held while the kernel is told
	opened int        // gates that are open; the kernel has the passage while there are any
}

// OpenPassthrough opens a passage for a session. All sessions of a client share one: the kernel is told at the first
// one's Pass and at the last one's Close. When it returns without an error the client can come. The
// error is the kernel's, or wraps ErrOverlap. The caller closes the gate.
func (p *Path) OpenPassthrough(of pinhole.Passthrough) (*Handle, error) {
	shared, err := p.share(of)
	if err != nil {
		return nil, fmt.Errorf("pinhole: pass %s: %w", of, err)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.opened == 0 {
		if err := p.kernel.AddPassthrough(of); err != nil {
			p.unshare(shared)
			return nil, fmt.Errorf("pinhole: pass %s: %w", of, err)
		}
	}
	shared.opened++
	return &Handle{path: p, shared: shared}, nil
}

// share returns the passage that all sessions of its client share.
func (p *Path) share(of pinhole.Passthrough) (*passage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := pair{of.From, of.Listen}
	for _, other := range p.passages[key] {
		switch {
		case other.passage == of:
			other.gates++
			return other, nil
		case other.passage.Ports.Overlaps(of.Ports):
			return nil, fmt.Errorf("%w: %s", ErrOverlap, other.passage)
		}
	}
	made := &passage{passage: of, gates: 1}
	p.passages[key] = append(p.passages[key], made)
	return made, nil
}

// unshare ends one's part in a passage.
func (p *Path) unshare(shared *passage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shared.gates--; shared.gates > 0 {
		return
	}
	key := pair{shared.passage.From, shared.passage.Listen}
	left := slices.DeleteFunc(p.passages[key], func(other *passage) bool { return other == shared })
	if p.passages[key] = left; len(left) == 0 {
		delete(p.passages, key)
	}
}

// Handle is one session's part in a passage. Its methods may be called by several goroutines at once.
type Handle struct {
	path   *Path
	shared *passage
	once   sync.Once
}

// Close ends the session's part. When it returns for the last session that has the passage, nobody new can
// come; connections that have come through go on. The second time it does nothing.
func (g *Handle) Close() { g.once.Do(g.close) }

func (g *Handle) close() {
	g.shared.mu.Lock()
	defer g.shared.mu.Unlock()
	if g.shared.opened--; g.shared.opened == 0 {
		if err := g.path.kernel.RemovePassthrough(g.shared.passage); err != nil {
			g.path.log.Error("a passage stays open until it expires", "error", err)
		}
	}
	g.path.unshare(g.shared)
}
