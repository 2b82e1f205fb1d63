package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a text on its way to a Config. It walks the expressions of go-toml's parser
// itself, instead of decoding into structs: a decoder stops at the first value of a wrong type
// and keeps no places, and every later fault needs one.
type document struct {
	parser unstable.Parser
	text   []byte
	lines  []int // offsets of the lines' first bytes; see line

	resolve  time.Duration
	drain    time.Duration
	forwards []*forwardSection
	admin    Admin
	log      Log
	findings []finding

	current   *forwardSection // the table that keys belong to; nil: the top of the file, or skip
	below     *section        // or this table
	table     string          // of current: "", or tlsPrefix; of below: its prefix
	skip      bool            // within a table that nobody knows
	top       [len(topKeys)]slot
	sections  [sectionCount]section
	slots     [sectionKeyCount]slot // of the sections
	broken    bool                  // the syntax broke: what follows is not known, and the last forward half
	mentioned bool                  // something was meant to be a forward
}

// slot is what a table has said of one key.
type slot struct {
	given bool
	bad   bool // what was given cannot be used, or what must be given is missing
	key   int  // offsets of the key and its value
	at    int
}

// entry is one line "key = value" of a table.
type entry struct {
	table string   // of a forward: "", or tlsPrefix
	parts []string // of the key, which may be dotted
	key   int      // offsets, as in slot
	at    int
	value *unstable.Node // valid until the next expression
}

// The keys at the top of the file.
const (
	topResolve = iota
	topDrain
	topForward
)

var topKeys = [...]string{topResolve: "resolve", topDrain: "drain", topForward: "forward"}

func newDocument(text []byte) *document {
	d := &document{text: text, resolve: DefaultResolve, drain: DefaultDrain, admin: Admin{Socket: DefaultSocket, Group: DefaultGroup}}
	d.sections[sectionAdmin].name, d.sections[sectionLog].name = "admin", "log"
	d.parser.Reset(text)
	return d
}

// report notes a fault that is about no forward.
func (d *document) report(at int, key, format string, args ...any) {
	d.findings = append(d.findings, finding{at: at, key: key, text: fmt.Sprintf(format, args...)})
}

// read takes the text apart up to its end or its first fault of syntax.
func (d *document) read() {
	for d.parser.NextExpression() {
		switch node := d.parser.Expression(); node.Kind {
		case unstable.KeyValue:
			e := d.entry(node)
			switch {
			case d.current != nil:
				e.table = d.table
				d.current.take(d, e)
			case d.below != nil:
				d.takeBelow(d.below, e)
			case !d.skip:
				d.takeTop(e)
			}
		case unstable.Table, unstable.ArrayTable:
			d.header(node)
		}
	}
	var fault *unstable.ParserError
	if errors.As(d.parser.Error(), &fault) {
		d.broken = true
		at := int(d.parser.Range(fault.Highlight).Offset)
		if at == len(d.text)-1 { // the end is told as the last byte, within a character perhaps
			_, size := utf8.DecodeLastRune(d.text)
			at -= size - 1
		}
		d.report(at, "", "syntax: %s%s", fault.Message, d.hint(at))
	}
}

// hint helps with the commonest faults of syntax: a string without quotes, or with only one.
func (d *document) hint(at int) string {
	line := d.lineText(d.line(at))
	key, value, found := strings.Cut(line, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	i := forwardKeyIndex(d.table + key)
	switch {
	case !found || i < 0 && sectionKeyIndex(d.table+key) < 0 && !slices.Contains(topKeys[:topForward], key):
		return ""
	case value == "":
		return fmt.Sprintf(": there is no value for %s", key)
	case strings.Count(value, `"`) == 1:
		return ": a quote is missing"
	}
	if value, _, _ = strings.Cut(value, " "); strings.ContainsAny(value, "\"'[]{}#,") {
		return ""
	}
	switch {
	case i >= 0 && forwardKeys[i].kind == unstable.Array:
		return fmt.Sprintf(": want quotes and brackets, like %s = [%q]", key, value)
	case i >= 0 && forwardKeys[i].kind != unstable.String:
		return ": want " + forwardKeys[i].wanted()
	}
	return fmt.Sprintf(": want quotes, like %s = %q", key, value)
}

// entry finds the places of a key and its value. Arrays and inline tables do not tell theirs,
// so it is looked for behind the key.
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
	e.at = d.skipAny(d.skipAny(end, " \t")+len("="), " \t")
	return e
}

// skipAny returns the first offset from at that holds none of chars.
func (d *document) skipAny(at int, chars string) int {
	for at < len(d.text) && strings.IndexByte(chars, d.text[at]) >= 0 {
		at++
	}
	return at
}

// header takes "[name]" or "[[name]]".
func (d *document) header(node *unstable.Node) {
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
	at = d.skipAny(at, " \t")

	name, single := strings.Join(parts, "."), node.Kind == unstable.Table
	d.current, d.below, d.table, d.skip = nil, nil, "", true
	near := ""
	var once *section
	if len(parts) == 1 {
		near, once = nearest(name, topKeys[:]), d.sectionNamed(name)
	}
	switch {
	case once != nil:
		d.sectionHeader(once, at, name, single)
	case near == topKeys[topForward]:
		d.forwardHeader(at, name, single)
	case near != "":
		d.report(at, near, "%s: want %s at the top of the file, not a table", near, wantTime)
	case isTLS(parts):
		d.tlsHeader(at, name, single)
	default:
		d.report(at, name, "unknown table %s: %s", brackets(name, single), d.tableHint(parts))
	}
}

// tableHint says what to write instead of a table that nobody knows.
func (d *document) tableHint(parts []string) string {
	if hint := d.hintSectionTable(parts); hint != "" {
		return hint
	}
	if parts[0] == tlsTable {
		return fmt.Sprintf("a forward's is %s, below its %s", tlsHeader, forwardHeader)
	}
	table, header, key := "", forwardHeader, ""
	switch below := parts[1:]; {
	case parts[0] != topKeys[topForward] || len(below) == 0:
	case len(below) > 1 && below[0] == tlsTable:
		table, header, key = tlsPrefix, tlsHeader, below[1]
	default:
		key = below[0]
	}
	i := keyOf(table, key)
	if i < 0 {
		return "a forward is a [[forward]] table"
	}
	return fmt.Sprintf("write %s = %s below its %s", key, forwardKeys[i].want, header)
}

// forwardHeader begins a forward, also where its header is not quite one: the faults of what
// stands below are told with it.
func (d *document) forwardHeader(at int, name string, single bool) {
	switch forward := topKeys[topForward]; {
	case name != forward:
		d.report(at, name, "unknown table %s: did you mean [[forward]]?", brackets(name, single))
	case single:
		d.report(at, name, "want [[forward]] with two brackets: there may be many")
	case d.top[topForward].given && !d.top[topForward].bad:
		d.report(at, name, "[[forward]] cannot follow forward = ... on line %d: write them all as [[forward]]", d.line(d.top[topForward].key))
	}
	d.current, d.skip = d.addForward(at), false
}

func (d *document) addForward(at int) *forwardSection {
	d.mentioned = true
	f := &forwardSection{number: len(d.forwards) + 1, header: at}
	d.forwards = append(d.forwards, f)
	return f
}

// brackets writes a table's header.
func brackets(name string, single bool) string {
	name = quoteKey(name)
	if single {
		return "[" + name + "]"
	}
	return "[[" + name + "]]"
}

// quoteKey quotes a key that holds more than a bare key may; it fits a line then.
func quoteKey(name string) string {
	for _, c := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", c) {
			return strconv.Quote(name)
		}
	}
	return name
}

// wantTime says what the times at the top are.
const wantTime = `a string like "30s"`

// takeTop takes a key above the first table.
func (d *document) takeTop(e entry) {
	first := e.parts[0]
	i := slices.Index(topKeys[:], first)
	for j := range d.sections {
		if d.sections[j].name == first {
			d.takeSection(&d.sections[j], e)
			return
		}
	}
	if i < 0 {
		d.unknownTop(e)
		return
	}
	s := &d.top[i]
	if i == topForward {
		d.mentioned = true
	}
	if s.given {
		if !e.dotted() || !s.bad {
			d.report(e.key, first, "%s is given twice: first on line %d", first, d.line(s.key))
		}
		return
	}
	*s = slot{given: true, key: e.key, at: e.at}
	switch {
	case i == topForward:
		d.takeForwards(e)
	case e.dotted() || e.value.Kind != unstable.String:
		s.bad = true
		d.report(e.at, first, "%s: want %s, not %s", first, wantTime, e.kind())
	default:
		d.readTop(i, string(e.value.Data), e.at)
	}
}

func (d *document) unknownTop(e entry) {
	d.report(e.key, e.name(), "unknown key %q%s", e.name(), d.hintTop(e.parts[0]))
}

// readTop reads the value of a key at the top from its text.
func (d *document) readTop(i int, s string, at int) {
	var err error
	switch key := topKeys[i]; i {
	case topResolve:
		d.resolve, err = parseTime(key, s, minResolve, math.MaxInt64)
	case topDrain:
		d.drain, err = parseTime(key, s, 0, maxDrain)
	}
	if err != nil {
		d.report(at, topKeys[i], "%s", err)
	}
}

// takeForwards takes "forward = [{...}, {...}]", which TOML holds equal to [[forward]] tables.
func (d *document) takeForwards(e entry) {
	if e.dotted() || e.value.Kind != unstable.Array {
		d.top[topForward].bad = true
		d.report(e.at, topKeys[topForward], "forward: want [[forward]] tables, not %s", e.kind())
		return
	}
	d.mentioned = e.value.Child().Valid()
	for it := e.value.Children(); it.Next(); {
		table := it.Node()
		if table.Kind != unstable.InlineTable {
			element := entry{value: table}
			d.report(placeOf(table, e.at), topKeys[topForward], "forward: want [[forward]] tables, not %s in the array", element.kind())
			continue
		}
		header := e.at
		if first := table.Child(); first.Valid() {
			header = d.entry(first).key
		}
		f := d.addForward(header)
		f.inline = true
		for it := table.Children(); it.Next(); {
			f.take(d, d.entry(it.Node()))
		}
	}
}

// placeOf returns the offset of an array's element. Arrays and tables do not tell theirs: there
// it is the array's.
func placeOf(element *unstable.Node, array int) int {
	if element.Raw.Length == 0 {
		return array
	}
	return int(element.Raw.Offset)
}

// name is the key as written, below the name of its table.
func (e entry) name() string { return e.table + strings.Join(e.parts, ".") }

// dotted tells whether the key has more parts than one. All but the first dotted key of a table
// that should not be one are the same mistake.
func (e entry) dotted() bool { return len(e.parts) > 1 }

// kind returns the words for what an entry was given.
func (e entry) kind() string {
	if e.dotted() {
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
