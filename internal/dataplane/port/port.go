// Package port gives out the gateway's ports for data connections, and accepts connections there. Clients
// share the ports, told apart by their addresses: a client has a port for one connection at a time.
//
// It knows nothing of FTP, and does not connect to anybody.
//
// Locks: Acceptor.mu may be held when listener.mu is taken, never the other way round. Under both, sockets
// are bound, accepted from and closed; nothing waits for a peer.
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

// claim is what no two pinholes may have in common.
type claim struct {
	from netip.Addr
	at   netip.AddrPort
}

// Claims are the ports that are given out, for both data paths. The zero value has none. Several goroutines
// may call its methods at once.
type Claims struct {
	mu     sync.Mutex
	taken  map[claim]struct{}
	rested map[claim]struct{}
	order  []claim // of rested, a ring: next is the one that has rested longest
	next   int
}

// mostRested is how many claims rest. A server with 60 active transfers a second fills them in a minute,
// which is how long TIME-WAIT lasts in Linux (TCP_TIMEWAIT_LEN in include/net/tcp.h).
const mostRested = 4096

// Draw gives out a port of the range, at the gateway's address addr, for connections from an address: each
// port that is free for it, and does not rest, is as likely as the next; ports that rest come after all
// others. use is called with one port after the other until it takes one, and its error ends that. The error
// is use's, or wraps ErrNone. The caller gives the port back.
func (c *Claims) Draw(
	from, addr netip.Addr, ports forward.PortRange, use func(netip.AddrPort) (bool, error),
) (netip.AddrPort, error) {
	for _, rested := range []bool{false, true} {
		for port := range ports.Shuffled() {
			at := netip.AddrPortFrom(addr, port)
			if !c.take(claim{from, at}, rested) {
				continue
			}
			taken, err := use(at)
			if taken {
				return at, nil
			}
			c.GiveBack(from, at)
			if err != nil {
				return netip.AddrPort{}, err
			}
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%w in %s", ErrNone, ports)
}

// take reserves a port that rests, or one that does not, and reports whether it was free.
func (c *Claims) take(k claim, rested bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, rests := c.rested[k]; rests != rested {
		return false
	}
	if _, taken := c.taken[k]; taken {
		return false
	}
	if c.taken == nil {
		c.taken = map[claim]struct{}{}
	}
	c.taken[k] = struct{}{}
	return true
}

// GiveBack gives back a port that Draw gave out.
func (c *Claims) GiveBack(from netip.Addr, at netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.taken, claim{from, at})
}

// Rest gives back a port to which somebody connected from a port that is always the same, as servers connect
// from port 20 in active mode. It rests, because the next connection would have the addresses and ports of
// the last one: the server's TIME-WAIT refuses to begin it, and conntrack, which remembers a reset connection
// for ten seconds, leads it to where the last one went.
func (c *Claims) Rest(from netip.Addr, at netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := claim{from, at}
	delete(c.taken, k)
	if _, rests := c.rested[k]; rests {
		return
	}
	if c.rested == nil {
		c.rested = map[claim]struct{}{}
	}
	if len(c.order) < mostRested {
		c.order = append(c.order, k)
	} else {
		delete(c.rested, c.order[c.next])
		c.order[c.next] = k
		c.next = (c.next + 1) % mostRested
	}
	c.rested[k] = struct{}{}
}
