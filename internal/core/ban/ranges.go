package ban

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"ftpgate/internal/core/forward"
)

// Range is addresses of one version of IP that are banned for the same time.
type Range struct {
	First, Last netip.Addr
	Until       time.Time // zero: until it is lifted
}

// Ranges are disjoint and sorted: a set of intervals of nftables refuses overlaps. They are never changed.
type Ranges []Range

// Find returns the range that an address is in.
func (r Ranges) Find(addr netip.Addr) (Range, bool) {
	addr = addr.Unmap().WithZone("")
	i, found := slices.BinarySearchFunc(r, addr, func(x Range,
		a netip.Addr) int {
		return x.First.Compare(a)
	})
	if !found {
		i--
	}
	if i < 0 || r[i].Last.Less(addr) {
		return Range{}, false
	}
	return r[i], true
}

// Refuses reports whether an address is banned at a time.
func (r Ranges) Refuses(addr netip.Addr, now time.Time) bool {
	found, banned := r.Find(addr)
	return banned && (found.Until.IsZero() || now.Before(found.Until))
}

// Ranges returns what the list bans. Where prefixes overlap, the ban counts that ends last.
func (l *List) Ranges() Ranges {
	bans := make([]Range, 0, len(l.bans))
	for _, b := range l.bans {
		bans = append(bans, rangeOf(b.Prefix, b.Until))
	}
	slices.SortFunc(bans, compareRanges)
	denied := l.ranges
	s := sweep{done: make(Ranges, 0, len(bans)+len(denied))}
	for len(bans) > 0 || len(denied) > 0 {
		from := &bans
		if len(bans) == 0 || len(denied) > 0 && compareRanges(denied[0], bans[0]) < 0 {
			from = &denied
		}
		s.open((*from)[0])
		*from = (*from)[1:]
	}
	s.closeBefore(netip.Addr{})
	return s.done
}

func rangeOf(p netip.Prefix, until time.Time) Range {
	return Range{First: p.Addr(), Last: forward.LastAddr(p), Until: until}
}

// compareRanges orders ranges for a sweep: one before those within it, and of two equal ones the one that
// ends last.
func compareRanges(a, b Range) int {
	return cmp.Or(a.First.Compare(b.First), b.Last.Compare(a.Last), compareUntil(b.Until, a.Until))
}

// compareUntil orders ends of bans; zero is the last.
func compareUntil(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

// sweep goes through prefixes from the lowest address to the highest. Two prefixes are disjoint, or one
// contains the other.
type sweep struct {
	done Ranges
	// the prefixes that contain the current address, each in the one before, and outliving it
	within  []Range
	pending netip.Addr // the first address of the innermost that is not in done yet; not valid: none is left
}

// open adds the next prefix.
func (s *sweep) open(r Range) {
	s.closeBefore(r.First)
	if n := len(s.within); n > 0 {
		around := s.within[n-1]
		if compareUntil(r.Until, around.Until) <= 0 {
			return
		}
		s.add(Range{First: s.pending, Last: r.First.Prev(), Until: around.Until})
	}
	s.within = append(s.within, r)
	s.pending = r.First
}

// closeBefore ends the prefixes whose last address is lower than addr, or all if addr is not valid.
func (s *sweep) closeBefore(addr netip.Addr) {
	for n := len(s.within); n > 0; n-- {
		inner := s.within[n-1]
		if addr.IsValid() && !inner.Last.Less(addr) {
			return
		}
		s.add(Range{First: s.pending, Last: inner.Last, Until: inner.Until})
		s.within, s.pending = s.within[:n-1], inner.Last.Next()
	}
}

// add adds a range, unless it is empty. It becomes a part of the one before if they meet and end alike.
func (s *sweep) add(r Range) {
	if !r.First.IsValid() || !r.Last.IsValid() || r.Last.Less(r.First) {
		return
	}
	if n := len(s.done); n > 0 && s.done[n-1].Last.Next() == r.First && s.done[n-1].Until.Equal(r.Until) {
		s.done[n-1].Last = r.Last
		return
	}
	s.done = append(s.done, r)
}
