package config

import (
	"fmt"
	"net/netip"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/dnat"
)

// forward is a [[forward]] table: what it asks for, and where each key of it stands.
type forward struct {
	dnat.Forward
	number  int // from 1
	header  int // offset
	slots   [forwardKeyCount]slot
	clients []client
}

// client is one of Forward.Clients, as written and where.
type client struct {
	netip.Prefix
	text string
	at   int
}

// forwardKey is a key of a [[forward]] table.
type forwardKey struct {
	name    string
	kind    unstable.Kind // String, or Array of strings
	want    string        // an example of a value
	missing string        // what to write for who has left it out; empty: it may be left out
	read    func(f *forward, s string, at int) error
}

// The keys of a [[forward]] table.
const (
	keyName = iota
	keyListen
	keyServer
	keyTracking
	keyInterface
	keyClients
	keyServerPorts
	forwardKeyCount
)

var forwardKeys = [forwardKeyCount]forwardKey{
	keyName: {
		name: "name", kind: unstable.String, want: `"archive"`, read: (*forward).readName,
	},
	keyListen: {
		name: "listen", kind: unstable.String, want: `"192.168.5.2:2121"`, read: (*forward).readListen,
		missing: "say where clients connect",
	},
	keyServer: {
		name: "server", kind: unstable.String, want: `"ftp.example.com:21"`, read: (*forward).readServer,
		missing: "say which server they reach",
	},
	keyTracking: {
		name: "tracking", kind: unstable.String, want: `"kernel"`, read: (*forward).readTracking,
	},
	keyInterface: {
		name: "interface", kind: unstable.String, want: `"lan0"`, read: (*forward).readInterface,
	},
	keyClients: {
		name: "clients", kind: unstable.Array, want: `["192.168.5.0/24"]`, read: (*forward).readClient,
	},
	keyServerPorts: {
		name: "server_ports", kind: unstable.String, want: `"50000-50100"`, read: (*forward).readServerPorts,
	},
}

func forwardKeyNames() []string {
	names := make([]string, len(forwardKeys))
	for i, k := range forwardKeys {
		names[i] = k.name
	}
	return names
}

// forwardKeyIndex returns -1 for a name that is no key of a forward.
func forwardKeyIndex(name string) int {
	for i := range forwardKeys {
		if forwardKeys[i].name == name {
			return i
		}
	}
	return -1
}

// label is how faults call the forward. A name that was not given helps nobody to find it.
func (f *forward) label() string {
	if s := f.slots[keyName]; s.given && !s.bad {
		return fmt.Sprintf("forward %d (%q)", f.number, f.Name)
	}
	return fmt.Sprintf("forward %d", f.number)
}

// report notes a fault of the forward.
func (f *forward) report(d *document, at int, key, format string, args ...any) {
	d.findings = append(d.findings, finding{at, f, key, fmt.Sprintf(format, args...)})
}

// take takes a key of the table.
func (f *forward) take(d *document, e entry) {
	i := forwardKeyIndex(e.first)
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
		f.readString(d, i, string(e.value.Data), e.at)
	}
}

// takeElement takes one string of an array.
func (f *forward) takeElement(d *document, i int, node *unstable.Node) {
	k, s := &forwardKeys[i], &f.slots[i]
	e := entry{value: node, at: placeOf(node, s.at)}
	if node.Kind != unstable.String {
		s.bad = true
		f.report(d, e.at, k.name, "%s: want %s, not %s in the array", k.name, k.wanted(), e.kind())
		return
	}
	f.readString(d, i, string(node.Data), e.at)
}

func (f *forward) readString(d *document, i int, s string, at int) {
	if err := forwardKeys[i].read(f, s, at); err != nil {
		f.slots[i].bad = true
		f.report(d, at, forwardKeys[i].name, "%s", err)
	}
}

func (f *forward) unknown(d *document, e entry) {
	hint := ""
	if near := nearest(e.first, forwardKeyNames()); near != "" {
		hint = fmt.Sprintf(": did you mean %q?", near)
	} else if near := nearest(e.first, topKeys[:]); near == topKeys[topResolve] {
		hint = fmt.Sprintf(": %q stands at the top of the file, above the first [[forward]]", near)
	}
	f.report(d, e.key, e.name, "unknown key %q%s", e.name, hint)
}

// wanted says what the value of the key is.
func (k *forwardKey) wanted() string {
	if k.kind == unstable.Array {
		return "an array of strings like " + k.want
	}
	return "a string like " + k.want
}

func (f *forward) readName(s string, _ int) error {
	f.Name = s
	return dnat.CheckName(s)
}

func (f *forward) readListen(s string, _ int) error {
	l, err := dnat.ParseListen(s)
	l.Interface = f.Listen.Interface // which may stand above
	f.Listen = l
	return err
}

func (f *forward) readServer(s string, _ int) (err error) {
	f.Server, err = dnat.ParseServer(s)
	return err
}

func (f *forward) readTracking(s string, _ int) (err error) {
	if f.Tracking, err = dnat.ParseTracking(s); err != nil {
		if near := nearest(s, trackings()); near != "" {
			return fmt.Errorf("unknown tracking %q: did you mean %q?", s, near)
		}
	}
	return err
}

// trackings returns the words that dnat.ParseTracking reads.
func trackings() []string {
	var words []string
	for t := dnat.Tracking(0); ; t++ {
		if _, err := dnat.ParseTracking(t.String()); err != nil {
			return words
		}
		words = append(words, t.String())
	}
}

func (f *forward) readInterface(s string, _ int) error {
	f.Listen.Interface = s
	return dnat.CheckInterface(s)
}

func (f *forward) readClient(s string, at int) error {
	p, err := dnat.ParseClient(s)
	if err == nil {
		f.Clients = append(f.Clients, p)
		f.clients = append(f.clients, client{p, s, at})
	}
	return err
}

func (f *forward) readServerPorts(s string, _ int) (err error) {
	if f.ServerPorts, err = dnat.ParsePortRange(s); err != nil {
		return fmt.Errorf("server_%w", err)
	}
	return nil
}
