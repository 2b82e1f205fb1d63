package ruleset

import (
	"slices"

	"ftpgate/internal/core/forward"
)

// MaxPinholes bounds how many pinholes of one version of IP the kernel holds at once: three for each of
// the sessions that dnat.DefaultLimits allows, and a session has one at most.
const MaxPinholes = 65535

// A pinhole (dnat.Pinhole) is an element of two maps. The packet path only reads them: a set of unused
// pinholes from which a rule deletes what it matches would do as well, but the kernel counts such
// elements until it has collected them, which it puts off while transactions come in
// (nft_rhash_gc in net/netfilter/nft_set_hash.c): under load the set fills up with the dead.

// PinholeMap returns the map of where the pinholes of a version lead: From . At to To. That each serves
// one connection is the limit of one packet that every element has: the kernel looks here for
// the first packet of a connection only, and counts under a lock.
func PinholeMap(v Version) Set {
	return Set{Name: "pinhole" + v.digit(), Version: v, Key: []Column{ColumnSource, ColumnListen, ColumnPort},
		Value: []Column{ColumnTo, ColumnToPort}, Timeout: true, Once: true, Size: MaxPinholes}
}

// SourceMap returns the map of whom the far ends of the pinholes of a version see: From . At's address
// . To to As. It is looked up after translation, when the port that was dialled is forgotten.
func SourceMap(v Version) Set {
	return Set{Name: "source" + v.digit(), Version: v, Key: []Column{ColumnSource, ColumnDialled, ColumnServer, ColumnPort},
		Value: []Column{ColumnTo}, Timeout: true, Size: MaxPinholes}
}

// carried tells whether the kernel may carry data connections of a proxied forward.
func carried(f forward.Resolved) bool {
	return f.Tracking == forward.TrackingProxy && f.Data != forward.DataRelay
}

// withoutProxy returns the forwards that are elements of sets.
func withoutProxy(all []forward.Resolved) []forward.Resolved {
	return slices.DeleteFunc(slices.Clone(all), func(f forward.Resolved) bool { return f.Tracking == forward.TrackingProxy })
}

// addPinholes adds the maps and rules of pinholes. Their rules come first in their chains; where no
// pinhole is meant they cost a look-up each.
func (b *builder) addPinholes(v Version) {
	pinhole, source := PinholeMap(v), SourceMap(v)
	for _, s := range []Set{pinhole, source} {
		b.sets[s.Name] = &s
	}
	b.pinholes = append(b.pinholes, Rule{Translate{v, pinhole.Key, pinhole.Name, true}})
	b.sources = append(b.sources, Rule{Translated{}, TranslateSource{v, source.Key, source.Name}})
}
