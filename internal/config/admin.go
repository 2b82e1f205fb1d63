package config

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"ftpgate/internal/core/forward"
)

const (
	// DefaultSocket is where a running ftpgate offers the admin API.
	DefaultSocket = "/run/ftpgate.sock"
	// DefaultGroup is the group whose members may use the socket, if the host has such a group.
	DefaultGroup = "ftpgate"
	// auto leaves the place of the socket to package cli, as if none were given.
	auto = "auto"
	// maxSocket is the longest path of a socket, in bytes: sun_path of unix(7) without its NUL.
	maxSocket = 107
)

// Admin is how to reach a running ftpgate: the table [admin].
type Admin struct {
	Socket      string         // the path of the unix socket, absolute; empty: none
	SocketGiven bool           // the file names it: ftpgate must have it
	Group       string         // whose members may use the socket, by name or number; empty: only its owner
	GroupGiven  bool           // the file names it: the host must have it
	Listen      forward.Listen // where to listen on TCP; zero: nowhere
	TokenFile   string         // with the token of TCP clients; empty: none, and Listen is on loopback
}

// Log says where to log transfers, and how to log everything else on standard error: the table [log]. Both
// logs of transfers name a file, or are "-" for standard output, or empty for none; they differ.
type Log struct {
	Transfers string     // as lines of JSON
	Xferlog   string     // in the format of xferlog(5)
	JSON      bool       // the log on standard error has lines of JSON
	Level     slog.Level // it has no lines below that
}

func adminKeys() []Key {
	return inTable(adminTable,
		custom(Key{Name: "admin.socket", Argument: "PATH", Example: `"` + DefaultSocket + `"`,
			Default: DefaultSocket,
			// Several forwards run side by side, and could not share one socket.
			FlagDefault: auto,
			Help:        "the unix socket for ftpgate status and others",
			Doc: fmt.Sprintf(`the unix socket: an absolute path of at most %d bytes; "none" or an empty`+
				` string: none; "auto": as without it`, maxSocket),
		}, parseSocket),
		custom(Key{Name: "admin.group", Argument: "GROUP", Example: `"` + DefaultGroup + `"`,
			Default: DefaultGroup,
			Help:    "the group whose members may use the socket",
			Doc: `the group whose members may use the socket, beside its owner, by name or number; "none":` +
				` no group. The default holds if the host has such a group`,
		}, parseGroup),
		custom(Key{Name: "admin.listen", Argument: "ADDR:PORT", Example: `"127.0.0.1:9121"`,
			Otherwise: "nowhere",
			Help:      "answer over TCP, too, for a scraper of metrics",
			Doc:       `answer over TCP, too: "ADDR:PORT", as for a forward; "none": nowhere`,
		}, parseAdminListen),
		fileOrNone(Key{Name: "admin.token_file", Example: `"/etc/ftpgate/token"`,
			Help: "the file with the token that TCP clients must send",
			Doc: "a file with the token that TCP clients must send. Must be given unless 'listen' is on" +
				" loopback",
		}, func(v values) *string { return &v.Admin.TokenFile }),
	)
}

func logKeys() []Key {
	return inTable(logTable,
		fileOrNone(Key{Name: "log.transfers", Example: `"/var/log/ftpgate/transfers.json"`,
			Help: "a line of JSON for each transfer; - for standard output",
			Doc: `the file for lines of JSON, one object for each transfer; "-": standard output; "none" or` +
				` an empty string: none`,
		}, func(v values) *string { return &v.Log.Transfers }),
		fileOrNone(Key{Name: "log.xferlog", Example: `"/var/log/ftpgate/xferlog"`,
			Help: "the same in the format of xferlog(5)",
			Doc: `the file in the xferlog(5) format of wu-ftpd, proftpd and vsftpd; "-" and "none" as` +
				` above`,
		}, func(v values) *string { return &v.Log.Xferlog }),
		choice(Key{Name: "log.format",
			Help: "how to write the log on standard error",
			Doc: `how to write the log on standard error: "text", which the journal gets with its fields,` +
				` or "json", an object a line`,
		}, "text", "json", func(v values) *bool { return &v.Log.JSON }),
		level(Key{Name: "log.level", Example: `"warn"`,
			Help: "the least to log",
			Doc:  `the least important lines of that log: "debug", "info", "warn" or "error"`,
		}, func(v values) *slog.Level { return &v.Log.Level }),
	)
}

func parseSocket(v values, s string) error {
	const key = "admin.socket"
	switch {
	case s == auto:
		v.Admin.Socket, v.Admin.SocketGiven = DefaultSocket, false
		return nil
	case orNone(s) == "":
	case !strings.HasPrefix(s, "/"):
		return fmt.Errorf("%s %q: want a path that begins with /, like %q, or %q for no socket",
			key, s, DefaultSocket, none)
	case strings.HasSuffix(s, "/"):
		return fmt.Errorf("%s %q is a directory: name the socket, too, like %q", key, s, DefaultSocket)
	case strings.ContainsRune(s, 0):
		return checkPath(key, s)
	case len(s) > maxSocket:
		return fmt.Errorf("%s has %d bytes, and the path of a socket at most %d: choose a shorter one",
			key, len(s), maxSocket)
	}
	v.Admin.Socket, v.Admin.SocketGiven = orNone(s), true
	return nil
}

func parseGroup(v values, s string) error {
	unfit := func(c rune) bool { // in /etc/group
		return c <= ' ' || c == 0x7f || strings.ContainsRune(":,/", c)
	}
	if strings.ContainsFunc(s, unfit) {
		return fmt.Errorf("admin.group %q: want the name of a group, like %q, or %q", s, DefaultGroup, none)
	}
	v.Admin.Group, v.Admin.GroupGiven = orNone(s), true
	return nil
}

func parseAdminListen(v values, s string) (err error) {
	switch {
	case orNone(s) == "":
		v.Admin.Listen = forward.Listen{}
		return nil
	case strings.Contains(s, "%"):
		return fmt.Errorf("admin.listen %q: want an address without a zone", s)
	}
	if v.Admin.Listen, err = forward.ParseListen(s); err != nil {
		return fmt.Errorf("admin.%w", err) // which begins with "listen"
	}
	return nil
}

// checkAdmin finds what does not go together in [admin] and [log].
func (d *document) checkAdmin(forwards []*forwardSection) {
	d.checkAdminListen(forwards)
	report := func(key, format string, args ...any) {
		d.report(nil, d.state(key).at, key, format, args...)
	}
	admin, log := &d.config.Admin, &d.config.Log
	if admin.TokenFile != "" && !d.state("admin.token_file").bad &&
		admin.Listen.Port == 0 && !d.state("admin.listen").bad {
		report("admin.token_file",
			"admin.token_file changes nothing without admin.listen: only TCP asks for a token")
	}
	if admin.GroupGiven && admin.Group != "" && admin.Socket == "" && !d.state("admin.socket").bad {
		report("admin.group",
			"admin.group changes nothing without a socket: leave it out, or name admin.socket")
	}
	if log.Xferlog != "" && log.Transfers != "" &&
		filepath.Clean(log.Xferlog) == filepath.Clean(log.Transfers) {
		report("log.xferlog", "log.xferlog %q is log.transfers, too: two formats need two files", log.Xferlog)
	}
}

// checkAdminListen finds an address that the admin API must not have.
func (d *document) checkAdminListen(forwards []*forwardSection) {
	const key = "admin.listen"
	l, s := d.config.Admin.Listen, d.state(key)
	if l.Port == 0 || s.bad {
		return
	}
	if d.config.Admin.TokenFile == "" && !d.state("admin.token_file").bad && !l.Addr.IsLoopback() {
		d.report(nil, s.at, key, "admin.listen %q is not on loopback: "+
			"anyone who reaches it could see and end sessions; name an admin.token_file, or listen on %s",
			l, keys[keyIndex[key]].Example)
	}
	for _, f := range forwards {
		if !f.badListen() && f.Listen.Overlaps(l) {
			d.report(nil, s.at, key, "admin.listen %q is taken by %s: choose another port", l, f.label())
			return
		}
	}
}
