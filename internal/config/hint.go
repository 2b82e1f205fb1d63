package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// onceTables are the tables that a file has once.
var onceTables = []table{adminTable, logTable}

// topNames returns the names that may stand at the top of the file but those of onceTables.
func topNames() []string {
	return append(topTable.keyNames(), forwardTable.name(), outboundTable.name())
}

// namesIn returns the names of a table's keys, and of the table within it.
func namesIn(t table) []string {
	if t == forwardTable || t == outboundTable {
		return append(t.keyNames(), tlsTable.name())
	}
	return t.keyNames()
}

// nearestTable returns which of onceTables a word is the name of, or a likely misspelling of; topTable: of
// none.
func nearestTable(word string) table {
	for _, t := range onceTables {
		if Nearest(word, []string{t.name()}) != "" {
			return t
		}
	}
	return topTable
}

// keyHint says what an unknown key of a table may be.
func (d *document) keyHint(t table, name string) string {
	if hint := synonymHint(name); hint != "" && t.find(name) < 0 {
		return hint
	}
	if t == forwardTable && outboundTable.find(name) >= 0 {
		return ": it belongs below an " + outboundTable.header()
	}
	switch t {
	case topTable:
		return hintAtTop(name)
	case forwardTable, outboundTable, tlsTable:
		return hintInForward(t, name)
	}
	return hintInOnce(t, name)
}

// hintAtTop says what an unknown key at the top of the file may be.
func hintAtTop(name string) string {
	if near := Nearest(name, topNames()); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	if t := nearestTable(name); t != topTable {
		return fmt.Sprintf(": did you mean %s?", t.header())
	}
	if tlsTable.find(name) >= 0 && forwardTable.find(name) < 0 {
		return fmt.Sprintf(": %q belongs in a %s", name, tlsTable.header())
	}
	if near := Nearest(name, namesIn(forwardTable)); near != "" {
		return fmt.Sprintf(": %q belongs below a %s", near, forwardTable.header())
	}
	return hintElsewhere(name)
}

// hintInForward says what an unknown key of a forward's table may be: a misspelled one, or one of another
// table.
func hintInForward(t table, name string) string {
	other := tlsTable
	if t == tlsTable {
		other = forwardTable
	}
	near, nearTop := Nearest(name, namesIn(t)), Nearest(name, topNames())
	isOther := slices.Contains(namesIn(other), name)
	switch elsewhere := Nearest(name, namesIn(other)); {
	case isOther && near != "":
		return fmt.Sprintf(": it belongs %s; or did you mean %q?", whereIn(other), t.prefix()+near)
	case isOther:
		return fmt.Sprintf(": it belongs %s", whereIn(other))
	case near != "":
		return fmt.Sprintf(": did you mean %q?", t.prefix()+near)
	case topTable.find(nearTop) >= 0:
		return fmt.Sprintf(": %q belongs at the top of the file, above the first %s", nearTop,
			forwardTable.header())
	case elsewhere != "":
		return fmt.Sprintf(": did you mean %q, %s?", elsewhere, whereIn(other))
	}
	return hintElsewhere(name)
}

// whereIn says where the keys of a forward's table stand.
func whereIn(t table) string {
	if t == forwardTable {
		return "in the " + forwardTable.header() + ", above any " + tlsTable.header()
	}
	return "in the " + tlsTable.header()
}

// hintInOnce says what an unknown key of [admin] or [log] may be.
func hintInOnce(t table, name string) string {
	if near := Nearest(name, t.keyNames()); near != "" {
		return fmt.Sprintf(": did you mean %q?", t.prefix()+near)
	}
	if near := Nearest(name, topTable.keyNames()); near != "" {
		return fmt.Sprintf(": %q belongs at the top of the file, above any table", near)
	}
	if hint := hintElsewhere(name); hint != "" {
		return hint
	}
	if near := Nearest(name, namesIn(forwardTable)); near != "" {
		return fmt.Sprintf(": %q belongs below a %s", near, forwardTable.header())
	}
	return ""
}

// hintElsewhere says which of onceTables a key belongs to, or is.
func hintElsewhere(name string) string {
	for _, t := range onceTables {
		if name == t.name() {
			return fmt.Sprintf(": write %s on a line of its own", t.header())
		}
		if near := Nearest(name, t.keyNames()); near != "" {
			return fmt.Sprintf(": %q belongs below %s", near, t.header())
		}
	}
	return ""
}

// tableHint says what to write instead of an unknown table.
func (d *document) tableHint(parts []string) string {
	if hint := hintOnceTable(parts); hint != "" {
		return hint
	}
	if parts[0] == tlsTable.name() {
		return fmt.Sprintf("a forward's is %s, below its %s", tlsTable.header(), forwardTable.header())
	}
	t, key := forwardTable, ""
	switch below := parts[1:]; {
	case parts[0] != forwardTable.name() || len(below) == 0:
	case len(below) > 1 && below[0] == tlsTable.name():
		t, key = tlsTable, below[1]
	default:
		key = below[0]
	}
	i := t.find(key)
	if i < 0 {
		return "a forward is a [[forward]] table"
	}
	return fmt.Sprintf("write %s = %s below its %s", key, keys[i].Example, t.header())
}

// hintOnceTable says what to write instead of an unknown table, below or beside onceTables.
func hintOnceTable(parts []string) string {
	for _, t := range onceTables {
		if len(parts) == 2 && parts[0] == t.name() && t.find(parts[1]) >= 0 {
			return fmt.Sprintf("write %s = %s below %s", parts[1], keys[t.find(parts[1])].Example, t.header())
		}
	}
	for _, t := range onceTables {
		switch {
		case parts[0] == t.name():
			return fmt.Sprintf("%s has no tables below it", t.header())
		case len(parts) == 2 && parts[0] == forwardTable.name() && parts[1] == t.name():
			return fmt.Sprintf("write %s, which is for all forwards", t.header())
		}
	}
	return ""
}

// syntaxHint helps with the commonest faults of syntax: a string without quotes, or with only one.
func (d *document) syntaxHint(at int) string {
	line := d.lineText(d.line(at))
	key, value, found := strings.Cut(line, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	i, known := keyIndex[d.table.prefix()+key]
	if !known {
		i = topTable.find(key)
	}
	switch {
	case !found || i < 0:
		return ""
	case strings.ContainsAny(value, "“”„‘’"):
		return fmt.Sprintf(": the quotes are a word processor's: want straight ones, like %s = %q", key,
			strings.Trim(value, "“”„‘’"))
	case value == "":
		return fmt.Sprintf(": there is no value for %s", key)
	case strings.Count(value, `"`) == 1:
		return ": a quote is missing"
	}
	if value, _, _ = strings.Cut(value, " "); strings.ContainsAny(value, "\"'[]{}#,") {
		return ""
	}
	switch keys[i].kind {
	case unstable.Array:
		return fmt.Sprintf(": want quotes and brackets, like %s = [%q]", key, value)
	case unstable.String:
		return fmt.Sprintf(": want quotes, like %s = %q", key, value)
	}
	return ": want " + keys[i].expected()
}
