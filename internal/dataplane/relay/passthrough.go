package relay

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
)

// Passthroughs carries what goes through passages: while one is open, connections of its client to its ports
// are taken, any number of them, and each is spliced to the same port of the server. All clients of a port
// share its listener, and the address that a connection comes from says where it leads; one that
// leads nowhere is reset. Its methods may be called by several goroutines at once.
//
// It has one goroutine for each port that is open, and for each connection those of a Transfer.
type Passthroughs struct {
	path   Path // for dialling
	ended  func(pinhole.Passthrough, Result)
	ctx    context.Context
	cancel context.CancelCauseFunc

	connections, strangers, acceptErrors atomic.Uint64
	running                              atomic.Int64

	work sync.WaitGroup // gates and connections

	mu        sync.Mutex
	holders   map[pinhole.Passthrough]int // how many have it open
	listeners map[netip.AddrPort]*portListener
	closed    bool
}

// PassthroughCounts is what Passages has to do now, and has done since NewPassages.
type PassthroughCounts struct {
	Passthroughs int    // open now, those that are shared counted once
	Ports        int    // listened at now
	Running      int64  // connections now, with those whose server has not answered yet
	Connections  uint64 // let in
	Strangers    uint64 // connections from addresses without a passage, all reset
	AcceptErrors uint64 // how often the system gave no connection though one may wait: descriptors or memory ran out
}

// NewPassthroughs returns a Passages where none is open. A server may take dialTime to answer; 0 is
// DefaultDialTime. If ended is not nil it is called at the end of each connection, by several
// goroutines at once, with the passage narrowed to the connection's port and the result: a server
// that cannot be reached is a DialError there. It must not close the Passages.
func NewPassthroughs(dialTime time.Duration, ended func(pinhole.Passthrough, Result)) *Passthroughs {
	if ended == nil {
		ended = func(pinhole.Passthrough, Result) {}
	}
	ps := &Passthroughs{
		path:      Path{DialTime: dialTime},
		ended:     ended,
		holders:   map[pinhole.Passthrough]int{},
		listeners: map[netip.AddrPort]*portListener{},
	}
	ps.ctx, ps.cancel = context.WithCancelCause(context.Background())
	return ps
}

// Handle is one holder's claim that a passage be open.
type Handle struct {
	of   *Passthroughs
	what pinhole.Passthrough
	once sync.Once
}

// Open opens the passage, or shares it where it is open already: it closes with the last who has it. When
// Open returns, the client can connect to every port. Passages may overlap, unless they lead the
// same client from the same port to different servers or as different addresses.
//
// Either all ports are open or none. The error is a *PassageError, and wraps ErrClosed after Close. The
// first to open a passage waits for some ten system calls a port.
func (ps *Passthroughs) Open(p pinhole.Passthrough) (*Handle, error) {
	p = unmapPassage(p)
	if err := checkPassage(p); err != nil {
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

// Close gives the claim up. If it was the last one, the passage is closed when Close returns: nobody
// comes in any more. Connections that came before go on until they end. Closed twice it does nothing.
func (p *Handle) Close() {
	p.once.Do(func() { p.of.release(p.what) })
}

// Close closes all passages, resets what runs in them, and waits until nothing is left. Then none can be
// opened. Closed twice it does nothing.
func (ps *Passthroughs) Close() {
	ps.mu.Lock()
	ps.closed = true
	for at, g := range ps.listeners {
		g.close()
		delete(ps.listeners, at)
	}
	clear(ps.holders)
	ps.mu.Unlock()
	ps.cancel(ErrClosed)
	ps.work.Wait()
}

// Counts returns the counters. They are read one after the other: a sum need not come out to the last one.
func (ps *Passthroughs) Counts() PassthroughCounts {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return PassthroughCounts{
		Passthroughs: len(ps.holders),
		Ports:        len(ps.listeners),
		Running:      ps.running.Load(),
		Connections:  ps.connections.Load(),
		Strangers:    ps.strangers.Load(),
		AcceptErrors: ps.acceptErrors.Load(),
	}
}

// open lets the passage's client through at every port. The caller holds the lock.
func (ps *Passthroughs) open(p pinhole.Passthrough) error {
	for at := range listenAddrs(p) {
		if g := ps.listeners[at]; g != nil {
			if taken, ok := g.routeOf(p.From); ok && taken != targetOf(p) {
				return portConflict(p, at.Port(), taken)
			}
		}
	}
	var fresh []*portListener
	for at := range listenAddrs(p) {
		if ps.listeners[at] != nil {
			continue
		}
		g, err := newPortListener(ps.ctx, at)
		if err != nil {
			for _, g := range fresh {
				g.close()
			}
			return cannotListen(p, at.Port(), err)
		}
		fresh = append(fresh, g)
	}
	for _, g := range fresh {
		ps.listeners[g.listen] = g
	}
	for at := range listenAddrs(p) {
		ps.listeners[at].addRoute(p)
	}
	for _, g := range fresh {
		ps.work.Go(func() { ps.acceptAll(g) })
	}
	return nil
}

// release takes one holder from a passage, and closes it with the last.
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
		if g := ps.listeners[at]; g.removeRoute(p.From) {
			g.close()
			delete(ps.listeners, at)
		}
	}
}

// acceptAll takes what comes to a gate until that is closed.
func (ps *Passthroughs) acceptAll(g *portListener) {
	var pause time.Duration
	for {
		c, err := g.listener.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			ps.accept(g, c)
		case errors.Is(err, net.ErrClosed):
			return
		default: // of the system, not of the listener, which stays good
			ps.acceptErrors.Add(1)
			pause = min(max(2*pause, firstPause), lastPause)
			if !g.pause(pause) {
				return
			}
		}
	}
}

// accept carries a connection if its client has a passage.
func (ps *Passthroughs) accept(g *portListener, c *net.TCPConn) {
	from := remoteAddr(c)
	leads, ok := g.routeOf(from)
	if !ok {
		ps.strangers.Add(1)
		c.Close() // a reset: see abortive
		return
	}
	ps.connections.Add(1)
	ps.running.Add(1)
	port := g.listen.Port()
	p := pinhole.Passthrough{From: from, Listen: g.listen.Addr(), Ports: forward.PortRange{First: port, Last: port}, Target: leads.server, SourceIP: leads.sourceIP}
	ps.work.Go(func() {
		defer ps.running.Add(-1)
		ps.carry(p, c)
	})
}

// carry connects to the server and carries data until the end.
func (ps *Passthroughs) carry(p pinhole.Passthrough, c *net.TCPConn) {
	t := newTransfer(ps.ctx)
	t.work = func() error {
		t.markConnected()
		if err := ps.path.reach(t, To, pinhole.Leg{SourceIP: p.SourceIP, Target: netip.AddrPortFrom(p.Target, p.Ports.First)}); err != nil {
			return err
		}
		t.splice()
		return nil
	}
	t.armed = true
	t.setConn(From, c)
	t.release = context.AfterFunc(t.ctx, t.callOff)
	t.run()
	ps.ended(p, t.Result())
}

// listenAddrs yields the gateway's address with each port of the passage.
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

// unmapPassage writes IPv4 addresses as such, however the caller's sockets call them.
func unmapPassage(p pinhole.Passthrough) pinhole.Passthrough {
	p.From, p.Listen = p.From.Unmap().WithZone(""), p.Listen.Unmap()
	p.Target, p.SourceIP = p.Target.Unmap(), p.SourceIP.Unmap()
	return p
}

// checkPassage refuses a passage that is not exact: see check; and one that is too wide.
func checkPassage(p pinhole.Passthrough) error {
	hole := pinhole.Pinhole{From: p.From, Listen: netip.AddrPortFrom(p.Listen, 0), Target: netip.AddrPortFrom(p.Target, p.Ports.Last), SourceIP: p.SourceIP}
	if err := check(hole); err != nil {
		return invalid(p, err)
	}
	switch {
	case p.Ports.First > p.Ports.Last:
		return invalid(p, fmt.Errorf("ports %d-%d are no range", p.Ports.First, p.Ports.Last))
	case p.Ports.First < forward.LowestDataPort:
		return invalid(p, fmt.Errorf("port %d is below %d", p.Ports.First, forward.LowestDataPort))
	case p.Target == p.Listen:
		return invalid(p, errors.New("it leads to itself"))
	case portCount(p.Ports) > forward.MaxRelayedPorts:
		return tooWide(p)
	}
	return nil
}
