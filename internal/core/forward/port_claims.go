package forward

import (
	"cmp"
	"net/netip"
	"slices"
)

// portClaims finds out which forwards reserve ports (Forward.reservedPorts) that another one needs, too. It is
// quick also where ten thousand forwards reserve ports at one address.
type portClaims struct {
	forwards []Forward
	at       map[netip.Addr]*portIndex // by listen address
	all      *portIndex
}

// reservation is the ports of forwards that are alike: whoever conflicts with one does so with all.
type reservation struct {
	ports PortRange
	by    []int // ascending
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
		server        string
		tracking      Tracking
		passesThrough bool
	}
	alike := map[likeness][]int{}
	for i, f := range forwards {
		if ports := f.reservedPorts(); !ports.IsEmpty() {
			l := likeness{f.Listen.Addr, f.Listen.Interface, ports, f.Server.Host, f.Tracking, f.PassesThrough()}
			alike[l] = append(alike[l], i)
		}
	}
	p := &portClaims{forwards: forwards, at: map[netip.Addr]*portIndex{}, all: &portIndex{}}
	for l, by := range alike {
		r := reservation{l.ports, by}
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

// overlapping calls yield for the reservations that overlap ports.
func (x *portIndex) overlapping(ports PortRange, yield func(reservation)) {
	if x == nil {
		return
	}
	n, _ := slices.BinarySearchFunc(x.reservations, int(ports.Last)+1, func(r reservation, first int) int {
		return cmp.Compare(int(r.ports.First), first)
	})
	for n--; n >= 0 && x.lasts[n] >= ports.First; n-- {
		if r := x.reservations[n]; r.ports.Last >= ports.First {
			yield(r)
		}
	}
}

// namedConflicts bounds how many conflicts of one kind a forward has reported; the others are counted.
const namedConflicts = 3

// conflicts are the forwards that a forward conflicts with.
type conflicts struct {
	first []int // the first ones, at most namedConflicts, ascending
	more  int   // how many there are beside those
}

// of returns with which forwards before a number forward i conflicts about ports, which it needs: conflict says
// that of forwards that are alike.
func (p *portClaims) of(i, before int, ports PortRange, conflict func(o Forward) bool) (found conflicts) {
	f := p.forwards[i]
	examine := func(r reservation) {
		if o := p.forwards[r.by[0]]; !f.Listen.sameHost(o.Listen) || !conflict(o) {
			return
		}
		n, _ := slices.BinarySearch(r.by, before)
		if at, itself := slices.BinarySearch(r.by[:n], i); itself {
			found.more--
			found.add(r.by[:at])
			found.add(r.by[at+1 : min(n, at+1+namedConflicts)])
		} else {
			found.add(r.by[:n])
		}
		found.more += n
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

// add adds forwards to the first ones, if they are.
func (c *conflicts) add(by []int) {
	for _, j := range by[:min(len(by), namedConflicts)] {
		at, _ := slices.BinarySearch(c.first, j)
		c.first = slices.Insert(c.first, at, j)
		c.first = c.first[:min(len(c.first), namedConflicts)]
	}
}
