package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/core/forward"
)

// The table of a forward about FTPS, and what the names of its keys begin with.
const (
	tlsTable  = "tls"
	tlsPrefix = tlsTable + "."
)

// The headers of a forward's tables, as faults name them.
const (
	forwardHeader = "[[forward]]"
	tlsHeader     = "[forward.tls]"
)

// wantTLS says what the table is.
const wantTLS = `a table like { client = "required", cert = "self-signed" }`

// isTLS tells whether the header of a table is, or should be, that of a forward's TLS.
func isTLS(parts []string) bool {
	return len(parts) == 2 && nearest(parts[0], topKeys[topForward:]) != "" && keyOf("", parts[1]) < 0 &&
		len(parts[1]) > 1 && typos(strings.ToLower(parts[1]), tlsTable) <= maxTypos
}

// tlsHeader takes "[forward.tls]", which belongs to the last forward above it.
func (d *document) tlsHeader(at int, name string, single bool) {
	d.mentioned = true
	if len(d.forwards) == 0 {
		d.report(at, tlsTable, "%s has no %s above it: it stands below the one that it is for", tlsHeader, forwardHeader)
		return
	}
	f := d.forwards[len(d.forwards)-1]
	switch {
	case f.tls.given:
		f.twiceTLS(d, at)
		return
	case f.inline:
		f.report(d, at, tlsTable, "%s cannot follow forward = ... on line %d: write tls = {...} in it", tlsHeader, d.line(d.top[topForward].key))
		return
	case name != "forward."+tlsTable:
		f.report(d, at, name, "unknown table %s: did you mean %s?", brackets(name, single), tlsHeader)
	case !single:
		f.report(d, at, tlsTable, "want %s with one bracket: a forward has one", tlsHeader)
	}
	f.tls = slot{given: true, key: at, at: at}
	d.current, d.table, d.skip = f, tlsPrefix, false
}

// takeTLS takes the table as "tls = {...}", or one key of it as "tls.key = ...".
func (f *forwardSection) takeTLS(d *document, e entry) {
	s := &f.tls
	switch {
	case e.dotted():
		if !s.given {
			*s, f.dotted = slot{given: true, key: e.key, at: e.key}, true
		}
		if !f.dotted {
			f.twiceTLS(d, e.key)
			return
		}
		e.table, e.parts = tlsPrefix, e.parts[1:]
		f.take(d, e)
	case s.given:
		f.twiceTLS(d, e.key)
	case e.value.Kind != unstable.InlineTable:
		*s = slot{given: true, bad: true, key: e.key, at: e.at}
		f.report(d, e.at, tlsTable, "%s: want %s, not %s", tlsTable, wantTLS, e.kind())
	default:
		*s = slot{given: true, key: e.key, at: e.at}
		for it := e.value.Children(); it.Next(); {
			below := d.entry(it.Node())
			below.table = tlsPrefix
			f.take(d, below)
		}
	}
}

// twiceTLS tells that the table is given again: once for each other form of it.
func (f *forwardSection) twiceTLS(d *document, at int) {
	if !f.tls.bad {
		f.report(d, at, tlsTable, "%s is given twice: first on line %d", tlsTable, d.line(f.tls.key))
	}
	f.tls.bad = true
}

// boolKey is a key whose value sets what of returns.
func boolKey(name string, value bool, of func(*forward.TLS) *bool) forwardKey {
	read := func(f *forwardSection, s string, _ int) error {
		if s != "true" && s != "false" {
			return fmt.Errorf("%s %q: want true or false", name, s)
		}
		*of(&f.TLS) = (s == "true") == value
		return nil
	}
	return forwardKey{name: name, kind: unstable.Bool, want: fmt.Sprint(value), read: read}
}

// choiceKey is a key with two words, of which the second one sets what of returns.
func choiceKey(name, usual, other string, of func(*forward.TLS) *bool) forwardKey {
	read := func(f *forwardSection, s string, _ int) error {
		if s != usual && s != other {
			if near := nearest(s, []string{usual, other}); near != "" {
				return fmt.Errorf("unknown %s %q: did you mean %q?", name, s, near)
			}
			return fmt.Errorf("unknown %s %q: want %s or %s", name, s, usual, other)
		}
		*of(&f.TLS) = s == other
		return nil
	}
	return forwardKey{name: name, kind: unstable.String, want: fmt.Sprintf("%q", other), read: read}
}

// pathKey is a key for the name of a file. Whether it is there is not looked at: that is for the host
// that the file is used on.
func pathKey(name, want string, of func(*forward.TLS) *string) forwardKey {
	read := func(f *forwardSection, s string, _ int) error {
		switch {
		case s == "":
			return fmt.Errorf("%s is empty: name a file, like %s", name, want)
		case strings.ContainsRune(s, 0):
			return fmt.Errorf("%s %q: no file's name has a NUL", name, s)
		}
		*of(&f.TLS) = s
		return nil
	}
	return forwardKey{name: name, kind: unstable.String, want: want, read: read}
}

func (f *forwardSection) readTLSClient(s string, _ int) (err error) {
	f.TLS.Client, err = oneOf("tls.client", s, forward.ParseClientTLS)
	return err
}

func (f *forwardSection) readTLSServer(s string, _ int) (err error) {
	f.TLS.Server, err = oneOf("tls.server", s, forward.ParseServerTLS)
	return err
}

func (f *forwardSection) readTLSServerName(s string, _ int) error {
	err := forward.CheckServerName(s)
	if err == nil {
		f.TLS.ServerName = s
	}
	return err
}

// standInTLS is the table as dnat.Check shall see it: a side of which the main word could not be read
// asks for nothing, and what belongs to an unreadable key is left out with it.
func (f *forwardSection) standInTLS() forward.TLS {
	t := f.TLS
	if f.slots[keyTLSClient].bad {
		t.Client, t.Implicit, t.Cert, t.Key = forward.ClientTLSOff, false, "", ""
		t.SessionReuseOptional, t.CCC, t.ClientCloseNotifyOptional = false, false, false
	}
	if f.slots[keyTLSCert].bad && t.Client != forward.ClientTLSOff {
		t.Cert = "unknown"
	}
	if f.slots[keyTLSServer].bad {
		t = forward.TLS{Client: t.Client, Implicit: t.Implicit, Cert: t.Cert, Key: t.Key,
			SessionReuseOptional: t.SessionReuseOptional, CCC: t.CCC, ClientCloseNotifyOptional: t.ClientCloseNotifyOptional}
	}
	if f.slots[keyTLSClientCert].bad {
		t.ClientKey = ""
	}
	return t
}

// keyOf returns the index of a key by its table and its name there, and -1 where there is none.
func keyOf(table, name string) int {
	if strings.Contains(name, ".") { // in quotes: it is not two parts
		return -1
	}
	return forwardKeyIndex(table + name)
}

// keyNames returns the names that a forward ("") or its table tls (tlsPrefix) knows.
func keyNames(table string) []string {
	var names []string
	for i := range forwardKeys {
		if name, of := strings.CutPrefix(forwardKeys[i].name, tlsPrefix); of == (table == tlsPrefix) {
			names = append(names, name)
		}
	}
	if table == "" {
		names = append(names, tlsTable)
	}
	return names
}

// placeOfTable says where the keys of a table stand.
func placeOfTable(table string) string {
	if table == "" {
		return "in its " + forwardHeader + ", above any " + tlsHeader
	}
	return "in its " + tlsHeader
}

// hintTop says what an unknown key at the top of the file may be.
func (d *document) hintTop(name string) string {
	if near := nearest(name, topKeys[:]); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	if s := d.sectionNamed(name); s != nil {
		return fmt.Sprintf(": did you mean %s?", s.header())
	}
	if slices.Contains(keyNames(tlsPrefix), name) && keyOf("", name) < 0 {
		return fmt.Sprintf(": %q stands in a %s", name, tlsHeader)
	}
	if near := nearest(name, keyNames("")); near != "" {
		return fmt.Sprintf(": %q stands below a %s", near, forwardHeader)
	}
	return d.hintElsewhere(name)
}

// hintBelow says what an unknown key of a forward's table may be: a misspelled one, or one of another table.
func (d *document) hintBelow(table, name string) string {
	other := tlsPrefix
	if table == tlsPrefix {
		other = ""
	}
	near := nearest(name, keyNames(table))
	switch elsewhere := nearest(name, keyNames(other)); {
	case slices.Contains(keyNames(other), name) && near != "":
		return fmt.Sprintf(": it stands %s; or did you mean %q?", placeOfTable(other), table+near)
	case slices.Contains(keyNames(other), name):
		return fmt.Sprintf(": it stands %s", placeOfTable(other))
	case near != "":
		return fmt.Sprintf(": did you mean %q?", table+near)
	case slices.Contains(topKeys[:topForward], nearest(name, topKeys[:])):
		return fmt.Sprintf(": %q stands at the top of the file, above the first %s", nearest(name, topKeys[:]), forwardHeader)
	case elsewhere != "":
		return fmt.Sprintf(": did you mean %q, %s?", elsewhere, placeOfTable(other))
	}
	return d.hintElsewhere(name)
}
