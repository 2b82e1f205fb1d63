// Package importer proposes the forwards that take the place of rules that an administrator has by hand: of
// iptables, nftables, and programs that make such rules. It finds the translations and helpers that FTP goes
// through, and says what each forward replaces, what could not be carried over, and what to delete.
//
// It takes text and returns values: it neither reads nor changes the host's rules. It lists what it cannot
// carry over, with the line. If more clients can reach a server than before, a comment says so.
package importer

import (
	"fmt"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/importer/rule"
)

// MaxSize is the largest text, in bytes. The rules of a host with some thousand containers are about 2 MiB.
const MaxSize = 8 << 20

// Options are what the administrator may choose.
type Options struct {
	// Kernel keeps the kernel's helper where the old rules attach it, instead of tracking proxy.
	Kernel bool
}

// Forward is a proposed forward, with what it replaces.
type Forward struct {
	forward.Forward
	Places   []rule.Place // the rules that it replaces
	Comments []string     // what the operator should know about it
}

// Outbound is clients behind the gateway that reach FTP servers by the servers' own addresses.
type Outbound struct {
	Rule    rule.PathRule // what served them
	Clients rule.Addresses
}

// Result is what comes of the rules.
type Result struct {
	Format    string // what the text was
	Forwards  []Forward
	Left      []rule.Note // what was not carried over, and why
	Deletions []string    // commands and sentences, in their order
	Additions []string    // what the host's filter lacks
}

// Import reads rules in any form that Formats returns. The error is about text that has none of these forms,
// or is too long.
func Import(text string, o Options) (*Result, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("import: the rules are larger than %d MiB", MaxSize>>20)
	}
	set, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	a := &analysis{set: set, options: o, result: &Result{Format: set.Format, Left: set.Notes},
		used: map[int]bool{}, seen: map[any]bool{}}
	var note *rule.Note
	if a.paths, note = set.Paths(); note != nil {
		a.result.Left = append(a.result.Left, *note)
	}
	for _, p := range a.paths {
		if p.Action == rule.Helper && p.Helper == "ftp" {
			a.ftpHelpers = append(a.ftpHelpers, p)
		}
	}
	a.forwards()
	a.passivePorts()
	a.helpers()
	a.outbound()
	a.sourceTranslations()
	a.admit()
	a.filters()
	a.deleteModules()
	a.result.orderDeletions()
	if len(a.result.Deletions) > 0 {
		a.delete(set.After...)
		if a.has("ufw-before-input") {
			a.delete("remove the same lines from /etc/ufw/before.rules or before6.rules, then: ufw reload")
		}
	}
	return a.result, nil
}

// analysis is the state while the rules are looked through.
type analysis struct {
	set     *rule.Set
	options Options
	paths   []rule.PathRule
	// ftpHelpers are those of the paths that attach the helper of FTP.
	ftpHelpers []rule.PathRule
	result     *Result
	found      []*candidate
	used       map[int]bool // the rules that found a place, by ID
	seen       map[any]bool // the notes and the deletions of result
}

// candidate is a forward that is not checked yet.
type candidate struct {
	Forward
	path    rule.PathRule
	listen  uint16
	server  uint16
	helped  bool // the kernel's helper tracked it
	passive []rule.PortRange
	deletes []string
}

// left notes what is not carried over, once.
func (a *analysis) left(p rule.Place, format string, args ...any) {
	n := rule.Note{Place: p, Reason: fmt.Sprintf(format, args...)}
	if !a.seen[n] {
		a.seen[n] = true
		a.result.Left = append(a.result.Left, n)
	}
}

// delete adds commands, each once.
func (a *analysis) delete(commands ...string) {
	for _, c := range commands {
		if !a.seen[c] {
			a.seen[c] = true
			a.result.Deletions = append(a.result.Deletions, c)
		}
	}
}

// comment adds what the operator should know, once.
func (c *candidate) comment(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(c.Comments, s) {
		c.Comments = append(c.Comments, s)
	}
}

// replaces adds a rule that the forward takes the place of.
func (c *candidate) replaces(a *analysis, r rule.PathRule) {
	if !slices.Contains(c.Places, r.Place) {
		c.Places = append(c.Places, r.Place)
	}
	c.deletes = append(c.deletes, a.deletion(r)...)
	a.use(r)
}

func (a *analysis) use(r rule.PathRule) {
	a.used[r.ID] = true
}

func list[T fmt.Stringer](values []T) []string {
	var all []string
	for _, v := range values {
		all = append(all, v.String())
	}
	return all
}

func joined(values []string, none string) string {
	if len(values) == 0 {
		return none
	}
	return strings.Join(values, ", ")
}
