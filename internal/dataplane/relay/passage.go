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

// Passages carries what goes through passages: while one is open, connections of its client to its ports
// are taken, any number of them, and each is spliced to the same port of the server. All clients of a port
// share its listener, and the address that a connection comes from says where it leads; one that
// leads nowhere is reset. Its methods may be called by several goroutines at once.
//
// It has one goroutine for each port that is open, and for each connection those of a Transfer.
type Passages struct {
	path   Path // for dialling
	ended  func(pinhole.Passage, Result)
	ctx    context.Context
	cancel context.CancelCauseFunc

	connections, strangers, stumbles atomic.Uint64
	carried                          atomic.Int64

	work sync.WaitGroup // gates and connections

	mu      sync.Mutex
	holders map[pinhole.Passage]int // how many have it open
	gates   map[netip.AddrPort]*gate
	closed  bool
}

// PassageCounts is what Passages has to do now, and has done since NewPassages.
type PassageCounts struct {
	Passages    int    // open now, those that are shared counted once
	Ports       int    // listened at now
	Running     int64  // connections now, with those whose server has not answered yet
	Connections uint64 // let in
	Strangers   uint64 // connections from addresses without a passage, all reset
	Stumbles    uint64 // how often the system gave no connection though one may wait: descriptors or memory ran out
}

// NewPassages returns a Passages where none is open. A server may take dialTime to answer; 0 is
// DefaultDialTime. If ended is not nil it is called at the end of each connection, by several
// goroutines at once, with the passage narrowed to the connection's port and the result: a server
// that cannot be reached is a DialError there. It must not close the Passages.
func NewPassages(dialTime time.Duration, ended func(pinhole.Passage, Result)) *Passages {
	if ended == nil {
		ended = func(pinhole.Passage, Result) {}
	}
	ps := &Passages{
		path:    Path{DialTime: dialTime},
		ended:   ended,
		holders: map[pinhole.Passage]int{},
		gates:   map[netip.AddrPort]*gate{},
	}
	ps.ctx, ps.cancel = context.WithCancelCause(context.Background())
	return ps
}

// Passage is one holder's claim that a passage be open.
type Passage struct {
	of   *Passages
	what pinhole.Passage
	once sync.Once
}

// Open opens the passage, or shares it where it is open already: it closes with the last who has it. When
// Open returns, the client can connect to every port. Passages may overlap, unless they lead the
// same client from the same port to different servers or as different addresses.
//
// Either all ports are open or none. The error is a *PassageError, and wraps ErrClosed after Close. The
// first to open a passage waits for some ten system calls a port.
func (ps *Passages) Open(p pinhole.Passage) (*Passage, error) {
	p = unmapPassage(p)
	if err := checkPassage(p); err != nil {
		return nil, err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return nil, broken(p, ErrClosed)
	}
	if ps.holders[p] == 0 {
		if err := ps.open(p); err != nil {
			return nil, err
		}
	}
	ps.holders[p]++
	return &Passage{of: ps, what: p}, nil
}

// Close gives the claim up. If it was the last one, the passage is closed when Close returns: nobody
// comes in any more. Connections that came before go on until they end. Closed twice it does nothing.
func (p *Passage) Close() {
	p.once.Do(func() { p.of.giveUp(p.what) })
}

// Close closes all passages, resets what runs in them, and waits until nothing is left. Then none can be
// opened. Closed twice it does nothing.
func (ps *Passages) Close() {
	ps.mu.Lock()
	ps.closed = true
	for at, g := range ps.gates {
		g.close()
		delete(ps.gates, at)
	}
	clear(ps.holders)
	ps.mu.Unlock()
	ps.cancel(ErrClosed)
	ps.work.Wait()
}

// Counts returns the counters. They are read one after the other: a sum need not come out to the last one.
func (ps *Passages) Counts() PassageCounts {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return PassageCounts{
		Passages:    len(ps.holders),
		Ports:       len(ps.gates),
		Running:     ps.carried.Load(),
		Connections: ps.connections.Load(),
		Strangers:   ps.strangers.Load(),
		Stumbles:    ps.stumbles.Load(),
	}
}

// open lets the passage's client through at every port. The caller holds the lock.
func (ps *Passages) open(p pinhole.Passage) error {
	for at := range entries(p) {
		if g := ps.gates[at]; g != nil {
			if taken, ok := g.leads(p.From); ok && taken != endOf(p) {
				return disputed(p, at.Port(), taken)
			}
		}
	}
	var fresh []*gate
	for at := range entries(p) {
		if ps.gates[at] != nil {
			continue
		}
		g, err := newGate(ps.ctx, at)
		if err != nil {
			for _, g := range fresh {
				g.close()
			}
			return noGate(p, at.Port(), err)
		}
		fresh = append(fresh, g)
	}
	for _, g := range fresh {
		ps.gates[g.at] = g
	}
	for at := range entries(p) {
		ps.gates[at].enter(p)
	}
	for _, g := range fresh {
		ps.work.Go(func() { ps.watch(g) })
	}
	return nil
}

// giveUp takes one holder from a passage, and closes it with the last.
func (ps *Passages) giveUp(p pinhole.Passage) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return
	}
	if ps.holders[p]--; ps.holders[p] > 0 {
		return
	}
	delete(ps.holders, p)
	for at := range entries(p) {
		if g := ps.gates[at]; g.leave(p.From) {
			g.close()
			delete(ps.gates, at)
		}
	}
}

// watch takes what comes to a gate until that is closed.
func (ps *Passages) watch(g *gate) {
	var pause time.Duration
	for {
		c, err := g.listener.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			ps.admit(g, c)
		case errors.Is(err, net.ErrClosed):
			return
		default: // of the system, not of the listener, which stays good
			ps.stumbles.Add(1)
			pause = min(max(2*pause, firstPause), lastPause)
			if !g.rest(pause) {
				return
			}
		}
	}
}

// admit carries a connection if its client has a passage.
func (ps *Passages) admit(g *gate, c *net.TCPConn) {
	from := remoteAddr(c)
	leads, ok := g.leads(from)
	if !ok {
		ps.strangers.Add(1)
		c.Close() // a reset: see abortive
		return
	}
	ps.connections.Add(1)
	ps.carried.Add(1)
	port := g.at.Port()
	p := pinhole.Passage{From: from, At: g.at.Addr(), Ports: forward.PortRange{First: port, Last: port}, To: leads.to, As: leads.as}
	ps.work.Go(func() {
		defer ps.carried.Add(-1)
		ps.carry(p, c)
	})
}

// carry connects to the server and carries data until the end.
func (ps *Passages) carry(p pinhole.Passage, c *net.TCPConn) {
	t := newTransfer(ps.ctx)
	t.work = func() error {
		t.meet()
		if err := ps.path.reach(t, To, pinhole.Leg{As: p.As, To: netip.AddrPortFrom(p.To, p.Ports.First)}); err != nil {
			return err
		}
		t.splice()
		return nil
	}
	t.armed = true
	t.keep(From, c)
	t.release = context.AfterFunc(t.ctx, t.callOff)
	t.run()
	ps.ended(p, t.Result())
}

// entries yields the gateway's address with each port of the passage.
func entries(p pinhole.Passage) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		for i := range portsOf(p.Ports) {
			if !yield(netip.AddrPortFrom(p.At, p.Ports.First+uint16(i))) {
				return
			}
		}
	}
}

// portsOf returns how many ports a range has.
func portsOf(r forward.PortRange) int {
	if r.IsEmpty() {
		return 0
	}
	return int(r.Last) - int(r.First) + 1
}

// unmapPassage writes IPv4 addresses as such, however the caller's sockets call them.
func unmapPassage(p pinhole.Passage) pinhole.Passage {
	p.From, p.At = p.From.Unmap().WithZone(""), p.At.Unmap()
	p.To, p.As = p.To.Unmap(), p.As.Unmap()
	return p
}

// checkPassage refuses a passage that is not exact: see check; and one that is too wide.
func checkPassage(p pinhole.Passage) error {
	hole := pinhole.Pinhole{From: p.From, At: netip.AddrPortFrom(p.At, 0), To: netip.AddrPortFrom(p.To, p.Ports.Last), As: p.As}
	if err := check(hole); err != nil {
		return broken(p, err)
	}
	switch {
	case p.Ports.First > p.Ports.Last:
		return broken(p, fmt.Errorf("ports %d-%d are no range", p.Ports.First, p.Ports.Last))
	case p.Ports.First < forward.LowestDataPort:
		return broken(p, fmt.Errorf("port %d is below %d", p.Ports.First, forward.LowestDataPort))
	case p.To == p.At:
		return broken(p, errors.New("it leads to itself"))
	case portsOf(p.Ports) > forward.MaxRelayedPorts:
		return tooWide(p)
	}
	return nil
}
