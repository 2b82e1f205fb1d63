// Package ban decides which addresses are banned: by bans, which an operator or a program such as fail2ban
// sets and which may end by themselves, and by the file, which denies addresses for good.
//
// A List says what is in force. Its Ranges are what the kernel's table and the proxies carry out, so that
// both refuse the same clients.
package ban

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// MaxBans bounds the bans, a few hundred bytes each: many more than fail2ban has on a busy host.
	MaxBans = 10_000
	// MaxDenied bounds what the file denies: more than the usual public lists have. To list more elements
	// takes the kernel seconds.
	MaxDenied = 50_000
	// MaxReason is the longest reason of a ban, in bytes.
	MaxReason = 200
	// MinTime is the shortest ban that ends by itself.
	MinTime = time.Second
	// MaxTime is the longest one, ten years.
	MaxTime = 10 * 365 * 24 * time.Hour
	// The widest prefixes that can be banned. A wider one is a typing mistake.
	minBits4, minBits6 = 8, 16
)

// The errors of a List, which Check and its methods wrap.
var (
	ErrUnfit     = errors.New("cannot be banned")
	ErrTooMany   = errors.New("too many bans")
	ErrNotBanned = errors.New("not banned")
)

// Ban is one ban, in the API's JSON.
type Ban struct {
	Prefix netip.Prefix `json:"prefix"` // without host bits, and no IPv4 in IPv6
	Since  time.Time    `json:"since"`
	Until  time.Time    `json:"until,omitzero"`   // zero: until it is lifted
	Reason string       `json:"reason,omitempty"` // given with the ban; may be empty
}

// Name returns the prefix as people write it: an address alone without its length.
func (b Ban) Name() string { return Name(b.Prefix) }

// Name returns a prefix as people write it: an address alone without its length.
func Name(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Check returns why a prefix cannot be banned, or nil. The error wraps ErrUnfit.
func Check(p netip.Prefix) error {
	least := minBits4
	if p.Addr().Is6() {
		least = minBits6
	}
	loopback4, loopback6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	switch {
	case p.Bits() < least:
		return fmt.Errorf("%s %w: it is wider than /%d, and would shut out too many", p, ErrUnfit, least)
	case p.Overlaps(loopback4), p.Overlaps(loopback6):
		return fmt.Errorf("%s %w: it is this host itself", Name(p), ErrUnfit)
	case p.Addr().IsUnspecified():
		return fmt.Errorf("%s %w: it is no client's address", Name(p), ErrUnfit)
	}
	return nil
}

// List is the bans, and what the file denies. The zero value has no bans. It is for one goroutine at a time.
type List struct {
	bans   map[netip.Prefix]Ban
	denied []netip.Prefix
	ranges []Range // of denied, in the order of a sweep; never changed
}

// Add adds a ban, or replaces that of the same prefix. The error wraps ErrUnfit or ErrTooMany; nothing has
// changed then.
func (l *List) Add(b Ban) error {
	if err := Check(b.Prefix); err != nil {
		return err
	}
	if _, again := l.bans[b.Prefix]; !again && len(l.bans) >= MaxBans {
		return fmt.Errorf("%w: there are %d; ban prefixes, or name a file in deny", ErrTooMany, len(l.bans))
	}
	if l.bans == nil {
		l.bans = map[netip.Prefix]Ban{}
	}
	l.bans[b.Prefix] = b
	return nil
}

// Remove lifts the ban of a prefix, and returns it. The error wraps ErrNotBanned, and says what else bans the
// prefix.
func (l *List) Remove(p netip.Prefix) (Ban, error) {
	if b, banned := l.bans[p]; banned {
		delete(l.bans, p)
		return b, nil
	}
	covers := func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) }
	for _, b := range l.Bans() {
		if covers(b.Prefix) {
			return Ban{}, fmt.Errorf("%s itself is %w, but %s is", Name(p), ErrNotBanned, b.Name())
		}
	}
	if i := slices.IndexFunc(l.denied, covers); i >= 0 {
		return Ban{}, fmt.Errorf("%s is %w: deny in the file has %s", Name(p), ErrNotBanned,
			Name(l.denied[i]))
	}
	return Ban{}, fmt.Errorf("%s is %w", Name(p), ErrNotBanned)
}

// Deny replaces what the file denies. The list keeps the slice.
func (l *List) Deny(denied []netip.Prefix) {
	l.denied, l.ranges = denied, make([]Range, len(denied))
	for i, p := range denied {
		l.ranges[i] = rangeOf(p, time.Time{})
	}
	slices.SortFunc(l.ranges, compareRanges)
}

// Denied returns how many prefixes the file denies.
func (l *List) Denied() int { return len(l.denied) }

// Bans returns the bans in the order of their prefixes.
func (l *List) Bans() []Ban {
	all := make([]Ban, 0, len(l.bans))
	for _, b := range l.bans {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Ban) int { return a.Prefix.Compare(b.Prefix) })
	return all
}

// Expire removes the bans whose time is over, and returns them, and when the next one ends; zero: none does.
func (l *List) Expire(now time.Time) (over []Ban, next time.Time) {
	for _, b := range l.Bans() {
		switch {
		case b.Until.IsZero():
		case !now.Before(b.Until):
			over = append(over, b)
			delete(l.bans, b.Prefix)
		case next.IsZero() || b.Until.Before(next):
			next = b.Until
		}
	}
	return over, next
}

// Clone returns a copy that changes by itself.
func (l *List) Clone() List { return List{maps.Clone(l.bans), l.denied, l.ranges} }
