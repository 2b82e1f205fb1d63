package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/core/forward"
)

// Key is a key of the configuration. Its entry in the table of keys is the one place that spells it: the
// file is parsed by the table, `ftpgate forward` takes its flags from it, and the documents are made from
// it or checked against it.
type Key struct {
	Name     string // as messages name it: "resolve", "server_ports", "tls.client", "admin.socket"
	Argument string // what help and manual page call its value: "PORTS"
	Example  string // a value as a file has it; messages suggest it

	// Help says in one line what it is, for --help and the manual page. Doc says it for
	// docs/configuration.md, with what a line has no room for; empty: Help. See codeSpan.
	Help, Doc string

	Default     string // the value that holds without the key, as typed; empty: Otherwise says what holds
	Otherwise   string // what holds without it, in words (see codeSpan); empty with a Default
	FlagDefault string // the value that holds for `ftpgate forward` without the flag; empty: Default

	// Needs is what must hold for the key to change anything: elsewhere it is a fault.
	Needs Need

	flag    string        // the flag, if it is not Name with dashes
	missing string        // what to write, if the key must be given; empty: it may be left out
	table   table         // of the file
	kind    unstable.Kind // String, Integer, Bool, or Array
	element unstable.Kind // of an Array: Integer; Invalid: String
	words   []string      // the words that it takes, the default first; nil: it takes more than a few words
	bounds  string        // of a number or a time, for Doc
	parse   parseFunc
	isSet   func(values) bool // whether the values say more than the default; nil with Needs empty

	published bool // a key of [[forward]] that [[outbound]] does not have
}

// Need is what a key needs to change anything.
type Need string

// The needs of keys. The empty Need: nothing.
const (
	NeedProxy     Need = "tracking proxy"
	NeedClientTLS Need = "tls.client" // and so tracking proxy
	NeedServerTLS Need = "tls.server" // and so tracking proxy
)

// values is what a key sets a part of: of a forward, or of the rest of the configuration.
type values struct {
	*Config
	*forward.Forward // nil for a key that belongs to no forward
}

// parseFunc parses the text of a value, or of one element of an array, and sets it. The error is a
// sentence that names the key.
type parseFunc func(v values, text string) error

type table uint8

// The tables, in the order of the documents.
const (
	topTable table = iota // the keys above any header
	forwardTable
	outboundTable // has the keys of forwardTable, too, but for those that are published
	tlsTable
	adminTable
	logTable
)

// tables is how a file names the tables: by their headers, and as keys.
var tables = [...]struct{ header, name string }{
	topTable:      {"", ""},
	forwardTable:  {"[[forward]]", "forward"},
	outboundTable: {"[[outbound]]", "outbound"},
	tlsTable:      {"[forward.tls]", "tls"},
	adminTable:    {"[admin]", "admin"},
	logTable:      {"[log]", "log"},
}

func (t table) header() string { return tables[t].header }
func (t table) name() string   { return tables[t].name }

// prefix is what the full names of the table's keys begin with.
func (t table) prefix() string {
	if t == topTable || t == forwardTable || t == outboundTable {
		return ""
	}
	return t.name() + "."
}

// has reports whether a key may stand in the table.
func (t table) has(k *Key) bool {
	return k.table == t || t == outboundTable && k.table == forwardTable && !k.published
}

// find returns the index in keys of the table's key of a name, and -1 if it has none.
func (t table) find(name string) int {
	if i, known := keyIndex[t.prefix()+name]; known && t.has(&keys[i]) && keys[i].shortName() == name {
		return i
	}
	return -1
}

// keyNames returns the names of the table's keys, without its own name.
func (t table) keyNames() []string {
	var names []string
	for i := range keys {
		if t.has(&keys[i]) {
			names = append(names, keys[i].shortName())
		}
	}
	return names
}

// shortName is the key's name within its table.
func (k *Key) shortName() string { return strings.TrimPrefix(k.Name, k.table.prefix()) }

// Words returns the words that the key takes, the default first; nil: it takes more than a few words.
func (k *Key) Words() []string { return slices.Clone(k.words) }

// Flag returns the name of the key's flag, without dashes before it; "": it is one of the arguments LISTEN
// and SERVER of `ftpgate forward`.
func (k *Key) Flag() string {
	switch {
	case k.missing != "":
		return ""
	case k.flag != "":
		return k.flag
	}
	return strings.NewReplacer("_", "-", ".", "-").Replace(k.Name)
}

// IsBool reports whether the value is true or false.
func (k *Key) IsBool() bool { return k.kind == unstable.Bool }

// IsList reports whether the key takes several values.
func (k *Key) IsList() bool { return k.kind == unstable.Array }

// codeSpan matches code in Doc and Otherwise: 'x', which is not quoted in the document, and "x", which is.
var codeSpan = regexp.MustCompile(`(^|[\s(])'([^']+)'|"[^"]*"`)

// HelpText returns Help, and behind it the words that the key takes and what holds without the flag, if that
// is no Default.
func (k *Key) HelpText() string {
	help := k.Help
	if len(k.words) > 0 {
		last := len(k.words) - 1
		help += ": " + strings.Join(k.words[:last], ", ") + " or " + k.words[last]
	}
	if k.Otherwise != "" && k.Otherwise != none && !strings.HasPrefix(k.Otherwise, mustBeGiven) {
		otherwise := codeSpan.ReplaceAllStringFunc(k.Otherwise, func(span string) string {
			before, name, _ := strings.Cut(strings.TrimSuffix(span, "'"), "'")
			return before + "--" + keys[k.table.find(name)].Flag()
		})
		help += " (default " + otherwise + ")"
	}
	return help
}

// mustBeGiven is what a document says in place of a default.
const mustBeGiven = "must be given"

// expected says what the value of the key is.
func (k *Key) expected() string {
	switch k.kind {
	case unstable.Array:
		if k.element == unstable.Integer {
			return "an array of integers like " + k.Example
		}
		return "an array of strings like " + k.Example
	case unstable.Integer:
		return "an integer like " + k.Example
	case unstable.Bool:
		return "true or false"
	}
	return "a string like " + k.Example
}

// shortTime writes a duration as an operator types it: 24h, not 24h0m0s.
func shortTime(v time.Duration) string {
	s := v.String()
	for _, unit := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, unit) {
			s = s[:len(s)-len("0s")]
		}
	}
	return s
}

// Keys returns every key, in the order of the documents.
func Keys() []Key { return slices.Clone(keys) }

// ForwardKeys returns the keys that `ftpgate forward` has flags or arguments for, in the order of its help.
func ForwardKeys() []Key {
	return slices.DeleteFunc(Keys(), func(k Key) bool { return k.table == outboundTable })
}

// OutboundKeys returns the keys that `ftpgate outbound` has flags for, in the order of its help.
func OutboundKeys() []Key {
	all := slices.DeleteFunc(Keys(), func(k Key) bool { return k.published })
	for i := range all {
		all[i].missing = "" // none of the keys of both kinds must be given
	}
	return all
}

// inTable completes the entries of one table.
func inTable(t table, entries ...Key) []Key {
	for i := range entries {
		k := &entries[i]
		k.table = t
		if k.missing != "" && k.Otherwise == "" {
			k.Otherwise = mustBeGiven
		}
		if k.kind == unstable.Invalid {
			k.kind = unstable.String
		}
	}
	return entries
}

// indexKeys returns the index of each key by its full name.
func indexKeys(keys []Key) map[string]int {
	index := map[string]int{}
	for i, k := range keys {
		if _, again := index[k.Name]; again {
			panic(fmt.Sprintf("config: the table has the key %q twice", k.Name))
		}
		index[k.Name] = i
	}
	return index
}
