package forward

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
)

// PortRange is a range of TCP ports; both ends belong to it. The zero value is empty.
type PortRange struct{ First, Last uint16 }

// AllPorts is every port that a connection can go to.
var AllPorts = PortRange{1, 65535}

// DefaultPassivePorts is IANA's range for private use (RFC 6335 section 6).
var DefaultPassivePorts = PortRange{49152, 65535}

// LowestDataPort is the lowest port that a data connection may go to: below it are the ports of
// services (RFC 2577 section 3).
const LowestDataPort = 1024

// MaxRelayedPorts is the largest range of server ports that the relay can open for a client: each port
// takes a descriptor while any client has an encrypted session.
const MaxRelayedPorts = 1024

// ParsePortRange reads "50000-50100", "50000" or "all".
func ParsePortRange(s string) (PortRange, error) {
	if s == "all" {
		return AllPorts, nil
	}
	if err := checkWritten(s, "one range FIRST-LAST"); err != nil {
		return PortRange{}, fmt.Errorf("ports %q: %w", s, err)
	}
	if strings.ContainsAny(s, ":.–") { // the forms of iptables, a shell and a word processor
		return PortRange{}, fmt.Errorf("ports %q: a range is written FIRST-LAST, like 50000-50100", s)
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	var r PortRange
	var err error
	if r.First, err = parsePort(first); err != nil {
		return PortRange{}, fmt.Errorf("ports %q: %w", s, err)
	}
	if r.Last, err = parsePort(last); err != nil {
		return PortRange{}, fmt.Errorf("ports %q: %w", s, err)
	}
	if r.First > r.Last {
		return PortRange{}, fmt.Errorf("ports %q: the first is above the last", s)
	}
	return r, nil
}

// IsEmpty reports whether the range has no port.
func (r PortRange) IsEmpty() bool { return r.Last == 0 }

// Contains reports whether port is in the range.
func (r PortRange) Contains(port uint16) bool {
	return !r.IsEmpty() && r.First <= port && port <= r.Last
}

// Overlaps reports whether the ranges have a port in common.
func (r PortRange) Overlaps(o PortRange) bool {
	return !r.IsEmpty() && !o.IsEmpty() && r.First <= o.Last && o.First <= r.Last
}

// String returns what ParsePortRange reads, and "" for the empty range.
func (r PortRange) String() string {
	switch {
	case r.IsEmpty():
		return ""
	case r == AllPorts:
		return "all"
	case r.First == r.Last:
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Shuffled yields every port of r once, in an unpredictable order: a third party must not guess the port of a
// data connection (RFC 2577 section 5). It is the shuffle of Fisher and Yates, computed only as far as the
// caller asks: the first port costs the same for a range of any size.
func (r PortRange) Shuffled() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		first := int(max(r.First, 1)) // port 0 is no port
		random := mathrand.New(cryptoSource{})
		moved := map[int]int{} // the value at an index, if it is not the index itself
		at := func(i int) int {
			if v, ok := moved[i]; ok {
				return v
			}
			return i
		}
		for left := int(r.Last) - first + 1; left > 0; left-- {
			i := random.IntN(left)
			port := at(i)
			moved[i] = at(left - 1)
			if !yield(uint16(first + port)) {
				return
			}
		}
	}
}

// cryptoSource is a source of random numbers from crypto/rand.
type cryptoSource struct{}

// Uint64 returns 64 bits of crypto/rand, which never fails.
func (cryptoSource) Uint64() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.NativeEndian.Uint64(b[:])
}
