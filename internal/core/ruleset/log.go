package ruleset

import (
	"cmp"
	"hash/fnv"
	"slices"

	"ftpgate/internal/core/forward"
)

// The sequence numbers of a connection show how many bytes it carried (RFC 9293 section 3.4). The kernel's
// own counters include headers and retransmissions. So the table logs the segments that begin and end a
// connection.
//
// The log also shows who uses a pinhole, as soon as the far end answers or the client repeats its SYN. The
// kernel's events would show the same, but for every connection through the gateway, and at twice the cost.

// logChain is the name of the chain that logs.
const logChain = "forward"

// lowestData is the lowest port for data connections. Connections to ports below are not FTP data.
const lowestData = 1024

// LogGroup returns the netfilter log group of a table. Tables of several ftpgates have different groups. None
// is low: other programs use those.
func LogGroup(table string) uint16 {
	const lowest = 1024
	h := fnv.New32a()
	h.Write([]byte(table))
	return uint16(lowest + h.Sum32()%(1<<16-lowest))
}

// logEnds returns the rule that logs the segments that begin and end connections.
func logEnds(table string) Rule {
	return Rule{AtEnds{}, NotFirst{}, Translated{}, DialledFrom{lowestData}, Log{LogGroup(table)}}
}

// firstPerSecond bounds how many first packets are logged: cheap, and enough except in a flood.
const firstPerSecond = 1000

// logFirst returns rules that log the first packets of connections to passive ports, one rule for each range.
// They are first in a chain for NAT, which sees only first packets. So they show peers from a wrong address
// or too late, for which no pinhole matches, and a repeated first packet, which a filter of the gateway
// dropped after the pinhole.
func logFirst(table string, all []forward.Resolved) (rules []Rule) {
	var ranges []forward.PortRange
	for _, f := range all {
		if mayCarryData(f) {
			ranges = append(ranges, f.DataPorts())
		}
	}
	slices.SortFunc(ranges, func(x, y forward.PortRange) int {
		return cmp.Or(cmp.Compare(x.First, y.First), cmp.Compare(y.Last, x.Last))
	})
	last := 0
	for _, r := range ranges {
		first := max(int(r.First), last+1) // another range covers the ports before
		if last = max(last, int(r.Last)); first <= int(r.Last) {
			ports := forward.PortRange{First: uint16(first), Last: r.Last}
			rules = append(rules, Rule{PortIn{ports}, UpTo{firstPerSecond}, Log{LogGroup(table)}})
		}
	}
	return rules
}

// logs reports whether a rule logs packets.
func logs(r Rule) bool {
	return slices.ContainsFunc(r, func(s Statement) bool { _, is := s.(Log); return is })
}

// WithoutLog returns the table for a kernel that cannot log packets.
func (t Table) WithoutLog() Table {
	var chains []Chain
	for _, c := range t.Chains {
		if c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), logs); c.Name != logChain {
			chains = append(chains, c)
		}
	}
	t.Chains = chains
	return t
}
