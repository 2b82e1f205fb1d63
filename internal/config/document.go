package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/core/forward"
)

// document is a text on its way to a Config. It walks the expressions of go-toml's parser itself, instead
// of decoding into structs: a decoder stops at the first value of a wrong type and keeps no places, and
// every later fault needs one.
type document struct {
	parser unstable.Parser
	text   []byte
	lines  []int // offsets of the lines' first bytes; see line

	config   Config // without the forwards
	forwards []*forwardSection
	faults   []rawFault

	counts [len(tables)]int // of the forwards, and of the outbounds

	table   table           // where the keys of the next lines belong
	forward *forwardSection // if that is a table of a forward
	skip    bool            // they belong to an unknown table

	states     []keyState          // of the keys that belong to no forward, by their index in keys
	arrayKeys  map[table]*keyState // of "forward = [...]" and "outbound = [...]" at the top
	admin, log tableState

	broken    bool // the syntax broke: what follows is not known, and the last forward may be half read
	mentioned bool // something was meant to be a forward
}

// keyState is what a table has said of one key so far.
type keyState struct {
	given bool
	bad   bool // the value cannot be used, or it is missing and must be given
	key   int  // offsets of the key and its value
	at    int
}

// tableState is what the file has said of a table that it has once.
type tableState struct {
	keyState
	dotted bool // it is given key by key
}

// entry is one line "key = value" of a table.
type entry struct {
	parts []string // of the key, which may be dotted
	key   int      // offsets, as in keyState
	at    int
	value *unstable.Node // valid until the next expression
}

func newDocument(text []byte) *document {
	d := &document{
		text: text,
		config: Config{
			Resolve: DefaultResolve, Drain: DefaultDrain, Health: DefaultHealth,
			Admin: Admin{Socket: DefaultSocket, Group: DefaultGroup},
		},
		states:    make([]keyState, len(keys)),
		arrayKeys: map[table]*keyState{forwardTable: {}, outboundTable: {}},
	}
	d.parser.Reset(text)
	return d
}

// state returns the state of a key that belongs to no forward.
func (d *document) state(name string) *keyState { return &d.states[keyIndex[name]] }

// report records a fault; f is the forward that it is about, or nil.
func (d *document) report(f *forwardSection, at int, key, format string, args ...any) {
	d.faults = append(d.faults, rawFault{at, f, key, shortened(fmt.Sprintf(format, args...))})
}

// read reads the text up to its end or its first fault of syntax.
func (d *document) read() {
	for !d.tooMany() && d.parser.NextExpression() {
		switch node := d.parser.Expression(); node.Kind {
		case unstable.KeyValue:
			if !d.skip {
				d.readEntry(d.table, d.forward, d.entry(node))
			}
		case unstable.Table, unstable.ArrayTable:
			d.readHeader(node)
		}
	}
	if d.tooMany() {
		d.forwards, d.broken = d.forwards[:maxForwards], true
		return
	}
	if fault, ok := errors.AsType[*unstable.ParserError](d.parser.Error()); ok {
		d.broken = true
		at := int(d.parser.Range(fault.Highlight).Offset)
		if at == len(d.text)-1 { // the parser names the end as the last byte, perhaps within a character
			_, size := utf8.DecodeLastRune(d.text)
			at -= size - 1
		}
		message := fault.Message
		if c, size := utf8.DecodeRune(d.text[at:]); size > 1 { // the parser names the first byte of it
			message = strings.ReplaceAll(message, fmt.Sprintf("%#U", d.text[at]), fmt.Sprintf("%#U", c))
		}
		d.report(nil, at, "", "syntax: %s%s", message, d.syntaxHint(at))
	}
}

// readEntry reads a line below a header: a key of the table, or a table within it.
func (d *document) readEntry(t table, f *forwardSection, e entry) {
	switch first := e.parts[0]; {
	case t == topTable && first == forwardTable.name():
		d.readForwards(forwardTable, e)
	case t == topTable && first == outboundTable.name():
		d.readForwards(outboundTable, e)
	case t == topTable && first == adminTable.name():
		d.readTable(adminTable, nil, &d.admin, e)
	case t == topTable && first == logTable.name():
		d.readTable(logTable, nil, &d.log, e)
	case (t == forwardTable || t == outboundTable) && first == tlsTable.name():
		d.readTable(tlsTable, f, &f.tls, e)
	default:
		d.readKey(t, f, e)
	}
}

func (d *document) readKey(t table, f *forwardSection, e entry) {
	i := t.find(e.parts[0])
	if i < 0 {
		d.report(f, e.key, e.name(t), "unknown key %q%s", e.name(t), d.keyHint(t, e.parts[0]))
		return
	}
	k, s := &keys[i], d.stateOf(f, i)
	if s.given {
		if !e.isDotted() || !s.bad {
			d.report(f, e.key, k.Name, "%s is given twice: first on line %d", k.Name, d.line(s.key))
		}
		return
	}
	*s = keyState{given: true, key: e.key, at: e.at}
	switch {
	case e.isDotted() || e.value.Kind != k.kind:
		s.bad = true
		d.report(f, e.at, k.Name, "%s: want %s, not %s", k.Name, k.expected(), e.kind())
	case k.kind == unstable.Array:
		for it := e.value.Children(); it.Next(); {
			d.readElement(f, i, it.Node())
		}
	default:
		d.readText(f, i, string(e.value.Data), e.at)
	}
}

// readElement reads one string of an array.
func (d *document) readElement(f *forwardSection, i int, node *unstable.Node) {
	k, s := &keys[i], d.stateOf(f, i)
	e := entry{value: node, at: placeOf(node, s.at)}
	if want := cmp.Or(k.element, unstable.String); node.Kind != want {
		s.bad = true
		d.report(f, e.at, k.Name, "%s: want %s, not %s in the array", k.Name, k.expected(), e.kind())
		return
	}
	d.readText(f, i, string(node.Data), e.at)
}

// readText sets the value of a key, or adds one element to it, from its text.
func (d *document) readText(f *forwardSection, i int, text string, at int) {
	k, v := &keys[i], values{Config: &d.config}
	if f != nil {
		v.Forward = &f.Forward
	}
	if err := k.parse(v, text); err != nil {
		d.stateOf(f, i).bad = true
		d.report(f, at, k.Name, "%s", err)
	} else if k.Name == "clients" {
		f.clients = append(f.clients, client{f.Clients[len(f.Clients)-1], text, at})
	}
}

// stateOf returns the state of a key in its table.
func (d *document) stateOf(f *forwardSection, i int) *keyState {
	if f != nil {
		return &f.states[i]
	}
	return &d.states[i]
}

// readTable reads a table written as "name = {...}", or one key of it as "name.key = ...".
func (d *document) readTable(t table, f *forwardSection, s *tableState, e entry) {
	switch {
	case e.isDotted():
		if !s.given {
			s.keyState, s.dotted = keyState{given: true, key: e.key, at: e.key}, true
		}
		if !s.dotted {
			d.reportSecond(t, f, s, e.key)
			return
		}
		e.parts = e.parts[1:]
		d.readKey(t, f, e)
	case s.given:
		d.reportSecond(t, f, s, e.key)
	case e.value.Kind != unstable.InlineTable:
		s.keyState = keyState{given: true, bad: true, key: e.key, at: e.at}
		want := t.header() + " on a line of its own, and its keys below"
		if t == tlsTable {
			want = wantTLS
		}
		d.report(f, e.at, t.name(), "%s: want %s, not %s", t.name(), want, e.kind())
	default:
		s.keyState = keyState{given: true, key: e.key, at: e.at}
		for it := e.value.Children(); it.Next(); {
			d.readKey(t, f, d.entry(it.Node()))
		}
	}
}

// wantTLS is an example of the table tls in one line.
const wantTLS = `a table like { client = "required", cert = "self-signed" }`

// reportSecond reports that a table is given again: once, however often that is.
func (d *document) reportSecond(t table, f *forwardSection, s *tableState, at int) {
	if !s.bad {
		d.report(f, at, t.name(), "%s is given twice: first on line %d", t.name(), d.line(s.key))
	}
	s.bad = true
}

// readForwards reads "forward = [{...}, {...}]", which means the same as [[forward]] tables, and the same of
// outbound.
func (d *document) readForwards(t table, e entry) {
	name, s := t.name(), d.arrayKeys[t]
	d.mentioned = true
	switch {
	case s.given && e.isDotted() && s.bad: // the same mistake as before
		return
	case s.given:
		d.report(nil, e.key, name, "%s is given twice: first on line %d", name, d.line(s.key))
		return
	}
	*s = keyState{given: true, key: e.key, at: e.at}
	if e.isDotted() || e.value.Kind != unstable.Array {
		s.bad = true
		d.report(nil, e.at, name, "%s: want %s tables, not %s", name, t.header(), e.kind())
		return
	}
	d.mentioned = e.value.Child().Valid()
	for it := e.value.Children(); !d.tooMany() && it.Next(); {
		table := it.Node()
		if table.Kind != unstable.InlineTable {
			element := entry{value: table}
			d.report(nil, placeOf(table, e.at), name,
				"%s: want %s tables, not %s in the array", name, t.header(), element.kind())
			continue
		}
		header := e.at
		if first := table.Child(); first.Valid() {
			header = d.entry(first).key
		}
		f := d.addForward(t, header)
		f.inline = true
		for it := table.Children(); it.Next(); {
			d.readEntry(t, f, d.entry(it.Node()))
		}
	}
}

// addForward adds a [[forward]] or an [[outbound]].
func (d *document) addForward(t table, at int) *forwardSection {
	d.mentioned = true
	d.counts[t]++
	f := &forwardSection{table: t, number: d.counts[t], header: at, states: make([]keyState, forwardKeyCount)}
	if t == outboundTable {
		f.Outbound = &forward.Outbound{}
	}
	d.forwards = append(d.forwards, f)
	if d.tooMany() {
		d.report(nil, at, t.name(), "more than %d forwards: the rest of the file is not read",
			maxForwards)
	}
	return f
}

// tooMany reports whether the file has more forwards than a file can need.
func (d *document) tooMany() bool { return len(d.forwards) > maxForwards }

// placeOf returns the offset of an array's element. The parser does not say where arrays and tables stand:
// for these it is the place of the array that they stand in.
func placeOf(element *unstable.Node, array int) int {
	if element.Raw.Length == 0 {
		return array
	}
	return int(element.Raw.Offset)
}

// entry finds the places of a key and its value. The parser does not report the places of arrays and inline
// tables, so it searches after the key.
func (d *document) entry(node *unstable.Node) entry {
	e := entry{value: node.Value()}
	end := 0
	for it := node.Key(); it.Next(); {
		part := it.Node()
		if len(e.parts) == 0 {
			e.key = int(part.Raw.Offset)
		}
		e.parts = append(e.parts, string(part.Data))
		end = int(part.Raw.Offset + part.Raw.Length)
	}
	e.at = d.skipBlanks(d.skipBlanks(end) + len("="))
	return e
}

// skipBlanks returns the first offset from at that holds no blank.
func (d *document) skipBlanks(at int) int {
	return len(d.text) - len(bytes.TrimLeft(d.text[at:], " \t"))
}

// name is the key as written, with the name of its table before it.
func (e entry) name(t table) string { return t.prefix() + strings.Join(e.parts, ".") }

// isDotted reports whether the key has more parts than one. All but the first dotted key of a table that
// should not be one are the same mistake.
func (e entry) isDotted() bool { return len(e.parts) > 1 }

// kind returns the words for the type of the value.
func (e entry) kind() string {
	if e.isDotted() {
		return "a table"
	}
	switch e.value.Kind {
	case unstable.String:
		return "a string"
	case unstable.Integer:
		return "an integer"
	case unstable.Float:
		return "a float"
	case unstable.Bool:
		return "a boolean"
	case unstable.Array:
		return "an array"
	case unstable.InlineTable:
		return "a table"
	}
	return "a date or time"
}
