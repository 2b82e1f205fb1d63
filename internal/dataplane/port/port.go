// Package port gives out the gateway's ports for data connections, and accepts connections there. Clients
// share the ports, told apart by their addresses: a client has a port for one connection at a time.
//
// It knows nothing of FTP, and does not connect to anybody.
//
// Locks: Acceptor.mu may be held when listener.mu is taken, never the other way round. Under both, sockets
// are bound, accepted from and closed; nothing waits for a peer. Allocator.mu is a leaf.
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

// allocation is what no two pinholes may have in common.
type allocation struct {
	from netip.Addr
	at   netip.AddrPort
}

// Allocator gives out ports, for both data paths. The zero value has given out none. Several
// goroutines may call its methods at once.
type Allocator struct {
	mu        sync.Mutex
	allocated map[allocation]struct{}
	rested    map[allocation]struct{}
	order     []allocation // of rested, a ring: next is the one that has rested longest
	next      int
}

// mostRested is how many allocations rest; one more, and the one that has rested longest is forgotten. A
// server with 60 active transfers a second fills them in a minute, which is how long TIME-WAIT lasts in Linux
// (TCP_TIMEWAIT_LEN in include/net/tcp.h).
const mostRested = 4096

// Allocate gives out a port of the range, at the gateway's address addr, for connections from an address:
// each port that is free for it, and does not rest, is as likely as the next; ports that rest come after all
// others. use is called with one port after the other until it takes one, and its error ends that. The error
// is use's, or wraps ErrNone. The caller releases the port.
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

// tryAllocate gives out a port that rests, or one that does not, and reports whether it was free.
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

// Release gives back a port that Allocate gave out.
func (a *Allocator) Release(from netip.Addr, at netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.allocated, allocation{from, at})
}

// Rest gives back a port that must not be given out again at once: Allocate gives it out only when it finds
// no other one. Three kinds of ports rest:
//   - A port at which nobody has connected though somebody was told of it: who comes late would take the
//     place of the next one from its address.
//   - A port whose pinhole the kernel has a moment longer: the next connection would go where the last one
//     went.
//   - A port to which a server has connected in active mode, because servers always come from port 20. The
//     next connection would have the addresses and ports of the last one: the server's TIME-WAIT refuses to
//     begin it, and conntrack, which remembers a reset connection for ten seconds, leads it to where the last
//     one went.
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
