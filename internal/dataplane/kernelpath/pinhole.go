// Package pinhole is the kernel data path as a session sees it: it draws the gateway's port for a data
// connection and has the kernel open it for exactly that connection.
//
// And it has the kernel open passages for sessions that are encrypted from end to end, one for all
// sessions of a client.
//
// It carries no data, listens nowhere, and does not know how the kernel is told; and it never gives
// one client's port to the same client twice at a time.
package kernelpath

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

var (
	// ErrNoPorts says that every port of the range is taken.
	ErrNoPorts = errors.New("no passive port is free")
	// ErrClosed says that a hole was closed before it was to be armed.
	ErrClosed = errors.New("pinhole is closed")
)

// Kernel has pinholes and passages in its tables; nft.Pinholes and nft.Passages do. Its methods may be called by several
// goroutines at once, and return when what they do is in force.
type Kernel interface {
	// Add lets the pinhole's connection through, once and not for long.
	Add(pinhole.Pinhole) error
	// Remove closes the pinhole; one that is not there is no error.
	Remove(pinhole.Pinhole) error
	// Retire is Remove for a pinhole that has been used, some time soon.
	Retire(pinhole.Pinhole)
	// Pass opens the passage, until Shut.
	Pass(pinhole.Passage) error
	// Shut closes the passage; one that is not there is no error.
	Shut(pinhole.Passage) error
}

// Path opens the pinholes and passages of all forwards. Clients share the ports: two may have the same one at the
// same time. It may be used by several goroutines at once.
type Path struct {
	kernel Kernel
	free   func(netip.AddrPort) bool
	log    *slog.Logger

	mu       sync.Mutex
	taken    map[entry]struct{}
	passages map[pair][]*passage // a client has few at one address of the gateway
}

// entry is what no two pinholes may have in common.
type entry struct {
	from netip.Addr
	at   netip.AddrPort
}

// New returns the path over a kernel. free tells whether the gateway itself leaves a port alone: nobody
// listens there, and no rule leads it elsewhere; it is asked for each port that is drawn. What the
// kernel fails to remove is logged.
func New(kernel Kernel, free func(netip.AddrPort) bool, log *slog.Logger) *Path {
	return &Path{kernel: kernel, free: free, log: log, taken: map[entry]struct{}{}, passages: map[pair][]*passage{}}
}

// Open reserves a port of the range for a pinhole: hole.At has the address and no port yet. The kernel
// knows nothing of it before Arm. The error wraps ErrNoPorts where all ports are taken. The
// caller closes the hole.
func (p *Path) Open(ports forward.PortRange, hole pinhole.Pinhole) (*Hole, error) {
	for port := range ports.Shuffled() {
		at := netip.AddrPortFrom(hole.At.Addr(), port)
		if !p.take(entry{hole.From, at}) {
			continue
		}
		if p.free(at) {
			hole.At = at
			return &Hole{path: p, hole: hole}, nil
		}
		p.giveBack(entry{hole.From, at})
	}
	return nil, fmt.Errorf("pinhole: open for %s at %s: %w in %s", hole.From, hole.At.Addr(), ErrNoPorts, ports)
}

// take reserves a port, unless it is taken.
func (p *Path) take(e entry) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.taken[e]; taken {
		return false
	}
	p.taken[e] = struct{}{}
	return true
}

func (p *Path) giveBack(e entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, e)
}

// Hole is one pinhole of a session, from the port to the end of the session's interest in it. Its
// methods may be called by several goroutines at once.
type Hole struct {
	path *Path
	hole pinhole.Pinhole

	mu     sync.Mutex
	armed  bool // the kernel has it, or may have it
	used   bool // its connection has come
	closed bool
}

// At returns where the connection is awaited.
func (h *Hole) At() netip.AddrPort { return h.hole.At }

// Arm opens the pinhole in the kernel; when it returns without an error, the port may be announced.
// The error is the kernel's, or ErrClosed.
func (h *Hole) Arm() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	h.armed = true // also after an error, which may have come after the deed
	if err := h.path.kernel.Add(h.hole); err != nil {
		return fmt.Errorf("pinhole: arm: %w", err)
	}
	return nil
}

// Finish waits for nothing: the kernel carries the data, and the ends see for themselves how a
// transfer went. That it is over means that its connection has come.
func (h *Hole) Finish(<-chan struct{}) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used = true
	return nil
}

// Used tells whether the connection is known to have come.
func (h *Hole) Used() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.used
}

// Settled says that Finish waits for nothing.
func (h *Hole) Settled() bool { return true }

// Close closes the pinhole in the kernel, if it was armed, and then gives the port back. One whose
// transfer is over is closed, having been used, and the kernel is rid of it soon. A connection that
// has come through goes on. The second time it does nothing.
func (h *Hole) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.closed = true
	switch {
	case h.armed && h.used:
		h.path.kernel.Retire(h.hole)
	case h.armed:
		if err := h.path.kernel.Remove(h.hole); err != nil {
			h.path.log.Error("a pinhole stays open until it expires", "error", err)
		}
	}
	h.path.giveBack(entry{h.hole.From, h.hole.At})
}
