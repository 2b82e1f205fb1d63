// Package passthrough relays passthroughs, for gateways that may not program the kernel's tables: while one
// is open, it accepts any number of connections of its client to its ports, and relays each to the same port
// of the server.
//
// It does not read the data, and does not decide which client gets a passthrough.
//
// Locks: Passthroughs.mu may be held when those of its port.Acceptor are taken, never the other way round.
// Under Passthroughs.mu ports are bound and closed, some ten system calls a port, without waiting for a peer.
package passthrough

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/relay"
)

// ErrClosed says that the Passthroughs are closed.
var ErrClosed = relay.ErrClosed

// Passthroughs holds the open passthroughs and relays their connections. Clients share the ports: the source
// address of a connection selects its target; one from an address without a passthrough is reset. Several
// goroutines may call its methods at once.
//
// It has one goroutine for each open port, and those of a relay.Connection for each connection.
type Passthroughs struct {
	opener relay.Opener // for dialling
	ended  func(pinhole.Passthrough, error)
	ctx    context.Context
	cancel context.CancelCauseFunc

	acceptor   port.Acceptor
	goroutines sync.WaitGroup // of connections

	mu      sync.Mutex
	handles map[pinhole.Passthrough]int // how many are open
	routes  map[routeKey]*route
	closed  bool
}

// Config is what Passthroughs works with. Several goroutines may call its functions at once.
type Config struct {
	DialTime time.Duration // a server may take it to answer; 0: forward.DefaultDialTime
	// Ended is called at the end of each connection, with the passthrough narrowed to the connection's port
	// and the error of relay.Opener.Carry. It must not close the Passthroughs. It may be nil.
	Ended        func(pinhole.Passthrough, error)
	AcceptFailed func(at netip.AddrPort, err error) // that of a port.Acceptor
}

// New returns Passthroughs where none is open. The caller closes them.
func New(c Config) *Passthroughs {
	if c.Ended == nil {
		c.Ended = func(pinhole.Passthrough, error) {}
	}
	ps := &Passthroughs{
		opener:   relay.Opener{DialTime: c.DialTime},
		ended:    c.Ended,
		acceptor: port.Acceptor{Failed: c.AcceptFailed},
		handles:  map[pinhole.Passthrough]int{},
		routes:   map[routeKey]*route{},
	}
	ps.ctx, ps.cancel = context.WithCancelCause(context.Background())
	return ps
}

// Handle is one user's part in a passthrough.
type Handle struct {
	of            *Passthroughs
	what          pinhole.Passthrough
	armed, closed bool // guarded by the lock of the Passthroughs
}

// Open listens at the ports of the passthrough, or shares them with other handles: they close with the last
// one. Until Arm each connection is reset. The client may also connect through the balancers in via, with a
// header. Passthroughs may overlap, unless the same port has different
// servers or source addresses for the same client.
//
// Either all ports are open or none. The error is an *Error, and wraps ErrClosed after Close. The caller
// closes the handle.
func (ps *Passthroughs) Open(p pinhole.Passthrough, via ...netip.Prefix) (*Handle, error) {
	p = p.Unmap()
	if err := check(p); err != nil {
		return nil, err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return nil, invalid(p, ErrClosed)
	}
	if ps.handles[p] == 0 {
		if err := ps.open(p, via); err != nil {
			return nil, err
		}
	}
	ps.handles[p]++
	return &Handle{of: ps, what: p}, nil
}

// Arm opens the passthrough. When it returns, the client can connect to every port. It never fails. A second
// Arm and one after Close do nothing.
func (h *Handle) Arm() error {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if !h.armed && !h.closed && !h.of.closed {
		h.armed = true
		h.of.arm(h.what, 1)
	}
	return nil
}

// Close releases the handle. If it was the last one that has the passthrough open, no new connection is
// accepted once Close returns. Existing connections continue until they end. A second Close does nothing.
func (h *Handle) Close() {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if h.closed || h.of.closed {
		return
	}
	if h.closed = true; h.armed {
		h.of.arm(h.what, -1)
	}
	h.of.release(h.what)
}

// Close closes all passthroughs, resets their connections, and waits for them. None can be opened after it. A
// second Close does nothing.
func (ps *Passthroughs) Close() {
	ps.mu.Lock()
	ps.closed = true
	for key, r := range ps.routes {
		r.Close()
		delete(ps.routes, key)
	}
	clear(ps.handles)
	ps.mu.Unlock()
	ps.acceptor.Wait()
	ps.cancel(ErrClosed)
	ps.goroutines.Wait()
}

// open listens at every port of the passthrough. The caller holds the lock.
func (ps *Passthroughs) open(p pinhole.Passthrough, via []netip.Prefix) error {
	for at := range listenAddrs(p) {
		if r := ps.routes[routeKey{p.From, at}]; r != nil && r.target != targetOf(p) {
			return portConflict(p, at.Port(), r.target)
		}
	}
	var opened []*route
	for at := range listenAddrs(p) {
		r, err := ps.openRoute(routeKey{p.From, at}, targetOf(p), via)
		if err != nil {
			for _, r := range opened {
				ps.closeRoute(r)
			}
			return cannotListen(p, at.Port(), err)
		}
		opened = append(opened, r)
	}
	return nil
}

// openRoute routes a client at a port to a target, or shares the existing route. The caller holds the lock.
func (ps *Passthroughs) openRoute(key routeKey, to target, via []netip.Prefix) (*route, error) {
	r := ps.routes[key]
	if r == nil {
		r = &route{of: ps, routeKey: key, target: to}
		var err error
		if r.Route, err = ps.acceptor.Open(key.client, key.at, r, via...); err != nil {
			return nil, err
		}
		ps.routes[key] = r
	}
	r.passthroughs++
	return r, nil
}

// closeRoute removes one passthrough from a route, and the route with the last one. The caller holds the
// lock.
func (ps *Passthroughs) closeRoute(r *route) {
	if r.passthroughs--; r.passthroughs == 0 {
		r.Close()
		delete(ps.routes, r.routeKey)
	}
}

// arm counts one more handle that has the passthrough open. The caller holds the lock.
func (ps *Passthroughs) arm(p pinhole.Passthrough, handles int32) {
	for at := range listenAddrs(p) {
		ps.routes[routeKey{p.From, at}].armed.Add(handles)
	}
}

// release removes one handle of a passthrough, and stops listening with the last one. The caller holds the
// lock.
func (ps *Passthroughs) release(p pinhole.Passthrough) {
	if ps.handles[p]--; ps.handles[p] > 0 {
		return
	}
	delete(ps.handles, p)
	for at := range listenAddrs(p) {
		ps.closeRoute(ps.routes[routeKey{p.From, at}])
	}
}

// listenAddrs yields the gateway's address with each port of the passthrough.
func listenAddrs(p pinhole.Passthrough) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		for i := range portCount(p.Ports) {
			if !yield(netip.AddrPortFrom(p.Listen, p.Ports.First+uint16(i))) {
				return
			}
		}
	}
}

// portCount returns how many ports a range has.
func portCount(r forward.PortRange) int {
	if r.IsEmpty() {
		return 0
	}
	return int(r.Last) - int(r.First) + 1
}

// check refuses a passthrough that is not exact, or too wide to listen at every port.
func check(p pinhole.Passthrough) error {
	if err := p.Validate(); err != nil {
		return invalid(p, err)
	}
	if n := portCount(p.Ports); n > forward.MaxRelayedPorts {
		return tooWide(p, fmt.Errorf("%d ports are more than %d, the most without the kernel's tables",
			n, forward.MaxRelayedPorts))
	}
	return nil
}
