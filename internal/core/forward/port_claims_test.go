package forward

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The conflicts are those that a comparison of each forward with each other finds.
func TestPortClaims(t *testing.T) {
	random := rand.New(rand.NewPCG(14, 9))
	for range 300 {
		forwards := make([]Forward, 1+random.IntN(30))
		for i := range forwards {
			f := &forwards[i]
			f.Tracking, f.Server.Host = Tracking(random.IntN(3)), fmt.Sprint(random.IntN(3))
			f.Listen = Listen{Port: uint16(1 + random.IntN(100)), Interface: []string{"", "", "a",
				"b"}[random.IntN(4)]}
			if random.IntN(3) > 0 {
				f.Listen.Addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(3))})
			}
			first := uint16(1 + random.IntN(100))
			if f.ServerPorts = (PortRange{First: first, Last: first +
				uint16(random.IntN(20))}); random.IntN(9) == 0 {
				f.ServerPorts = AllPorts
			}
		}
		p := newPortClaims(forwards)
		for i, f := range forwards {
			before, ports := random.IntN(len(forwards)+1), f.ServerPorts
			var want []int
			for j, o := range forwards[:before] {
				may := f.mayShare(&o)
				if j != i && f.Listen.sameHost(o.Listen) && o.reservedPorts().Overlaps(ports) &&
					(may == shareNever || may == shareOfOneServer && f.Server.Host != o.Server.Host) {
					want = append(want, j)
				}
			}
			named := min(len(want), namedConflicts)
			got := p.of(i, before, ports, f.mayShare)
			if !slices.Equal(got.first, want[:named]) || got.more != len(want)-named {
				t.Fatalf("forward %d of %+v: got %+v; want %v", i, forwards, got, want)
			}
		}
	}
}

// Ten thousand forwards that are all in conflict with each other have a bounded number of faults each.
func TestManyConflicts(t *testing.T) {
	const n = 10_000
	forwards := make([]Forward, n)
	for i := range forwards {
		f := &forwards[i]
		f.Name, f.Tracking = fmt.Sprint("f", i), TrackingNone
		f.Listen = Listen{Addr: netip.MustParseAddr("192.0.2.1"), Port: uint16(1000 + i)}
		f.Server = Server{Host: fmt.Sprint("203.0.113.", i%200), Port: uint16(1000 + i)}
		f.ServerPorts = PortRange{First: 50000, Last: 50100}
	}
	faults := Check(forwards)
	last := faults[n-1]
	if len(faults[0]) > 0 || len(last) != namedConflicts+1 ||
		!strings.Contains(last[namedConflicts].Text, "with 9996 more forwards") {
		t.Errorf("got %d faults of the first forward, and of the last %v; want none, and %d with the "+
			"number of "+
			"the others", len(faults[0]), last, namedConflicts+1)
	}
	for i := range forwards { // ranges that all differ
		forwards[i].ServerPorts.First -= uint16(i)
	}
	for i, all := range Check(forwards) {
		if len(all) > 3*(namedConflicts+1) || i == n-1 && len(all) == 0 {
			t.Fatalf("forward %d: got %d faults; want some, and a bounded number", i, len(all))
		}
	}
}
