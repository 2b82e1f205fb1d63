package ruleset

import "ftpgate/internal/core/forward"

// MaxPinholes bounds how many pinholes of one version of IP the kernel holds: three for each session that
// forward.DefaultSessions allows, although a session has at most one.
const MaxPinholes = 65535

// A pinhole (pinhole.Pinhole) is an element of two maps. Packets only read them. A rule could instead delete
// the element that it matches from a set of unused pinholes. But the kernel counts deleted elements until it
// has collected them, and it postpones that during transactions (nft_rhash_gc in
// net/netfilter/nft_set_hash.c), so that under load the set would fill up with deleted elements.

// PinholeMap returns the map from sender, gateway address and port to the far end of each pinhole. Every
// element is limited to a few packets: the kernel looks up only the first packet of a connection, and counts
// under a lock. The connection that completes its handshake closes the pinhole; the limit bounds the attempts
// before.
func PinholeMap(v Version) Set {
	return Set{Name: "pinhole" + v.digit(), Version: v, Key: []Column{ColumnSource, ColumnListen, ColumnPort},
		Value: []Column{ColumnTo, ColumnToPort}, Timeout: true, Limited: true, Size: MaxPinholes}
}

// SourceMap returns the map from sender, gateway address and far end to the address that the far end sees.
// Rules look it up after translation, when the packet no longer has the dialled port.
func SourceMap(v Version) Set {
	return Set{Name: "source" + v.digit(), Version: v,
		Key: []Column{ColumnSource, ColumnDialled, ColumnServer,
			ColumnPort}, Value: []Column{ColumnTo}, Timeout: true, Size: MaxPinholes}
}

// mayCarryData reports whether the kernel may carry data connections of a forward with tracking proxy.
func mayCarryData(f forward.Resolved) bool {
	return f.Tracking == forward.TrackingProxy && f.MayUseKernel()
}

// withoutProxy returns the forwards with other tracking than proxy, which are elements of sets.
func withoutProxy(all []forward.Resolved) (others []forward.Resolved) {
	for _, f := range all {
		if f.Tracking != forward.TrackingProxy {
			others = append(others, f)
		}
	}
	return others
}

// addPinholes adds the maps and rules of pinholes. Their rules come first in their chains. They cost every
// other new connection one lookup each.
func (b *builder) addPinholes(v Version) {
	pinhole, source := PinholeMap(v), SourceMap(v)
	for _, s := range []Set{pinhole, source} {
		b.sets[s.Name] = &s
	}
	b.pinholes = append(b.pinholes, Rule{Translate{v, pinhole.Key, pinhole.Name, true}})
	b.sources = append(b.sources, Rule{Translated{}, TranslateSource{v, source.Key, source.Name}})
}
