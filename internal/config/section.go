package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"ftpgate/internal/core/forward"
)

const (
	// DefaultSocket is where the admin API is offered where the file does not say.
	DefaultSocket = "/run/ftpgate.sock"
	// DefaultGroup is whose members may use it, if there is such a group, where the file does not say.
	DefaultGroup = "ftpgate"
	// maxSocket is how long a socket's path may be, in bytes: sun_path of unix(7) less the NUL behind it.
	maxSocket = 107
	// none is nothing at all, in words; so is an empty string.
	none = "none"
)

// Admin is how a running ftpgate can be asked and told: the table [admin].
type Admin struct {
	Socket      string         // the path of the unix socket, absolute; empty: none
	SocketGiven bool           // the file says so
	Group       string         // whose members may use the socket, by name or number; empty: nobody but its owner
	GroupGiven  bool           // the file says so: without such a group something is wrong
	Listen      forward.Listen // where TCP is listened on; zero: nowhere
	TokenFile   string         // the file with what TCP clients must show; empty: nothing, and Listen is on loopback
}

// Log is what is written down of transfers: the table [log]. Both name a file, or are "-" for standard
// output, or empty for none; they differ.
type Log struct {
	Transfers string // as lines of JSON
	Xferlog   string // in the format of xferlog(5)
}

// The tables that a file has once.
const (
	sectionAdmin = iota
	sectionLog
	sectionCount
)

// section is such a table.
type section struct {
	name string
	slot
	dotted bool // it is given key by key
}

func (s *section) prefix() string { return s.name + "." }
func (s *section) header() string { return "[" + s.name + "]" }

// sectionKey is a key of such a table; its value is a string.
type sectionKey struct {
	name string // with that of its table before it
	want string // an example of a value
	read func(d *document, s string) error
}

// The keys of these tables.
const (
	keyAdminSocket = iota
	keyAdminGroup
	keyAdminListen
	keyAdminTokenFile
	keyLogTransfers
	keyLogXferlog
	sectionKeyCount
)

var sectionKeys = [sectionKeyCount]sectionKey{
	keyAdminSocket: {name: "admin.socket", want: `"` + DefaultSocket + `"`, read: (*document).readSocket},
	keyAdminGroup:  {name: "admin.group", want: `"` + DefaultGroup + `"`, read: (*document).readGroup},
	keyAdminListen: {name: "admin.listen", want: `"127.0.0.1:9121"`, read: (*document).readAdminListen},
	keyAdminTokenFile: fileKey("admin.token_file", `"/etc/ftpgate/token"`,
		func(d *document) *string { return &d.admin.TokenFile }),
	keyLogTransfers: fileKey("log.transfers", `"/var/log/ftpgate/transfers.json"`,
		func(d *document) *string { return &d.log.Transfers }),
	keyLogXferlog: fileKey("log.xferlog", `"/var/log/ftpgate/xferlog"`,
		func(d *document) *string { return &d.log.Xferlog }),
}

// wanted says what the value of the key is.
func (k *sectionKey) wanted() string { return "a string like " + k.want }

// fileKey is a key for the name of a file, or none. It is not looked at.
func fileKey(name, want string, of func(*document) *string) sectionKey {
	return sectionKey{name: name, want: want, read: func(d *document, s string) error {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("%s %q: no file's name has a NUL", name, s)
		}
		*of(d) = orNone(s)
		return nil
	}}
}

// orNone makes the word for nothing an empty string.
func orNone(s string) string {
	if s == none {
		return ""
	}
	return s
}

func (d *document) readSocket(s string) error {
	switch {
	case orNone(s) == "":
	case !strings.HasPrefix(s, "/"):
		return fmt.Errorf("admin.socket %q: want a path that begins with /, like %q, or %q for no socket", s, DefaultSocket, none)
	case strings.HasSuffix(s, "/"):
		return fmt.Errorf("admin.socket %q is a directory: name the socket, too, like %q", s, DefaultSocket)
	case strings.ContainsRune(s, 0):
		return fmt.Errorf("admin.socket %q: no file's name has a NUL", s)
	case len(s) > maxSocket:
		return fmt.Errorf("admin.socket has %d bytes, and the path of a socket at most %d: choose a shorter one", len(s), maxSocket)
	}
	d.admin.Socket, d.admin.SocketGiven = orNone(s), true
	return nil
}

func (d *document) readGroup(s string) error {
	unfit := func(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(":,/", c) } // of /etc/group
	if strings.ContainsFunc(s, unfit) {
		return fmt.Errorf("admin.group %q: want the name of a group, like %q, or %q", s, DefaultGroup, none)
	}
	d.admin.Group, d.admin.GroupGiven = orNone(s), true
	return nil
}

func (d *document) readAdminListen(s string) (err error) {
	switch {
	case orNone(s) == "":
		d.admin.Listen = forward.Listen{}
		return nil
	case strings.Contains(s, "%"):
		return fmt.Errorf("admin.listen %q: want an address without a zone", s)
	}
	if d.admin.Listen, err = forward.ParseListen(s); err != nil {
		return fmt.Errorf("admin.%w", err)
	}
	return nil
}

// sectionKeyIndex returns -1 for a name that is no key of these tables. It has the table's before it.
func sectionKeyIndex(name string) int {
	return slices.IndexFunc(sectionKeys[:], func(k sectionKey) bool { return k.name == name })
}

// sectionNamed returns the table that a word is the name of, or most likely a misspelling of, and nil.
func (d *document) sectionNamed(word string) *section {
	for i := range d.sections {
		if nearest(word, []string{d.sections[i].name}) != "" {
			return &d.sections[i]
		}
	}
	return nil
}

// sectionHeader takes "[admin]" or "[log]".
func (d *document) sectionHeader(s *section, at int, name string, single bool) {
	switch {
	case s.given:
		d.twiceSection(s, at)
		return
	case name != s.name:
		d.report(at, name, "unknown table %s: did you mean %s?", brackets(name, single), s.header())
	case !single:
		d.report(at, s.name, "want %s with one bracket: a file has one", s.header())
	}
	s.slot = slot{given: true, key: at, at: at}
	d.below, d.table, d.skip = s, s.prefix(), false
}

// takeSection takes the table as "admin = {...}", or one key of it as "admin.key = ...".
func (d *document) takeSection(s *section, e entry) {
	switch {
	case e.dotted():
		if !s.given {
			s.slot, s.dotted = slot{given: true, key: e.key, at: e.key}, true
		}
		if !s.dotted {
			d.twiceSection(s, e.key)
			return
		}
		e.parts = e.parts[1:]
		d.takeBelow(s, e)
	case s.given:
		d.twiceSection(s, e.key)
	case e.value.Kind != unstable.InlineTable:
		s.slot = slot{given: true, bad: true, key: e.key, at: e.at}
		d.report(e.at, s.name, "%s: want %s on a line of its own, and its keys below, not %s", s.name, s.header(), e.kind())
	default:
		s.slot = slot{given: true, key: e.key, at: e.at}
		for it := e.value.Children(); it.Next(); {
			d.takeBelow(s, d.entry(it.Node()))
		}
	}
}

// twiceSection tells that the table is given again: once for each other form of it.
func (d *document) twiceSection(s *section, at int) {
	if !s.bad {
		d.report(at, s.name, "%s is given twice: first on line %d", s.name, d.line(s.key))
	}
	s.bad = true
}

// takeBelow takes a key of the table.
func (d *document) takeBelow(s *section, e entry) {
	e.table = s.prefix()
	i := sectionKeyIndex(e.table + e.parts[0])
	if i < 0 {
		d.report(e.key, e.name(), "unknown key %q%s", e.name(), d.hintSection(s, e.parts[0]))
		return
	}
	k, slotted := &sectionKeys[i], &d.slots[i]
	if slotted.given {
		if !e.dotted() || !slotted.bad {
			d.report(e.key, k.name, "%s is given twice: first on line %d", k.name, d.line(slotted.key))
		}
		return
	}
	*slotted = slot{given: true, key: e.key, at: e.at}
	if e.dotted() || e.value.Kind != unstable.String {
		slotted.bad = true
		d.report(e.at, k.name, "%s: want %s, not %s", k.name, k.wanted(), e.kind())
		return
	}
	d.readSection(i, string(e.value.Data), e.at)
}

// readSection reads the value of a key from its text.
func (d *document) readSection(i int, s string, at int) {
	if err := sectionKeys[i].read(d, s); err != nil {
		d.slots[i].bad = true
		d.report(at, sectionKeys[i].name, "%s", err)
	}
}

// keyNames returns the names of the table's keys, without its own.
func (s *section) keyNames() []string {
	var names []string
	for _, k := range sectionKeys {
		if name, of := strings.CutPrefix(k.name, s.prefix()); of {
			names = append(names, name)
		}
	}
	return names
}

// hintSection says what an unknown key of the table may be.
func (d *document) hintSection(s *section, name string) string {
	if near := nearest(name, s.keyNames()); near != "" {
		return fmt.Sprintf(": did you mean %q?", s.prefix()+near)
	}
	if near := nearest(name, topKeys[:topForward]); near != "" {
		return fmt.Sprintf(": %q stands at the top of the file, above any table", near)
	}
	if hint := d.hintElsewhere(name); hint != "" {
		return hint
	}
	if near := nearest(name, keyNames("")); near != "" {
		return fmt.Sprintf(": %q stands below a %s", near, forwardHeader)
	}
	return ""
}

// hintElsewhere says which of these tables a key belongs to, or is.
func (d *document) hintElsewhere(name string) string {
	for i := range d.sections {
		s := &d.sections[i]
		if name == s.name {
			return fmt.Sprintf(": write %s on a line of its own", s.header())
		}
		if near := nearest(name, s.keyNames()); near != "" {
			return fmt.Sprintf(": %q stands below %s", near, s.header())
		}
	}
	return ""
}

// hintSectionTable says what to write instead of a table that nobody knows below or beside these.
func (d *document) hintSectionTable(parts []string) string {
	if i := sectionKeyIndex(strings.Join(parts, ".")); i >= 0 {
		return fmt.Sprintf("write %s = %s below [%s]", parts[1], sectionKeys[i].want, parts[0])
	}
	for i := range d.sections {
		switch s := &d.sections[i]; {
		case parts[0] == s.name:
			return fmt.Sprintf("%s has no tables below it", s.header())
		case len(parts) == 2 && parts[0] == topKeys[topForward] && parts[1] == s.name:
			return fmt.Sprintf("write %s, which is for all forwards", s.header())
		}
	}
	return ""
}

// checkSections finds what does not go together.
func (d *document) checkSections(forwards []*forwardSection) {
	d.checkListen(forwards)
	report := func(key int, format string, args ...any) {
		d.report(d.slots[key].at, sectionKeys[key].name, format, args...)
	}
	if token := d.slots[keyAdminTokenFile]; d.admin.TokenFile != "" && !token.bad && d.admin.Listen.Port == 0 && !d.slots[keyAdminListen].bad {
		report(keyAdminTokenFile, "admin.token_file changes nothing without admin.listen: only TCP asks for a token")
	}
	if d.admin.GroupGiven && d.admin.Group != "" && d.admin.Socket == "" && !d.slots[keyAdminSocket].bad {
		report(keyAdminGroup, "admin.group changes nothing without a socket: leave it out, or name admin.socket")
	}
	if d.log.Xferlog != "" && d.log.Transfers != "" && filepath.Clean(d.log.Xferlog) == filepath.Clean(d.log.Transfers) {
		report(keyLogXferlog, "log.xferlog %q is log.transfers, too: two formats need two files", d.log.Xferlog)
	}
}

// checkListen finds an address of the admin API that is not for it.
func (d *document) checkListen(forwards []*forwardSection) {
	l, s := d.admin.Listen, d.slots[keyAdminListen]
	if l.Port == 0 || s.bad {
		return
	}
	key := sectionKeys[keyAdminListen].name
	if d.admin.TokenFile == "" && !d.slots[keyAdminTokenFile].bad && !l.Addr.IsLoopback() {
		d.report(s.at, key, "admin.listen %q is not on loopback: whoever reaches it could see and end sessions; name an admin.token_file, or listen on %s",
			l, sectionKeys[keyAdminListen].want)
	}
	for _, f := range forwards {
		if !f.badListen() && f.Listen.Overlaps(l) {
			d.report(s.at, key, "admin.listen %q is taken by %s: choose another port", l, f.label())
			return
		}
	}
}
