package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// readHeader reads "[name]" or "[[name]]".
func (d *document) readHeader(node *unstable.Node) {
	var parts []string
	at := -1
	for it := node.Key(); it.Next(); {
		if parts = append(parts, string(it.Node().Data)); at < 0 {
			at = int(it.Node().Raw.Offset)
		}
	}
	for at > 0 && strings.IndexByte(" \t[", d.text[at-1]) >= 0 {
		at--
	}
	at = d.skipBlanks(at)

	name, single := strings.Join(parts, "."), node.Kind == unstable.Table
	d.table, d.forward, d.skip = topTable, nil, true
	near, once := "", topTable
	if len(parts) == 1 {
		near, once = Nearest(name, topNames()), nearestTable(name)
	}
	switch {
	case once == adminTable:
		d.onceHeader(once, &d.admin, at, name, single)
	case once == logTable:
		d.onceHeader(once, &d.log, at, name, single)
	case near == forwardTable.name():
		d.forwardHeader(forwardTable, at, name, single)
	case near == outboundTable.name():
		d.forwardHeader(outboundTable, at, name, single)
	case near != "":
		d.report(nil, at, near, "%s: want %s at the top of the file, not a table",
			near, keys[topTable.find(near)].expected())
	case isTLS(parts):
		d.tlsHeader(at, name, single)
	default:
		d.report(nil, at, name, "unknown table %s: %s", brackets(name, single), d.tableHint(parts))
	}
}

// forwardHeader begins a forward, even if its header is not quite one: so the faults below it are
// reported, too.
func (d *document) forwardHeader(t table, at int, name string, single bool) {
	switch s := d.arrayKeys[t]; {
	case name != t.name():
		d.report(nil, at, name, "unknown table %s: did you mean %s?", brackets(name, single), t.header())
	case single:
		d.report(nil, at, name, "want %s with two brackets: there may be many", t.header())
	case s.given && !s.bad:
		d.report(nil, at, name, "%s cannot follow %s = ... on line %d: write them all as %[1]s",
			t.header(), t.name(), d.line(s.key))
	}
	d.table, d.forward, d.skip = t, d.addForward(t, at), false
}

// isTLS reports whether the header of a table is, or should be, that of a forward's TLS.
func isTLS(parts []string) bool {
	return len(parts) == 2 && Nearest(parts[0], []string{forwardTable.name(), outboundTable.name()}) != "" &&
		forwardTable.find(parts[1]) < 0 && outboundTable.find(parts[1]) < 0 &&
		len(parts[1]) > 1 && typos(strings.ToLower(parts[1]), tlsTable.name()) <= maxTypos
}

// tlsHeader begins "[forward.tls]", which belongs to the last forward above it.
func (d *document) tlsHeader(at int, name string, single bool) {
	const key = "tls"
	d.mentioned = true
	if len(d.forwards) == 0 {
		d.report(nil, at, key, "%s has no %s above it: it belongs below the one that it is for",
			tlsTable.header(), forwardTable.header())
		return
	}
	f := d.forwards[len(d.forwards)-1]
	want := fmt.Sprintf("[%s.%s]", f.table.name(), key)
	switch {
	case f.tls.given:
		d.reportSecond(tlsTable, f, &f.tls, at)
		return
	case f.inline:
		d.report(f, at, key, "%s cannot follow %s = ... on line %d: write tls = {...} in it",
			want, f.table.name(), d.line(d.arrayKeys[f.table].key))
		return
	case name != f.table.name()+"."+key:
		d.report(f, at, name, "unknown table %s: did you mean %s?", brackets(name, single), want)
	case !single:
		d.report(f, at, key, "want %s with one bracket: a %s has one", want, f.table.name())
	}
	f.tls.keyState = keyState{given: true, key: at, at: at}
	d.table, d.forward, d.skip = tlsTable, f, false
}

// onceHeader begins "[admin]" or "[log]".
func (d *document) onceHeader(t table, s *tableState, at int, name string, single bool) {
	switch {
	case s.given:
		d.reportSecond(t, nil, s, at)
		return
	case name != t.name():
		d.report(nil, at, name, "unknown table %s: did you mean %s?", brackets(name, single), t.header())
	case !single:
		d.report(nil, at, t.name(), "want %s with one bracket: a file has one", t.header())
	}
	s.keyState = keyState{given: true, key: at, at: at}
	d.table, d.skip = t, false
}

// brackets writes a table's header.
func brackets(name string, single bool) string {
	name = quoteKey(name)
	if single {
		return "[" + name + "]"
	}
	return fmt.Sprintf("[[%s]]", name)
}

// quoteKey quotes a key that has other characters than a bare key; so it fits a line.
func quoteKey(name string) string {
	const bare = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	if strings.Trim(name, bare) != "" {
		return strconv.Quote(name)
	}
	return name
}
