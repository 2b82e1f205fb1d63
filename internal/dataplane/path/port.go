package path

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ftpgate/internal/core/forward"
)

// isFree reports whether the gateway does not use a port itself. At a port where the relay listens, the
// kernel may take the connections of other addresses.
func (p *Paths) isFree(at netip.AddrPort) bool {
	return !p.isReserved(at) && (p.relay.Listens(at) || p.free.has(at))
}

// isReserved reports whether rules of the forwards translate a port.
func (p *Paths) isReserved(at netip.AddrPort) bool {
	reserved := p.reserved.Load()
	return reserved != nil && reserved.has(at)
}

// reservedPorts are the ports of the gateway that rules translate. The invalid address as key stands for all
// addresses. No two forwards share a port (forward.Check).
type reservedPorts struct {
	listens map[netip.Addr]map[uint16]bool
	ranges  map[netip.Addr][]forward.PortRange
}

// reservedBy returns the ports that the rules of the forwards and of their passthroughs translate.
func reservedBy(forwards []forward.Resolved) *reservedPorts {
	r := &reservedPorts{map[netip.Addr]map[uint16]bool{}, map[netip.Addr][]forward.PortRange{}}
	for _, f := range forwards {
		at := f.Listen.Addr
		if f.Tracking != forward.TrackingProxy {
			if r.listens[at] == nil {
				r.listens[at] = map[uint16]bool{}
			}
			r.listens[at][f.Listen.Port] = true
		}
		if !f.ServerPorts.IsEmpty() && f.ServerPorts != forward.AllPorts {
			r.ranges[at] = append(r.ranges[at], f.ServerPorts)
		}
	}
	return r
}

func (r *reservedPorts) has(at netip.AddrPort) bool {
	for _, addr := range []netip.Addr{at.Addr(), {}} {
		if r.listens[addr][at.Port()] ||
			slices.ContainsFunc(r.ranges[addr],
				func(ports forward.PortRange) bool { return ports.Contains(at.Port()) }) {
			return true
		}
	}
	return false
}

const (
	// freeTime is how long an answer of the kernel is valid. Asking costs four system calls, and a busy
	// gateway draws most ports of a range again and again.
	freeTime = 2 * time.Minute
	// maxFree is how many answers are kept: a range of passive ports at four addresses, some 6 MiB.
	maxFree = 1 << 16
)

// portCache remembers the ports without a listener. If a program begins to listen while an answer is valid,
// at most one connection of its clients meets a pinhole, once.
type portCache struct {
	ask func(netip.AddrPort) bool // the kernel

	mu    sync.Mutex
	since map[netip.AddrPort]time.Time // when the port was found free
}

func newPortCache(ask func(netip.AddrPort) bool) *portCache {
	return &portCache{ask: ask, since: map[netip.AddrPort]time.Time{}}
}

// has reports whether a port is free. It may ask the kernel.
func (c *portCache) has(at netip.AddrPort) bool {
	now := time.Now()
	c.mu.Lock()
	since, known := c.since[at]
	c.mu.Unlock()
	if known && now.Sub(since) < freeTime {
		return true
	}
	if !c.ask(at) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.since) >= maxFree {
		clear(c.since)
	}
	c.since[at] = now
	return true
}

// hostTime is how long the list of the gateway's addresses is valid.
const hostTime = 30 * time.Second

// hostAddresses are the gateway's own addresses. A connection to or from one of them is not routed.
type hostAddresses struct {
	read func() ([]netip.Addr, error)
	log  *slog.Logger

	mu    sync.Mutex
	addrs map[netip.Addr]bool
	since time.Time // when they were read, or reading failed
}

// has reports whether an address is the gateway's own. It may read the list anew.
func (h *hostAddresses) has(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	now := time.Now()
	h.mu.Lock()
	addrs, old := h.addrs, now.Sub(h.since) >= hostTime
	if old {
		h.since = now // one caller reads, the others use the old ones
	}
	h.mu.Unlock()
	if old {
		addrs = h.refresh()
	}
	return addrs[addr]
}

// refresh reads the gateway's addresses and returns them. After an error the old ones hold.
func (h *hostAddresses) refresh() map[netip.Addr]bool {
	list, err := h.read()
	if err != nil {
		h.log.Warn("the gateway's own addresses cannot be read", "err", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since = time.Now()
	if err == nil {
		h.addrs = make(map[netip.Addr]bool, len(list))
		for _, addr := range list {
			h.addrs[addr.WithZone("")] = true
		}
	}
	return h.addrs
}
