// Package passthrough relays what goes through passthroughs, for gateways that may not program the kernel's
// tables: while one is open, connections of its client to its ports are accepted, any number of them, and
// each is relayed to the same port of the server.
//
// It reads nothing of what goes through, and decides nothing about who may have a passthrough.
//
// Locks: Passthroughs.mu may be held when portListener.mu is taken, never the other way round. Under
// Passthroughs.mu ports are bound and closed, some ten system calls a port; nothing waits for a peer.
package passthrough

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relay"
	"ftpgate/internal/dataplane/socket"
)

// ErrClosed says that the Passthroughs are closed.
var ErrClosed = relay.ErrClosed

// Passthroughs has passthroughs open and relays their connections. All clients of a port share its
// listener, and the address that a connection comes from says where it goes; one from an address without a
// passthrough is reset. Several goroutines may call its methods at once.
//
// It has one goroutine for each port that is open, and for each connection those of a relay.Transfer.
type Passthroughs struct {
	path   relay.Path // for dialling
	ended  func(pinhole.Passthrough, relay.Result)
	ctx    context.Context
	cancel context.CancelCauseFunc

	connections, strangers, acceptErrors atomic.Uint64
	running                              atomic.Int64

	goroutines sync.WaitGroup // of listeners and connections

	mu        sync.Mutex
	holders   map[pinhole.Passthrough]int // handles that are open
	listeners map[netip.AddrPort]*portListener
	closed    bool
}

// Counts is what a Passthroughs does now, and has done since New.
type Counts struct {
	Passthroughs int    // open now, shared ones counted once
	Ports        int    // listened at now
	Running      int64  // connections now, with those whose server has not answered yet
	Connections  uint64 // let in
	Strangers    uint64 // connections from addresses without a passthrough, all reset
	// AcceptErrors is how often the system gave no connection though one may wait: descriptors or memory
	// ran out.
	AcceptErrors uint64
}

// New returns Passthroughs where none is open. A server may take dialTime to answer; 0:
// relay.DefaultDialTime. If ended is not nil it is called at the end of each connection, by several
// goroutines at once, with the passthrough narrowed to the connection's port and the result: a server that
// cannot be reached is a *relay.DialError there. It must not close the Passthroughs. The caller closes
// them.
func New(dialTime time.Duration, ended func(pinhole.Passthrough, relay.Result)) *Passthroughs {
	if ended == nil {
		ended = func(pinhole.Passthrough, relay.Result) {}
	}
	ps := &Passthroughs{
		path:      relay.Path{DialTime: dialTime},
		ended:     ended,
		holders:   map[pinhole.Passthrough]int{},
		listeners: map[netip.AddrPort]*portListener{},
	}
	ps.ctx, ps.cancel = context.WithCancelCause(context.Background())
	return ps
}

// Handle is one user's part in a passthrough.
type Handle struct {
	of   *Passthroughs
	what pinhole.Passthrough
	once sync.Once
}

// Open opens the passthrough, or shares it where it is open already: it closes with the last handle. When
// Open returns, the client can connect to every port. Passthroughs may overlap, unless they lead the same
// client from the same port to different servers or with different source addresses.
//
// Either all ports are open or none. The error is an *Error, and wraps ErrClosed after Close. The caller
// closes the handle.
func (ps *Passthroughs) Open(p pinhole.Passthrough) (*Handle, error) {
	p = p.Unmap()
	if err := check(p); err != nil {
		return nil, err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return nil, invalid(p, ErrClosed)
	}
	if ps.holders[p] == 0 {
		if err := ps.open(p); err != nil {
			return nil, err
		}
	}
	ps.holders[p]++
	return &Handle{of: ps, what: p}, nil
}

// Close gives the part up. If it was the last one, the passthrough is closed when Close returns: nobody
// comes in any more. Connections that came before go on until they end. Closed twice it does nothing.
func (h *Handle) Close() {
	h.once.Do(func() { h.of.release(h.what) })
}

// Close closes all passthroughs, resets what runs in them, and waits until nothing is left. None can be
// opened after it. Closed twice it does nothing.
func (ps *Passthroughs) Close() {
	ps.mu.Lock()
	ps.closed = true
	for at, l := range ps.listeners {
		l.close()
		delete(ps.listeners, at)
	}
	clear(ps.holders)
	ps.mu.Unlock()
	ps.cancel(ErrClosed)
	ps.goroutines.Wait()
}

// Counts returns the counters. They are read one after the other: a sum need not be exact.
func (ps *Passthroughs) Counts() Counts {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return Counts{
		Passthroughs: len(ps.holders),
		Ports:        len(ps.listeners),
		Running:      ps.running.Load(),
		Connections:  ps.connections.Load(),
		Strangers:    ps.strangers.Load(),
		AcceptErrors: ps.acceptErrors.Load(),
	}
}

// open lets the passthrough's client through at every port. The caller holds the lock.
func (ps *Passthroughs) open(p pinhole.Passthrough) error {
	for at := range listenAddrs(p) {
		if l := ps.listeners[at]; l != nil {
			if taken, ok := l.targetOf(p.From); ok && taken != targetOf(p) {
				return portConflict(p, at.Port(), taken)
			}
		}
	}
	var fresh []*portListener
	for at := range listenAddrs(p) {
		if ps.listeners[at] != nil {
			continue
		}
		l, err := newPortListener(at)
		if err != nil {
			for _, l := range fresh {
				l.close()
			}
			return cannotListen(p, at.Port(), err)
		}
		fresh = append(fresh, l)
	}
	for _, l := range fresh {
		ps.listeners[l.at] = l
	}
	for at := range listenAddrs(p) {
		ps.listeners[at].addRoute(p)
	}
	for _, l := range fresh {
		ps.goroutines.Go(func() { ps.acceptAll(l) })
	}
	return nil
}

// release takes one handle from a passthrough, and closes the passthrough with the last.
func (ps *Passthroughs) release(p pinhole.Passthrough) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return
	}
	if ps.holders[p]--; ps.holders[p] > 0 {
		return
	}
	delete(ps.holders, p)
	for at := range listenAddrs(p) {
		if l := ps.listeners[at]; l.removeRoute(p.From) {
			l.close()
			delete(ps.listeners, at)
		}
	}
}

// acceptAll takes what comes to a port until its listener is closed.
func (ps *Passthroughs) acceptAll(l *portListener) {
	var pause time.Duration
	for {
		c, err := l.listener.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			ps.accept(l, c)
		case errors.Is(err, net.ErrClosed):
			return
		default: // of the system, not of the listener, which stays good
			ps.acceptErrors.Add(1)
			pause = min(max(2*pause, firstPause), lastPause)
			if !l.pause(pause) {
				return
			}
		}
	}
}

// accept relays a connection if its client has a passthrough.
func (ps *Passthroughs) accept(l *portListener, c *net.TCPConn) {
	from := socket.PeerAddr(c)
	to, ok := l.targetOf(from)
	if !ok {
		ps.strangers.Add(1)
		c.Close() // a reset: see package socket
		return
	}
	ps.connections.Add(1)
	ps.running.Add(1)
	port := l.at.Port()
	p := pinhole.Passthrough{From: from, Listen: l.at.Addr(),
		Ports:  forward.PortRange{First: port, Last: port},
		Target: to.server, SourceIP: to.sourceIP}
	ps.goroutines.Go(func() {
		defer ps.running.Add(-1)
		leg := pinhole.Leg{SourceIP: to.sourceIP, Target: netip.AddrPortFrom(to.server, port)}
		ps.ended(p, ps.path.Carry(ps.ctx, c, leg))
	})
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
