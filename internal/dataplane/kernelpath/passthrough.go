package kernelpath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"ftpgate/internal/core/pinhole"
)

// ErrOverlap says that the client already reaches other ports, or the same ports of another server, through
// the ports that a passthrough asks for.
var ErrOverlap = errors.New("another passthrough of the client has these ports")

// clientKey is a client and an address of the gateway: between the two each port leads to one place.
type clientKey struct{ from, listen netip.Addr }

// sharedPassthrough is an open passthrough and the number of its users. Opener.mu guards it.
//
//	absent --first OpenPassthrough--> adding --> open --last Close--> removing --> absent
//
// In adding and removing, one goroutine calls the kernel without a lock, and others wait for changing.
type sharedPassthrough struct {
	is       pinhole.Passthrough
	handles  int           // that are open
	changing chan struct{} // adding or removing: closed when the kernel has answered; nil in open
}

// OpenPassthrough opens a passthrough for a session. All sessions of a client share one: the kernel is called
// for the first OpenPassthrough and for the last Close. When it returns nil, the client can connect. The
// error is the kernel's, or wraps ErrOverlap. The caller closes the handle.
func (p *Opener) OpenPassthrough(of pinhole.Passthrough) (*Handle, error) {
	shared, first, err := p.share(of)
	if err == nil && first {
		err = p.kernel.AddPassthrough(of)
		p.changed(shared, err == nil)
	}
	if err != nil {
		return nil, fmt.Errorf("kernel path: open passthrough %s: %w", of, err)
	}
	return &Handle{path: p, shared: shared}, nil
}

// share takes part in the passthrough. It returns one that is open, or (first) one in adding, which the
// caller adds to the kernel.
func (p *Opener) share(of pinhole.Passthrough) (shared *sharedPassthrough, first bool, err error) {
	for {
		p.mu.Lock()
		shared, err = p.find(of)
		switch {
		case err != nil:
			p.mu.Unlock()
			return nil, false, err
		case shared == nil:
			shared = &sharedPassthrough{is: of, handles: 1, changing: make(chan struct{})}
			key := clientKey{of.From, of.Listen}
			p.passthroughs[key] = append(p.passthroughs[key], shared)
			p.mu.Unlock()
			return shared, true, nil
		case shared.changing == nil:
			shared.handles++
			p.mu.Unlock()
			return shared, false, nil
		}
		changing := shared.changing
		p.mu.Unlock()
		<-changing
	}
}

// find returns the passthrough that is there, nil where there is none, and an error where another one of the
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

// changed ends adding or removing: the passthrough is open or absent from now on.
func (p *Opener) changed(shared *sharedPassthrough, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(shared.changing)
	shared.changing = nil
	if open {
		return
	}
	key := clientKey{shared.is.From, shared.is.Listen}
	left := slices.DeleteFunc(p.passthroughs[key], func(p *sharedPassthrough) bool {
		return p == shared
	})
	if p.passthroughs[key] = left; len(left) == 0 {
		delete(p.passthroughs, key)
	}
}

// release ends one handle's part in a passthrough, and reports whether it was the last: then the passthrough
// is in removing.
func (p *Opener) release(shared *sharedPassthrough) (last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shared.handles--; shared.handles > 0 {
		return false
	}
	shared.changing = make(chan struct{})
	return true
}

// Handle is one session's part in a passthrough. Several goroutines may call its methods at once.
type Handle struct {
	path   *Opener
	shared *sharedPassthrough
	once   sync.Once
}

// Close ends the session's part. When it returns for the last session that has the passthrough, nobody new
// can connect; connections that were made go on. The second Close does nothing.
func (h *Handle) Close() { h.once.Do(h.closeOnce) }

func (h *Handle) closeOnce() {
	if !h.path.release(h.shared) {
		return
	}
	if err := h.path.kernel.RemovePassthrough(h.shared.is); err != nil {
		h.path.log.Error("a passthrough stays open until it expires", "client", h.shared.is.From,
			"err", err)
	}
	h.path.changed(h.shared, false)
}
