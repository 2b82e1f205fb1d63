// Package rule describes packet filter rules of other programs, as far as FTP through a gateway depends on
// them: which packets a rule matches, and whether it translates them or attaches the kernel's ftp helper. It
// follows the jumps between chains.
//
// It only compares values: it reads no format, and knows nothing of FTP.
package rule

import (
	"net/netip"
	"slices"
)

// Place is where a rule stands in the text.
type Place struct {
	Line int    // from 1 on; 0: the text has no lines, as JSON
	Text string // the rule as it stands there, without the white space around it
}

// Action is what a rule does with the packets that it matches.
type Action uint8

// The actions of rules. Other stands for all that this package does not tell apart, such as marks and logs.
const (
	Other Action = iota
	Accept
	Drop
	Return
	Jump
	Goto
	DNAT
	Redirect
	SNAT
	Masquerade
	Helper
)

// Hook is where packets meet a base chain.
type Hook string

// The hooks of base chains.
const (
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"
)

// ChainKey names a chain.
type ChainKey struct {
	Family string // as nft names it: "ip", "ip6", "inet"
	Table  string
	Chain  string
}

// Chain is a chain with its place in the kernel.
type Chain struct {
	ChainKey
	Hook     Hook // empty: other chains jump to it
	Type     string
	Priority int
	Policy   Action // Drop, or Accept
}

// Rule is one rule of a chain.
type Rule struct {
	Place
	Chain    ChainKey
	Match    Match
	Action   Action
	Target   string   // Jump and Goto: the chain
	To       Endpoint // DNAT and Redirect
	Helper   string   // Helper: the type of the helper, such as "ftp"
	Comment  string
	Deletion []string // the commands that delete it, or the sentences that say how
}

// Endpoint is where a translation leads.
type Endpoint struct {
	First, Last netip.Addr // not valid: the address stays, or is the gateway's own
	Host        string     // in place of an address: a name
	Ports       PortRange  // empty: the port stays
	Shifted     bool       // the ports are moved by an offset, and not chosen from the range
}

// Several reports whether the translation chooses one of several servers.
func (e Endpoint) Several() bool { return e.First.IsValid() && e.First != e.Last }

// Note is something to tell the operator about a line.
type Note struct {
	Place
	Reason string
}

// Set is what was read: all rules, in their order, and what could not be read.
type Set struct {
	Format string // what the text is, for the operator: "iptables-save"
	Chains []Chain
	Rules  []Rule
	Notes  []Note
	// Modules are the lines that load the kernel's helper, or switch it on for port 21 or the ports given.
	Modules []Module
	// After are commands that follow the deletions: they save, or apply, what has changed.
	After []string
}

// Module is a line that loads the kernel's ftp helper, or switches helpers on for all connections.
type Module struct {
	Place
	Ports    []uint16 // of ports=; empty: 21
	Deletion []string
}

// Base returns the chain with a name, and false if none is known.
func (s *Set) Base(key ChainKey) (Chain, bool) {
	i := slices.IndexFunc(s.Chains, func(c Chain) bool { return c.ChainKey == key })
	if i < 0 {
		return Chain{}, false
	}
	return s.Chains[i], true
}

// Unread adds a note about a line that could not be read.
func (s *Set) Unread(p Place, reason string) { s.Notes = append(s.Notes, Note{p, reason}) }

// PathRule is a rule as packets meet it: with the conditions of the jumps that lead to it.
type PathRule struct {
	Rule
	ID   int   // of the rule, the same on every path
	Base Chain // where the path begins
	Path Match // the conditions of the jumps and of the rule itself
}

// The bounds of what jumps may lead to. The kernel allows 16 levels (NFT_JUMP_STACK_SIZE); a firewall of
// many zones has some thousand paths.
const (
	maxDepth = 16
	maxPaths = 50_000
	maxTwice = 64 // paths to one rule; a firewall has one for each of its zones
)

// Paths returns every rule that packets can meet, in the order in which they meet them, once for each way
// that leads to it. The note is about paths that were left out, because there are too many; nil: there is
// none.
func (s *Set) Paths() ([]PathRule, *Note) {
	w := walker{rules: map[ChainKey][]numbered{}, visits: make([]int, len(s.Rules))}
	for i, r := range s.Rules {
		w.rules[r.Chain] = append(w.rules[r.Chain], numbered{r, i})
	}
	for _, c := range s.Chains {
		if c.Hook != "" {
			w.walk(c, c.ChainKey, Match{}, 0)
		}
	}
	if w.cut {
		return w.paths, &Note{Reason: "the jumps between the chains are too many or too deep: not every " +
			"path was followed"}
	}
	return w.paths, nil
}

// numbered is a rule with its index in the set.
type numbered struct {
	Rule
	id int
}

type walker struct {
	rules  map[ChainKey][]numbered
	visits []int // by index
	paths  []PathRule
	steps  int
	cut    bool
}

func (w *walker) walk(base Chain, key ChainKey, above Match, depth int) {
	if depth > maxDepth {
		w.cut = true
		return
	}
	for _, r := range w.rules[key] {
		if w.steps++; w.steps > maxPaths {
			w.cut = true
			return
		}
		if w.visits[r.id]++; w.visits[r.id] > maxTwice {
			w.cut = true
			continue
		}
		path := above.And(r.Match)
		if path.Never() {
			continue
		}
		if r.Action == Jump || r.Action == Goto {
			w.walk(base, ChainKey{key.Family, key.Table, r.Target}, path, depth+1)
			continue
		}
		w.paths = append(w.paths, PathRule{Rule: r.Rule, ID: r.id, Base: base, Path: path})
	}
}
