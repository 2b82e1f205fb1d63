package ruleset

import (
	"cmp"
	"hash/fnv"
	"slices"

	"ftpgate/internal/core/forward"
)

// What a connection has carried is what its sequence numbers say (RFC 9293 section 3.4): the kernel's own
// counters are of packets, with those that were sent twice. So the segments with which the far end takes a
// connection and those with which it ends are logged.
//
// Who comes for a pinhole is logged where the far end answers, or has to be asked again. The kernel's events of connections
// would tell that, too, for every connection through the gateway and at twice the cost.

// logChain is the chain that does so.
const logChain = "forward"

// lowestData is the lowest port that data connections are sent to: what is forwarded below has nothing to do with
// FTP's data.
const lowestData = 1024

// LogGroup returns the netfilter log group of a table. Tables of several ftpgates have groups of their own, and
// stay clear of the low ones, which other programs use.
func LogGroup(table string) uint16 {
	const lowest = 1024
	h := fnv.New32a()
	h.Write([]byte(table))
	return uint16(lowest + h.Sum32()%(1<<16-lowest))
}

func logEnds(table string) Rule {
	return Rule{AtEnds{}, NotFirst{}, Translated{}, DialledFrom{lowestData}, Log{LogGroup(table)}}
}

// logStrays returns the rules for what comes to a passive port and is led nowhere, as from a wrong address, or too late: one
// for each range. They stand last in a chain for NAT, which sees the first packet of a connection only.
func logStrays(table string, all []forward.Resolved) (rules []Rule) {
	var ranges []forward.PortRange
	for _, f := range all {
		if carried(f) {
			ranges = append(ranges, f.DataPorts())
		}
	}
	slices.SortFunc(ranges, func(x, y forward.PortRange) int {
		return cmp.Or(cmp.Compare(x.First, y.First), cmp.Compare(y.Last, x.Last))
	})
	last := 0
	for _, r := range ranges {
		first := max(int(r.First), last+1) // what another range covers is logged once
		if last = max(last, int(r.Last)); first <= int(r.Last) {
			rules = append(rules, Rule{PortIn{forward.PortRange{First: uint16(first), Last: r.Last}}, Log{LogGroup(table)}})
		}
	}
	return rules
}

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
