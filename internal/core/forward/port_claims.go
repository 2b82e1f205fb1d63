package forward

import (
	"cmp"
	"net/netip"
	"slices"
)

// portClaims finds out which forwards reserve ports (Forward.reservedPorts) that another one needs, too. It
// is quick also where ten thousand forwards reserve ports at one address.
type portClaims struct {
	forwards []Forward
	at       map[netip.Addr]*portIndex // by listen address
	all      *portIndex
}

// reservation is the ports of forwards that differ in nothing that matters here but in their servers.
type reservation struct {
	ports   PortRange
	by      []int            // ascending
	servers map[string][]int // the same, by server
}

// portIndex has reservations in the order of their first ports.
type portIndex struct {
	reservations []reservation
	lasts        []uint16 // the highest last port of this reservation and those before
}

func newPortClaims(forwards []Forward) *portClaims {
	type likeness struct {
		addr          netip.Addr
		iface         string
		ports         PortRange
		tracking      Tracking
		passesThrough bool
	}
	alike := map[likeness][]int{}
	for i, f := range forwards {
		if ports := f.reservedPorts(); !ports.IsEmpty() {
			l := likeness{f.Listen.Addr, f.Listen.Interface, ports, f.Tracking, f.PassesThrough()}
			alike[l] = append(alike[l], i)
		}
	}
	p := &portClaims{forwards: forwards, at: map[netip.Addr]*portIndex{}, all: &portIndex{}}
	for l, by := range alike {
		r := reservation{l.ports, by, map[string][]int{}}
		for _, i := range by {
			server := forwards[i].Server.Host
			r.servers[server] = append(r.servers[server], i)
		}
		p.all.reservations = append(p.all.reservations, r)
		if p.at[l.addr] == nil {
			p.at[l.addr] = &portIndex{}
		}
		p.at[l.addr].reservations = append(p.at[l.addr].reservations, r)
	}
	p.all.sort()
	for _, x := range p.at {
		x.sort()
	}
	return p
}

func (x *portIndex) sort() {
	slices.SortFunc(x.reservations, func(a, b reservation) int {
		return cmp.Or(cmp.Compare(a.ports.First, b.ports.First), cmp.Compare(a.by[0], b.by[0]))
	})
	last := uint16(0)
	for _, r := range x.reservations {
		last = max(last, r.ports.Last)
		x.lasts = append(x.lasts, last)
	}
}

// overlapping calls yield for the reservations that overlap ports, until it returns false.
func (x *portIndex) overlapping(ports PortRange, yield func(reservation) bool) {
	if x == nil {
		return
	}
	n, _ := slices.BinarySearchFunc(x.reservations, int(ports.Last)+1, func(r reservation, first int) int {
		return cmp.Compare(int(r.ports.First), first)
	})
	for n--; n >= 0 && x.lasts[n] >= ports.First; n-- {
		if r := x.reservations[n]; r.ports.Last >= ports.First && !yield(r) {
			return
		}
	}
}

const (
	// namedConflicts bounds how many conflicts of one kind a forward has reported; the others are counted.
	namedConflicts = 3
	// examinedAtMost bounds how many overlapping reservations are examined for one forward. Of more than that
	// some are not counted; the last of the forwards that overlap has a conflict in any case.
	examinedAtMost = 200
)

// conflicts are the forwards that a forward conflicts with.
type conflicts struct {
	first []int // at most namedConflicts, ascending
	more  int   // how many there are beside those, at least
}

// sharing says whether a forward may reserve ports that another one needs.
type sharing int

const (
	shareNever sharing = iota
	shareOfOneServer
	shareAlways
)

// of returns with which forwards before a number forward i conflicts about ports, which it needs. may answers
// for forwards that differ in their servers alone.
func (p *portClaims) of(i, before int, ports PortRange, may func(o *Forward) sharing) (found conflicts) {
	f := &p.forwards[i]
	examined := 0
	examine := func(r reservation) bool {
		o := &p.forwards[r.by[0]]
		if !f.Listen.sameHost(o.Listen) {
			return true
		}
		examined++
		except := []int{i}
		switch may(o) {
		case shareAlways:
			return examined < examinedAtMost
		case shareOfOneServer:
			except = r.servers[f.Server.Host]
		case shareNever:
			if _, own := slices.BinarySearch(r.by, i); !own {
				except = nil
			}
		}
		found.add(r.by, except, before)
		return examined < examinedAtMost
	}
	if !f.Listen.Addr.IsValid() {
		p.all.overlapping(ports, examine)
	} else {
		p.at[f.Listen.Addr].overlapping(ports, examine)
		p.at[netip.Addr{}].overlapping(ports, examine)
	}
	found.more -= len(found.first)
	return found
}

// add adds the forwards before a number, except some of them. All are ascending.
func (c *conflicts) add(by, except []int, before int) {
	n, _ := slices.BinarySearch(by, before)
	excepted, _ := slices.BinarySearch(except, before)
	all := n - excepted
	c.more += all
	for _, j := range by[:n] {
		if all == 0 || len(c.first) == namedConflicts && c.first[namedConflicts-1] < j {
			return
		}
		if _, skip := slices.BinarySearch(except, j); skip {
			continue
		}
		all--
		at, _ := slices.BinarySearch(c.first, j)
		c.first = slices.Insert(c.first, at, j)
		c.first = c.first[:min(len(c.first), namedConflicts)]
	}
}
