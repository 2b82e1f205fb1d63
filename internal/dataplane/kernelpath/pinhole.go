// Package kernelpath is the kernel's data path as a session sees it: it chooses the gateway's port for a data
// connection and opens it in the kernel for exactly that connection. It also opens passthroughs in the kernel
// for end-to-end encrypted sessions, one for all sessions of a client.
//
// It carries no data, listens nowhere, and does not know how the kernel is programmed. It never gives a
// client the same port twice at a time.
//
// Locks: Opener.mu and DataPort.mu are never held together. DataPort.mu is held when Kernel.Keep and
// Kernel.RemoveLater are called, which do not wait; no other method of Kernel is called under either. The
// kernel's transactions take each of them.
package kernelpath

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/port"
)

// ErrClosed says that Arm was called after Close.
var ErrClosed = errors.New("pinhole is closed")

// Kernel keeps pinholes and passthroughs in its tables. Package path implements it over the sets of package
// nftset. Several goroutines may call its methods at once. They return when the change is in effect.
type Kernel interface {
	// Add accepts first packets of the pinhole's connection, at most pinhole.FirstPackets, within
	// pinhole.Lifetime.
	Add(pinhole.Pinhole) error
	// Keep keeps a pinhole open while wanted returns true. It does not wait, and wanted must not.
	Keep(p pinhole.Pinhole, wanted func() bool)
	// Remove closes the pinhole; a missing one is no error.
	Remove(pinhole.Pinhole) error
	// RemoveLater removes a used pinhole soon, and does not wait for it.
	RemoveLater(pinhole.Pinhole)
	// AddPassthrough opens the passthrough, until RemovePassthrough.
	AddPassthrough(pinhole.Passthrough) error
	// RemovePassthrough closes the passthrough; a missing one is no error.
	RemovePassthrough(pinhole.Passthrough) error
}

// Opener opens the pinholes and passthroughs of all forwards. Clients share the ports: two clients may have
// the same port at the same time. Several goroutines may use it at once.
type Opener struct {
	kernel Kernel
	ports  *port.Allocator
	free   func(netip.AddrPort) bool
	log    *slog.Logger

	mu           sync.Mutex
	armed        map[pinhole.Pinhole]*DataPort      // in the kernel, or perhaps in it
	passthroughs map[clientKey][]*sharedPassthrough // a client has few at one address of the gateway
}

// New returns the path over a kernel, which allocates its ports with the allocator. free reports whether the
// gateway does not use a port itself: no socket listens there, and no rule translates it. It is called for
// each candidate port. The log gets failed removals.
func New(kernel Kernel, ports *port.Allocator, free func(netip.AddrPort) bool, log *slog.Logger) *Opener {
	return &Opener{kernel: kernel, ports: ports, free: free, log: log,
		armed: map[pinhole.Pinhole]*DataPort{}, passthroughs: map[clientKey][]*sharedPassthrough{}}
}

// Used reports whether a pinhole's peer is known to have connected, or is not expected any more. It does not
// wait.
func (p *Opener) Used(pinhole pinhole.Pinhole) bool {
	p.mu.Lock()
	h := p.armed[pinhole]
	p.mu.Unlock()
	return h == nil || h.isShut() || h.Used() || h.connected()
}

// note records whether a pinhole is in the kernel.
func (p *Opener) note(h *DataPort, armed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if armed {
		p.armed[h.pinhole] = h
	} else {
		delete(p.armed, h.pinhole)
	}
}

// Open reserves a port of the range for a pinhole: pinhole.Listen has the address and no port yet. Arm
// programs the kernel. The caller calls Count before that if it can tell whether the peer has connected. The
// error wraps port.ErrNone if all ports are taken. The caller closes the pinhole.
func (p *Opener) Open(ports forward.PortRange, pinhole pinhole.Pinhole) (*DataPort, error) {
	listen, err := p.ports.Allocate(pinhole.From, pinhole.Listen.Addr(), ports, func(at netip.AddrPort) (bool,
		error) {
		accept := pinhole
		accept.Listen = at
		return p.free(accept.Accept()), nil
	})
	if err != nil {
		return nil, fmt.Errorf("kernel path: open for %s at %s: %w", pinhole.From, pinhole.Listen.Addr(), err)
	}
	pinhole.Listen = listen
	h := p.OpenAt(pinhole)
	h.allocated = true
	return h, nil
}

// OpenAt is Open at the pinhole's own port, which the caller has allocated, and releases after Close.
func (p *Opener) OpenAt(pinhole pinhole.Pinhole) *DataPort {
	return &DataPort{opener: p, pinhole: pinhole, connected: func() bool { return false }}
}

// DataPort is the gateway's port for one pinhole of a session. It goes from reserved to armed to closed, or
// from reserved to closed. Several goroutines may call its methods at once.
type DataPort struct {
	opener    *Opener
	pinhole   pinhole.Pinhole
	allocated bool        // Close gives the port back
	connected func() bool // whether the peer is known to have connected
	close     sync.Once

	mu     sync.Mutex
	arming sync.WaitGroup // calls of Arm that wait for the kernel; none begins after closed is set
	armed  bool           // the kernel has it, or may have it
	inUse  bool           // a transfer command waits for its connection
	used   bool           // its peer has connected
	shut   bool           // no peer can connect any more; the port stays reserved
	closed bool
}

// Listen returns the address and port at which the connection is expected.
func (h *DataPort) Listen() netip.AddrPort { return h.pinhole.Listen }

// Count sets the function that reports whether the peer has connected. It must not wait.
func (h *DataPort) Count(connected func() bool) { h.connected = connected }

// Arm opens the pinhole in the kernel. When it returns nil, the port may be announced. The error is the
// kernel's, or ErrClosed.
func (h *DataPort) Arm() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return ErrClosed
	}
	h.armed = true // after an error too: the kernel may have opened it
	h.arming.Add(1)
	h.mu.Unlock()
	defer h.arming.Done()
	h.opener.note(h, true)
	if err := h.opener.kernel.Add(h.pinhole); err != nil {
		return fmt.Errorf("kernel path: arm: %w", err)
	}
	return nil
}

// Use keeps an armed pinhole open until its peer is known to have connected, or until Close: a transfer
// command waits for it. It does not wait.
func (h *DataPort) Use() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.armed && !h.closed {
		h.inUse = true
		h.opener.kernel.Keep(h.pinhole, func() bool { return h.wanted() && !h.connected() })
	}
}

// Unuse undoes Use: the pinhole ends with its lifetime.
func (h *DataPort) Unuse() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inUse = false
}

// wanted reports whether a transfer command waits for the connection.
func (h *DataPort) wanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inUse && !h.used && !h.shut
}

// MarkUsed notes that the peer has connected: its transfer is over.
func (h *DataPort) MarkUsed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used = true
}

// Used reports whether the peer is known to have connected.
func (h *DataPort) Used() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.used
}

// Complete closes the pinhole soon, and does not wait for it: its connection exists. The port stays reserved
// until Close.
func (h *DataPort) Complete() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.armed && !h.shut && !h.closed {
		h.shut = true
		h.opener.kernel.RemoveLater(h.pinhole)
	}
}

// Shut closes the pinhole, and returns when no peer can connect any more. The port stays reserved until
// Close. It does nothing after Close.
func (h *DataPort) Shut() {
	h.mu.Lock()
	open := h.armed && !h.closed
	h.shut = true
	h.mu.Unlock()
	if open { // if Complete has shut it, its removal may be pending
		h.remove()
	}
}

// remove closes the pinhole in the kernel.
func (h *DataPort) remove() {
	if err := h.opener.kernel.Remove(h.pinhole); err != nil {
		h.opener.log.Error("a pinhole stays open until it expires", "peer", h.pinhole.From, "err", err)
	}
}

// isShut reports whether no peer may connect any more.
func (h *DataPort) isShut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shut
}

// Close closes the pinhole in the kernel, if it was armed, and gives the port back. It does not wait for the
// kernel if the pinhole was used: it had its connection. An existing connection continues. A second Close
// does nothing.
func (h *DataPort) Close() { h.close.Do(h.closeOnce) }

func (h *DataPort) closeOnce() {
	h.mu.Lock()
	h.closed = true
	armed, used, shut := h.armed, h.used, h.shut
	h.mu.Unlock()
	h.arming.Wait()
	h.opener.note(h, false)
	switch {
	case !armed:
	case !used:
		h.remove() // it may be removed already, or soon
	case !shut:
		h.opener.kernel.RemoveLater(h.pinhole)
	}
	if !h.allocated {
		return
	}
	// a peer that knows the port may still connect, or the pinhole stays a moment longer in the kernel
	if armed {
		h.opener.ports.Rest(h.pinhole.From, h.pinhole.Listen)
	} else {
		h.opener.ports.Release(h.pinhole.From, h.pinhole.Listen)
	}
}
