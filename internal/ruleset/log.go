package ruleset

import (
	"hash/fnv"
	"slices"
)

// What a connection has carried is what its sequence numbers say (RFC 9293 section 3.4): the kernel's own
// counters are of packets, with those that were sent twice. So the first segments and the last ones are logged.

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
	return Rule{AtEnds{}, Translated{}, DialledFrom{lowestData}, Log{LogGroup(table)}}
}

// WithoutLog returns the table for a kernel that cannot log packets.
func (t Table) WithoutLog() Table {
	t.Chains = slices.DeleteFunc(slices.Clone(t.Chains), func(c Chain) bool { return c.Name == logChain })
	return t
}
