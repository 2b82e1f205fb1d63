package ruleset

import (
	"cmp"
	"fmt"
	"slices"

	"ftpgate/internal/core/forward"
)

// MaxPassthroughs bounds how many passthrough elements of one range and one version of IP the kernel holds:
// three for each session that forward.DefaultSessions allows, although all sessions of a client share one.
const MaxPassthroughs = 65535

// A client that may use a range of ports is an element of two maps, and each range has maps of its own. One
// interval map for all ranges would need fewer rules. But to delete an element of such a map, the kernel
// walks over all elements before it (nft_pipapo_remove in net/netfilter/nft_set_pipapo.c): with ten thousand
// elements one deletion takes 55 ms, during which no other change of any table is possible. With one map for
// each range it takes 45 µs. There are few ranges, because servers with the same range share a map.

// PassthroughMap returns the map from client and gateway address to server, for a range of ports.
func PassthroughMap(v Version, ports forward.PortRange) Set {
	return Set{Name: rangeName("passage", v, ports), Version: v, Key: []Column{ColumnSource, ColumnListen},
		Value: []Column{ColumnTo}, Timeout: true, Size: MaxPassthroughs}
}

// PassthroughSourceMap returns the map from client, gateway address and server to the address that the server
// sees, for a range of ports.
func PassthroughSourceMap(v Version, ports forward.PortRange) Set {
	return Set{Name: rangeName("passagesource", v, ports), Version: v,
		Key: []Column{ColumnSource, ColumnDialled,
			ColumnServer}, Value: []Column{ColumnTo}, Timeout: true, Size: MaxPassthroughs}
}

// rangeName returns the name of a range's map. The purposes, passage and passagesource, are older than the
// word passthrough. They stay, because operators and scripts see them in "nft list ruleset".
func rangeName(purpose string, v Version, ports forward.PortRange) string {
	return fmt.Sprintf("%s%s_%d_%d", purpose, v.digit(), ports.First, ports.Last)
}

// passthroughRanges returns the ranges that need maps, sorted and distinct: those of forwards whose encrypted
// sessions pass through the kernel, and those in use.
func passthroughRanges(all []forward.Resolved, inUse []forward.PortRange) []forward.PortRange {
	ranges := slices.Clone(inUse)
	for _, f := range all {
		if f.PassesThrough() && f.MayUseKernel() {
			ranges = append(ranges, f.ServerPorts)
		}
	}
	slices.SortFunc(ranges, func(x, y forward.PortRange) int {
		return cmp.Or(cmp.Compare(x.First, y.First), cmp.Compare(x.Last, y.Last))
	})
	return slices.Compact(ranges)
}

// addPassthroughs adds the maps and rules of ranges. Their rules follow those of pinholes, which are more
// specific.
func (b *builder) addPassthroughs(v Version, ranges []forward.PortRange) {
	for _, ports := range ranges {
		dest, source := PassthroughMap(v, ports), PassthroughSourceMap(v, ports)
		for _, s := range []Set{dest, source} {
			b.sets[s.Name] = &s
		}
		b.pinholes = append(b.pinholes, Rule{PortIn{ports}, Translate{v, dest.Key, dest.Name, false}})
		// without Translated: the clients of an outbound dial the server's own address and port
		b.sources = append(b.sources, Rule{PortIn{ports}, TranslateSource{v, source.Key, source.Name}})
	}
}
