package ruleset

import (
	"cmp"
	"fmt"
	"slices"

	"ftpgate/internal/core/forward"
)

// MaxPassthroughs bounds how many passages of one range and one version of IP the kernel holds at once: three
// for each of the sessions that dnat.DefaultLimits allows, and all sessions of a client share one.
const MaxPassthroughs = 65535

// A passage (dnat.Passage) is an element of two maps, which its range of ports has for itself. One
// interval map for all ranges would do with fewer rules. But the kernel finds an element of such a map, to
// take it out, by walking over all before it (nft_pipapo_remove in net/netfilter/nft_set_pipapo.c): with
// ten thousand in the map that is 55 ms for one, in which nobody else changes any table, and 45 µs here.
// The ranges are few: servers that are set up alike share theirs.

// PassthroughMap returns the map of where the passages of a range lead: From . At to To.
func PassthroughMap(v Version, ports forward.PortRange) Set {
	return Set{Name: rangeName("passage", v, ports), Version: v, Key: []Column{ColumnSource, ColumnListen},
		Value: []Column{ColumnTo}, Timeout: true, Size: MaxPassthroughs}
}

// PassthroughSourceMap returns the map of whom the servers of the passages of a range see: From . At . To to As.
func PassthroughSourceMap(v Version, ports forward.PortRange) Set {
	return Set{Name: rangeName("passagesource", v, ports), Version: v, Key: []Column{ColumnSource, ColumnDialled, ColumnServer},
		Value: []Column{ColumnTo}, Timeout: true, Size: MaxPassthroughs}
}

func rangeName(purpose string, v Version, ports forward.PortRange) string {
	return fmt.Sprintf("%s%s_%d_%d", purpose, v.digit(), ports.First, ports.Last)
}

// passthroughRanges returns the ranges that have passages, sorted and distinct: those of forwards whose
// encrypted sessions pass through the kernel, and those that are held.
func passthroughRanges(all []forward.Resolved, held []forward.PortRange) []forward.PortRange {
	ranges := slices.Clone(held)
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

// addPassthroughs adds the maps and rules of the passages of ranges. Their rules stand behind those of
// pinholes, which are more exact.
func (b *builder) addPassthroughs(v Version, ranges []forward.PortRange) {
	for _, ports := range ranges {
		passage, source := PassthroughMap(v, ports), PassthroughSourceMap(v, ports)
		for _, s := range []Set{passage, source} {
			b.sets[s.Name] = &s
		}
		b.pinholes = append(b.pinholes, Rule{PortIn{ports}, Translate{v, passage.Key, passage.Name, false}})
		b.sources = append(b.sources, Rule{Translated{}, PortIn{ports}, TranslateSource{v, source.Key, source.Name}})
	}
}
