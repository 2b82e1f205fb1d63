package config

import (
	"fmt"
	"net/netip"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/core/forward"
)

// forwardSection is a [[forward]] table: what it asks for, and where each key of it stands.
type forwardSection struct {
	forward.Forward
	number  int  // from 1
	header  int  // offset
	inline  bool // an element of forward = [...]
	slots   [forwardKeyCount]slot
	tls     slot // the table tls as a whole
	dotted  bool // it is given key by key
	clients []client
}

// client is one of Forward.Clients, as written and where.
type client struct {
	netip.Prefix
	text string
	at   int
}

// forwardKeyIndex returns -1 for a name that is no key of a forward. Keys of the table tls have its
// name before theirs.
func forwardKeyIndex(name string) int {
	for i := range forwardKeys {
		if forwardKeys[i].name == name {
			return i
		}
	}
	return -1
}

// label is how faults call the forward. A name that was not given helps nobody to find it.
func (f *forwardSection) label() string {
	if s := f.slots[keyName]; s.given && !s.bad {
		return fmt.Sprintf("forward %d (%q)", f.number, f.Name)
	}
	return fmt.Sprintf("forward %d", f.number)
}

// report notes a fault of the forward.
func (f *forwardSection) report(d *document, at int, key, format string, args ...any) {
	d.findings = append(d.findings, finding{at, f, key, fmt.Sprintf(format, args...)})
}

// take takes a key of the table, or of the one below it.
func (f *forwardSection) take(d *document, e entry) {
	if e.table == "" && e.parts[0] == tlsTable {
		f.takeTLS(d, e)
		return
	}
	i := keyOf(e.table, e.parts[0])
	if i < 0 {
		f.unknown(d, e)
		return
	}
	k, s := &forwardKeys[i], &f.slots[i]
	if s.given {
		if !e.dotted() || !s.bad {
			f.report(d, e.key, k.name, "%s is given twice: first on line %d", k.name, d.line(s.key))
		}
		return
	}
	*s = slot{given: true, key: e.key, at: e.at}
	switch {
	case e.dotted() || e.value.Kind != k.kind:
		s.bad = true
		f.report(d, e.at, k.name, "%s: want %s, not %s", k.name, k.wanted(), e.kind())
	case k.kind == unstable.Array:
		for it := e.value.Children(); it.Next(); {
			f.takeElement(d, i, it.Node())
		}
	default:
		f.readText(d, i, string(e.value.Data), e.at)
	}
}

// takeElement takes one string of an array.
func (f *forwardSection) takeElement(d *document, i int, node *unstable.Node) {
	k, s := &forwardKeys[i], &f.slots[i]
	e := entry{value: node, at: placeOf(node, s.at)}
	if node.Kind != unstable.String {
		s.bad = true
		f.report(d, e.at, k.name, "%s: want %s, not %s in the array", k.name, k.wanted(), e.kind())
		return
	}
	f.readText(d, i, string(node.Data), e.at)
}

// readText reads the value of a key, or one element of it, from its text.
func (f *forwardSection) readText(d *document, i int, s string, at int) {
	if err := forwardKeys[i].read(f, s, at); err != nil {
		f.slots[i].bad = true
		f.report(d, at, forwardKeys[i].name, "%s", err)
	}
}

func (f *forwardSection) unknown(d *document, e entry) {
	f.report(d, e.key, e.name(), "unknown key %q%s", e.name(), d.hintBelow(e.table, e.parts[0]))
}
