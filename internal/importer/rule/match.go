package rule

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// PortRange is a range of ports; both ends belong to it. The zero value is empty.
type PortRange struct{ First, Last uint16 }

// IsEmpty reports whether the range has no port.
func (r PortRange) IsEmpty() bool { return r == PortRange{} }

// Contains reports whether a port is in the range.
func (r PortRange) Contains(p uint16) bool { return !r.IsEmpty() && r.First <= p && p <= r.Last }

// Match is the packets that a rule is for: those that meet all of its conditions.
type Match struct {
	Protocol     string // "tcp", "udp", or another's name or number; empty: any
	In, Out      Interfaces
	Source       Addresses
	Destination  Addresses
	Ports        Ports // the destination's
	SourcePorts  Ports
	LocalAddress bool // the destination is an address of the gateway
	// Established: only packets of connections that exist, which no translation and no new client meets.
	Established bool
	// Translated: only connections whose destination was translated.
	Translated bool
	// Others are conditions that cannot be expressed here, as the rule words them.
	Others []string
	never  bool
}

// Never reports whether no packet can meet the conditions.
func (m Match) Never() bool {
	return m.never || m.Source.none() || m.Destination.none() || m.Ports.none() || m.SourcePorts.none()
}

// And returns the packets that meet the conditions of both.
func (m Match) And(o Match) Match {
	r := m
	switch {
	case m.Protocol == "":
		r.Protocol = o.Protocol
	case o.Protocol != "" && o.Protocol != m.Protocol:
		r.never = true
	}
	var ok [2]bool
	r.In, ok[0] = m.In.and(o.In)
	r.Out, ok[1] = m.Out.and(o.Out)
	r.never = r.never || m.never || o.never || !ok[0] || !ok[1]
	r.Source = m.Source.And(o.Source)
	r.Destination = m.Destination.And(o.Destination)
	r.Ports = m.Ports.And(o.Ports)
	r.SourcePorts = m.SourcePorts.And(o.SourcePorts)
	r.LocalAddress = m.LocalAddress || o.LocalAddress
	r.Established = m.Established || o.Established
	r.Translated = m.Translated || o.Translated
	r.Others = slices.Concat(m.Others, o.Others)
	return r
}

// Covers reports whether every packet of o surely meets the conditions of m.
func (m Match) Covers(o Match) bool {
	return len(m.Others) == 0 && !m.Established && !m.Translated && (m.Protocol == "" ||
		m.Protocol == o.Protocol) &&
		m.In.covers(o.In) && m.Out.covers(o.Out) && m.Source.covers(o.Source) &&
		m.Destination.covers(o.Destination) && m.Ports.covers(o.Ports) &&
		m.SourcePorts.covers(o.SourcePorts) &&
		(!m.LocalAddress || o.LocalAddress)
}

// Zone returns the condition that stands for a zone of a program, whose interfaces are not known.
func Zone(name string) Interfaces { return Interfaces{Name: "zone " + name} }

// Interfaces is a condition on an interface. The zero value is met by all.
type Interfaces struct {
	Name string // one interface; with "*" at its end all that begin so
	Not  bool   // every interface but this
}

// One returns the interface if the condition names exactly one.
func (i Interfaces) One() (string, bool) {
	return i.Name, i.Name != "" && !i.Not && !strings.HasSuffix(i.Name, "*")
}

// String returns the condition in words.
func (i Interfaces) String() string {
	if i.Not {
		return "not " + i.Name
	}
	return i.Name
}

// matches reports whether an interface's name fits, without Not.
func (i Interfaces) matches(name string) bool {
	if stem, wild := strings.CutSuffix(i.Name, "*"); wild {
		return strings.HasPrefix(name, stem)
	}
	return i.Name == name
}

// and returns what meets both; false: nothing does. Of two conditions that cannot be one, it keeps the
// narrower.
func (i Interfaces) and(o Interfaces) (Interfaces, bool) {
	switch {
	case i.Name == "" || i == o:
		return o, true
	case o.Name == "":
		return i, true
	case !i.Not && !o.Not:
		if i.matches(o.Name) {
			return o, true
		}
		return i, o.matches(i.Name)
	case i.Not && o.Not:
		return i, true
	case i.Not:
		return o, !i.matches(o.Name)
	default:
		return i, !o.matches(i.Name)
	}
}

func (i Interfaces) covers(o Interfaces) bool {
	switch {
	case i.Name == "" || i == o:
		return true
	case i.Not:
		return o.Name != "" && !o.Not && !i.matches(o.Name)
	}
	return o.Name != "" && !o.Not && i.matches(o.Name)
}

// Addresses is a condition on an address. The zero value is met by all.
type Addresses struct {
	Prefixes []netip.Prefix
	Limited  bool // only Prefixes meet it
	Cut      bool // more prefixes would meet it, but they are too many
}

// The bounds of conditions: what one may grow to, and of how many prefixes there is a complement. The
// complement of one IPv6 prefix has up to 128.
const (
	maxPrefixes = 4096
	maxExcept   = 64
)

// Only returns the condition that is met by the prefixes.
func Only(p ...netip.Prefix) Addresses { return Addresses{Prefixes: p, Limited: true} }

func (a Addresses) none() bool { return a.Limited && len(a.Prefixes) == 0 }

// Contains reports whether an address meets the condition.
func (a Addresses) Contains(addr netip.Addr) bool {
	return !a.Limited ||
		slices.ContainsFunc(a.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// And returns what meets both.
func (a Addresses) And(o Addresses) Addresses {
	if !a.Limited {
		o.Cut = a.Cut || o.Cut
		return o
	}
	if !o.Limited {
		a.Cut = a.Cut || o.Cut
		return a
	}
	both := Addresses{Limited: true, Cut: a.Cut || o.Cut}
	for i, p := range a.Prefixes {
		if i >= maxPrefixes || len(both.Prefixes) > maxPrefixes || i > 0 && len(o.Prefixes) > maxPrefixes {
			both.Cut = true
			break
		}
		for _, q := range o.Prefixes {
			if !p.Overlaps(q) {
				continue
			}
			if p.Bits() < q.Bits() {
				both.Prefixes = append(both.Prefixes, q)
			} else {
				both.Prefixes = append(both.Prefixes, p)
			}
		}
	}
	return both
}

func (a Addresses) covers(o Addresses) bool {
	if !a.Limited {
		return true
	}
	return o.Limited && !slices.ContainsFunc(o.Prefixes, func(p netip.Prefix) bool {
		return !slices.ContainsFunc(a.Prefixes, func(q netip.Prefix) bool {
			return q.Bits() <= p.Bits() && q.Contains(p.Addr())
		})
	})
}

// Overlaps reports whether an address can meet both.
func (a Addresses) Overlaps(o Addresses) bool { return !a.And(o).none() }

// Except returns all addresses of the families of the prefixes, without these. Of very many prefixes it is
// Cut.
func Except(prefixes ...netip.Prefix) Addresses {
	if len(prefixes) > maxExcept {
		return Addresses{Cut: true}
	}
	var rest [2]Addresses // of IPv4 and of IPv6
	for _, p := range prefixes {
		without := Addresses{Limited: true}
		for bits := range p.Bits() { // for each bit of the prefix, the half beside it
			half, _ := flipBit(p.Addr(), bits).Prefix(bits + 1)
			without.Prefixes = append(without.Prefixes, half)
		}
		family := p.Addr().BitLen() / 128
		rest[family] = rest[family].And(without)
	}
	return Addresses{Prefixes: slices.Concat(rest[0].Prefixes, rest[1].Prefixes), Limited: true}
}

func flipBit(a netip.Addr, bit int) netip.Addr {
	raw := a.AsSlice()
	raw[bit/8] ^= 0x80 >> (bit % 8)
	flipped, _ := netip.AddrFromSlice(raw)
	return flipped
}

// Ports is a condition on a port. The zero value is met by all.
type Ports struct {
	Ranges  []PortRange
	Limited bool // only Ranges meet it
}

// OnlyPorts returns the condition that is met by the ranges.
func OnlyPorts(r ...PortRange) Ports { return Ports{r, true} }

func (p Ports) none() bool { return p.Limited && len(p.Ranges) == 0 }

// Contains reports whether a port meets the condition.
func (p Ports) Contains(port uint16) bool {
	return !p.Limited || slices.ContainsFunc(p.Ranges, func(r PortRange) bool { return r.Contains(port) })
}

// And returns what meets both.
func (p Ports) And(o Ports) Ports {
	if !p.Limited {
		return o
	}
	if !o.Limited {
		return p
	}
	both := Ports{Limited: true}
	for _, a := range p.Ranges {
		for _, b := range o.Ranges {
			if r := (PortRange{max(a.First, b.First), min(a.Last, b.Last)}); r.First <= r.Last &&
				len(both.Ranges) < maxPrefixes {
				both.Ranges = append(both.Ranges, r)
			}
		}
	}
	return both
}

func (p Ports) covers(o Ports) bool {
	if !p.Limited {
		return true
	}
	return o.Limited && !slices.ContainsFunc(o.Ranges, func(r PortRange) bool {
		return !slices.ContainsFunc(p.Ranges, func(q PortRange) bool {
			return q.First <= r.First && r.Last <= q.Last
		})
	})
}

// ExceptPorts returns all ports without those of the ranges.
func ExceptPorts(ranges ...PortRange) Ports {
	rest := OnlyPorts(PortRange{1, 65535})
	for _, r := range ranges {
		var around []PortRange
		if r.First > 1 {
			around = append(around, PortRange{1, r.First - 1})
		}
		if r.Last < 65535 {
			around = append(around, PortRange{r.Last + 1, 65535})
		}
		rest = rest.And(OnlyPorts(around...))
	}
	return rest
}

// maxSpan bounds the prefixes of a range of addresses: an IPv6 range has at most 254.
const maxSpan = 256

// Span returns the prefixes that hold exactly the addresses from a to b.
func Span(a, b netip.Addr) ([]netip.Prefix, error) {
	if a.BitLen() != b.BitLen() || b.Less(a) {
		return nil, fmt.Errorf("%s-%s is no range of addresses", a, b)
	}
	var all []netip.Prefix
	for len(all) < maxSpan {
		best := netip.PrefixFrom(a, a.BitLen())
		for bits := a.BitLen() - 1; bits >= 0; bits-- {
			p, _ := a.Prefix(bits)
			if p.Addr() != a || b.Less(last(p)) {
				break
			}
			best = p
		}
		all = append(all, best)
		end := last(best)
		if end == b {
			return all, nil
		}
		a = end.Next()
	}
	return nil, fmt.Errorf("the range up to %s is too uneven", b)
}

// last returns the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}
