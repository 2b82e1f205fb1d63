package kernelpath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// ErrOverlap says that the client already reaches other ports, or the same ports of another server, through
// the ports that a passthrough asks for.
var ErrOverlap = errors.New("another passthrough of the client has these ports")

// clientKey is a client and an address of the gateway: between the two each port has one target.
type clientKey struct{ from, listen netip.Addr }

// sharedPassthrough is a passthrough and the number of its users. Opener.mu guards it.
//
//	reserved --first Arm--> adding --> open --last Close of an armed handle--> removing --> reserved
//
// In adding and removing, one goroutine calls the kernel without a lock, and others wait for changing.
type sharedPassthrough struct {
	is       pinhole.Passthrough
	handles  int           // that are not closed
	armed    int           // handles that have it open
	changing chan struct{} // adding or removing: closed when the kernel has answered; else nil
}

// OpenPassthrough reserves the ports of a passthrough for a session; Arm programs the kernel. All sessions of
// a client share one. The error wraps ErrOverlap. The caller closes the handle.
func (p *Opener) OpenPassthrough(of pinhole.Passthrough) (*Handle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	shared, err := p.find(of)
	if err != nil {
		return nil, fmt.Errorf("kernel path: open passthrough %s: %w", of, err)
	}
	if shared == nil {
		shared = &sharedPassthrough{is: of}
		key := clientKey{of.From, of.Listen}
		p.passthroughs[key] = append(p.passthroughs[key], shared)
	}
	shared.handles++
	return &Handle{opener: p, shared: shared}, nil
}

// PassthroughRanges returns the port ranges that are reserved, some perhaps twice.
func (p *Opener) PassthroughRanges() (ranges []forward.PortRange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, all := range p.passthroughs {
		for _, shared := range all {
			ranges = append(ranges, shared.is.Ports)
		}
	}
	return ranges
}

// find returns the reserved passthrough; nil: there is none. The error says that another passthrough of the
// client has some of its ports. The caller holds the lock.
func (p *Opener) find(of pinhole.Passthrough) (*sharedPassthrough, error) {
	for _, other := range p.passthroughs[clientKey{of.From, of.Listen}] {
		switch {
		case other.is == of:
			return other, nil
		case other.is.Ports.Overlaps(of.Ports):
			return nil, fmt.Errorf("%w: %s", ErrOverlap, other.is)
		}
	}
	return nil, nil
}

// awaitChange waits until no goroutine calls the kernel for a passthrough. The caller holds the lock, which
// awaitChange releases meanwhile.
func (p *Opener) awaitChange(shared *sharedPassthrough) {
	for shared.changing != nil {
		changing := shared.changing
		p.mu.Unlock()
		<-changing
		p.mu.Lock()
	}
}

// change calls the kernel for a passthrough. The caller holds the lock, which change releases meanwhile.
func (p *Opener) change(shared *sharedPassthrough, call func(pinhole.Passthrough) error) error {
	changing := make(chan struct{})
	shared.changing = changing
	p.mu.Unlock()
	err := call(shared.is)
	p.mu.Lock()
	close(changing)
	shared.changing = nil
	return err
}

// forget drops an unused passthrough. The caller holds the lock.
func (p *Opener) forget(shared *sharedPassthrough) {
	key := clientKey{shared.is.From, shared.is.Listen}
	left := slices.DeleteFunc(p.passthroughs[key], func(p *sharedPassthrough) bool {
		return p == shared
	})
	if p.passthroughs[key] = left; len(left) == 0 {
		delete(p.passthroughs, key)
	}
}

// Handle is one session's part in a passthrough. Several goroutines may call its methods at once.
type Handle struct {
	opener *Opener
	shared *sharedPassthrough

	// Guarded by the lock of opener.
	armed, closed bool
}

// Arm opens the passthrough, unless another session has. When it returns nil, the client can connect. The
// error is the kernel's. A second Arm and one after Close do nothing.
func (h *Handle) Arm() error {
	p, shared := h.opener, h.shared
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaitChange(shared)
	switch {
	case h.closed, h.armed:
		return nil
	case shared.armed == 0:
		if err := p.change(shared, p.kernel.AddPassthrough); err != nil {
			return fmt.Errorf("kernel path: arm passthrough %s: %w", shared.is, err)
		}
	}
	h.armed = true
	shared.armed++
	return nil
}

// Close ends the session's part. When it returns for the last session that has the passthrough open, no new
// connection can be made; existing ones continue. A second Close does nothing.
func (h *Handle) Close() {
	if err := h.close(); err != nil {
		h.opener.log.Error("a passthrough stays open until it expires", "client", h.shared.is.From, "err",
			err)
	}
}

// close is Close. After an error of the kernel the passthrough stays open there.
func (h *Handle) close() (err error) {
	p, shared := h.opener, h.shared
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaitChange(shared)
	if h.closed {
		return nil
	}
	h.closed = true
	if h.armed {
		if shared.armed--; shared.armed == 0 {
			err = p.change(shared, p.kernel.RemovePassthrough)
		}
	}
	if shared.handles--; shared.handles == 0 {
		p.forget(shared)
	}
	return err
}
