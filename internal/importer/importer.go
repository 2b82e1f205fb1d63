// Package importer proposes the forwards that take the place of rules that an administrator has by hand: of
// iptables, nftables, and programs that make such rules. It finds the translations and helpers that FTP goes
// through, and says what each forward replaces, what could not be carried over, and what to delete.
//
// It takes text and returns values: it neither reads nor changes the host's rules. What it cannot carry over it
// says, with the line; it never widens without a word who may reach a server.
package importer

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
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
	Interface string   // where they come in; empty: not known
	Clients   []string // prefixes; none: all
	Servers   []string // prefixes; none: all
	Ports     []string
	Place     rule.Place
}

// Result is what comes of the rules.
type Result struct {
	Format    string // what the text was
	Forwards  []Forward
	Left      []rule.Note // what was not carried over, and why
	Deletions []string    // commands and sentences, in their order
	Additions []string    // what the host's filter lacks
}

// Import reads rules in any form that Formats names. The error is about text that has none of these forms, or
// is too long.
func Import(text string, o Options) (*Result, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("import: the rules are larger than %d MiB", MaxSize>>20)
	}
	set, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	a := &analysis{set: set, options: o, result: &Result{Format: set.Format, Left: set.Notes}}
	var note *rule.Note
	if a.paths, note = set.Paths(); note != nil {
		a.result.Left = append(a.result.Left, *note)
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
	result  *Result
	found   []*candidate
	used    map[string]bool // the rules that found a place, by key
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
	if !slices.Contains(a.result.Left, n) {
		a.result.Left = append(a.result.Left, n)
	}
}

// delete adds commands, each once.
func (a *analysis) delete(commands ...string) {
	for _, c := range commands {
		if !slices.Contains(a.result.Deletions, c) {
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

func key(r rule.PathRule) string {
	return fmt.Sprint(r.Line, r.Text, r.Chain, r.Deletion)
}

func (a *analysis) use(r rule.PathRule) {
	if a.used == nil {
		a.used = map[string]bool{}
	}
	a.used[key(r)] = true
}

// admit keeps the candidates that can serve together, as package forward decides.
func (a *analysis) admit() {
	for _, c := range a.found {
		if a.fits(c) || a.fitsWithout(c) {
			a.result.Forwards = append(a.result.Forwards, c.Forward)
			a.delete(c.deletes...)
		}
	}
}

// fits reports whether the candidate is sound beside those that are.
func (a *analysis) fits(c *candidate) bool { return a.fault(c) == "" }

func (a *analysis) fault(c *candidate) string {
	all := make([]forward.Forward, 0, len(a.result.Forwards)+1)
	for _, f := range a.result.Forwards {
		all = append(all, named(f.Forward))
	}
	own := named(c.Forward.Forward)
	if c.Name == "" {
		own.Name += " (" + where(c.path.Place) + ")" // the fault shall be that of the address, not of its name
	}
	for _, faults := range forward.Check(append(all, own)) {
		for _, f := range faults {
			return f.Text
		}
	}
	return ""
}

// named gives a forward the name that the file gives it.
func named(f forward.Forward) forward.Forward {
	if f.Name == "" {
		f.Name = f.Listen.String()
	}
	return f
}

// fitsWithout tries the candidate without what is no part of its essence; else it says why it is left out.
func (a *analysis) fitsWithout(c *candidate) bool {
	fault := a.fault(c)
	c.Name = ""
	if a.fits(c) {
		return true
	}
	if c.Tracking == forward.TrackingProxy && !c.ServerPorts.IsEmpty() {
		ports := c.ServerPorts
		c.dropServerPorts()
		if a.fits(c) {
			a.left(c.path.Place, "server_ports = %q, with which encrypted sessions (FTPS) would pass through: %s",
				ports, fault)
			return true
		}
	}
	a.left(c.path.Place, "a forward from %s to %s: %s", c.Listen, c.Server, fault)
	return false
}

// deleteModules lists the lines that load the helper's modules, unless something still needs them.
func (a *analysis) deleteModules() {
	needed := slices.ContainsFunc(a.paths, func(r rule.PathRule) bool {
		return r.Action == rule.Helper && r.Helper == "ftp" && !a.used[key(r)]
	})
	for _, m := range a.set.Modules {
		switch {
		case len(a.result.Forwards) == 0:
			a.left(m.Place, "it only loads a module, or switches it on. Kernels from 6.0 on attach the ftp helper to "+
				"no connection without a rule")
		case needed:
			a.left(m.Place, "keep it: a rule that is not carried over needs this module")
		default:
			a.delete(m.Deletion...)
		}
	}
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

// byIndex finds a deletion that names a section by its index.
var byIndex = regexp.MustCompile(`^uci delete firewall\.@\w+\[(\d+)\]$`)

// orderDeletions puts the highest index first: a deletion lowers the indexes behind it.
func (r *Result) orderDeletions() {
	index := func(s string) int {
		if m := byIndex.FindStringSubmatch(s); m != nil {
			n, _ := strconv.Atoi(m[1])
			return n
		}
		return -1
	}
	var at []int
	var indexed []string
	for i, d := range r.Deletions {
		if index(d) >= 0 {
			at, indexed = append(at, i), append(indexed, d)
		}
	}
	slices.SortStableFunc(indexed, func(a, b string) int { return index(b) - index(a) })
	for i, d := range indexed {
		r.Deletions[at[i]] = d
	}
}
