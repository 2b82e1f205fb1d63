// Package port gives out the gateway's ports for data connections, and accepts connections there. Clients
// share the ports, which tell them apart by their addresses: a client has a port for one connection at a
// time.
//
// It knows nothing of FTP, and makes no connections.
//
// Locks: Acceptor.mu may be held when listener.mu is taken, never the other way round. Under both, sockets
// are bound, accepted from and closed, without waiting for a peer. Allocator.mu is a leaf.
package port

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"ftpgate/internal/core/forward"
)

// ErrNone says that no port is free.
var ErrNone = errors.New("no passive port is free")

// allocation is unique among the open pinholes.
type allocation struct {
	from netip.Addr
	at   netip.AddrPort
}

// Allocator gives out ports, for both data paths. The zero value is ready. Several goroutines may call its
// methods at once.
type Allocator struct {
	mu        sync.Mutex
	allocated map[allocation]struct{}
	rested    map[allocation]struct{}
	order     []allocation // of rested, a ring: next is the one that has rested longest
	next      int
}

// mostRested is how many allocations rest; one more, and the one that has rested longest is forgotten. A
// server with 60 active transfers a second fills them in a minute, the length of TIME-WAIT in Linux
// (TCP_TIMEWAIT_LEN in include/net/tcp.h).
const mostRested = 4096

// Allocate gives out a port of the range, at the gateway's address addr, for connections from an address. It
// picks free ports at random, resting ones last, and calls use with each until use accepts one or returns an
// error. The error is use's, or wraps ErrNone. The caller releases the port.
func (a *Allocator) Allocate(
	from, addr netip.Addr, ports forward.PortRange, use func(netip.AddrPort) (bool, error),
) (netip.AddrPort, error) {
	for _, rested := range []bool{false, true} {
		for port := range ports.Shuffled() {
			at := netip.AddrPortFrom(addr, port)
			if !a.tryAllocate(allocation{from, at}, rested) {
				continue
			}
			taken, err := use(at)
			if taken {
				return at, nil
			}
			a.Release(from, at)
			if err != nil {
				return netip.AddrPort{}, err
			}
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%w in %s", ErrNone, ports)
}

// tryAllocate gives out a port, a resting one only if rested is set, and reports whether it was free.
func (a *Allocator) tryAllocate(k allocation, rested bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, rests := a.rested[k]; rests != rested {
		return false
	}
	if _, taken := a.allocated[k]; taken {
		return false
	}
	if a.allocated == nil {
		a.allocated = map[allocation]struct{}{}
	}
	a.allocated[k] = struct{}{}
	return true
}

// Release returns a port that Allocate gave out.
func (a *Allocator) Release(from netip.Addr, at netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.allocated, allocation{from, at})
}

// Rest returns a port that must not be reused at once: Allocate gives it out only when no other is free.
// Three kinds of ports rest:
//   - A port that was announced and not used: a late peer would take the place of the next one from its
//     address.
//   - A port whose pinhole the kernel keeps a moment longer: the next connection would go to the old target.
//   - A port to which a server has connected in active mode, because servers always connect from port 20.
//     The next connection would have the same addresses and ports as the last one: the server's TIME-WAIT
//     refuses it, and conntrack, which remembers a reset connection for ten seconds, translates it to the
//     old target.
func (a *Allocator) Rest(from netip.Addr, at netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := allocation{from, at}
	delete(a.allocated, k)
	if _, rests := a.rested[k]; rests {
		return
	}
	if a.rested == nil {
		a.rested = map[allocation]struct{}{}
	}
	if len(a.order) < mostRested {
		a.order = append(a.order, k)
	} else {
		delete(a.rested, a.order[a.next])
		a.order[a.next] = k
		a.next = (a.next + 1) % mostRested
	}
	a.rested[k] = struct{}{}
}
