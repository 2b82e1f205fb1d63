package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
)

// defaultAdmin is [admin] without any key.
func defaultAdmin() Admin { return Admin{Socket: "/run/ftpgate.sock", Group: "ftpgate"} }

// sectionForms returns one [admin] and one [log] in every way that TOML has to write them.
func sectionForms() map[string]string {
	const forward = "[[forward]]\nlisten = ':21'\nserver = 'a'\n"
	admin := []string{`socket = "/run/f.sock"`, `group = "wheel"`, `listen = "[::1]:9121"`,
		`token_file = "token"`}
	log := []string{`transfers = "-"`, `xferlog = "/var/log/xferlog"`}
	header := "[admin]\n" + strings.Join(admin, "\n") + "\n[log]\n" + strings.Join(log, "\n") + "\n"
	inline := "admin = {" + strings.Join(admin, ", ") + "}\nlog = { " + strings.Join(log, ", ") + " }\n"
	dotted := "admin." + strings.Join(admin, "\nadmin.") + "\nlog." + strings.Join(log, "\n'log' . ") + "\n"
	return map[string]string{
		"above": header + forward,
		"below": forward + header,
		"between": forward + "[ 'log' ] # what\n" + strings.Join(log, "\r\n") +
			"\n[forward.tls]\n[\"admin\"]\n" + strings.Join(admin, "\n"),
		"inline": inline + forward,
		"dotted": dotted + forward,
		"mixed": "admin." + admin[0] + "\nresolve = '30s'\nadmin." + strings.Join(admin[1:], "\nadmin.") +
			"\n" + forward + "[log]\n" + strings.Join(log, "\n"),
	}
}

func TestParseSections(t *testing.T) {
	want := &Config{
		Forwards: []forward.Forward{{Name: ":21", Listen: forward.Listen{Port: 21},
			Server: forward.Server{Host: "a", Port: 21}}},
		Resolve: DefaultResolve, Drain: DefaultDrain, Health: DefaultHealth,
		Admin: Admin{Socket: "/run/f.sock", SocketGiven: true, Group: "wheel", GroupGiven: true,
			Listen: forward.Listen{Addr: netip.IPv6Loopback(), Port: 9121}, TokenFile: "token"},
		Log: Log{Transfers: "-", Xferlog: "/var/log/xferlog"},
	}
	for name, text := range sectionForms() {
		got, err := parse("f.toml", strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: got error %v; want none for\n%s", name, err, text)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, got, want)
		}
	}
}

// TestSectionValues: values at the bounds and their combinations, from a file and from a command line.
func TestSectionValues(t *testing.T) {
	given := func(change func(*Admin)) Admin {
		a := defaultAdmin()
		change(&a)
		return a
	}
	long := "/" + strings.Repeat("s", maxSocket-1)
	for _, tt := range []struct {
		values []Value
		admin  Admin
		log    Log
	}{
		{nil, defaultAdmin(), Log{}},
		{[]Value{{"admin.socket", ""}}, given(func(a *Admin) { a.Socket, a.SocketGiven = "", true }), Log{}},
		{[]Value{{"admin.socket", "none"}, {"admin.group", "none"}},
			Admin{SocketGiven: true, GroupGiven: true}, Log{}},
		{[]Value{{"admin.socket", long}}, given(func(a *Admin) { a.Socket, a.SocketGiven = long, true }),
			Log{}},
		{[]Value{{"admin.listen", "127.8.0.1:1"}},
			given(func(a *Admin) {
				a.Listen = forward.Listen{Addr: netip.MustParseAddr("127.8.0.1"),
					Port: 1}
			}), Log{}},
		{[]Value{{"admin.listen", ":9121"}, {"admin.token_file", "t"}},
			given(func(a *Admin) { a.Listen, a.TokenFile = forward.Listen{Port: 9121}, "t" }), Log{}},
		{[]Value{{"admin.listen", "none"}, {"admin.token_file", ""}}, defaultAdmin(), Log{}},
		{[]Value{{"log.transfers", "none"}, {"log.xferlog", ""}}, defaultAdmin(), Log{}},
		{[]Value{{"log.xferlog", "-"}, {"log.transfers", "x"}}, defaultAdmin(), Log{Transfers: "x",
			Xferlog: "-"}},
	} {
		all := append([]Value{{"listen", ":21"}, {"server", "a"}}, tt.values...)
		text := ""
		for _, w := range tt.values {
			text += w.Key + " = '" + w.Text + "'\n"
		}
		fromValues, err := FromValues(false, all)
		parsed, parseErr := parse("f.toml", strings.NewReader(text+
			"[[forward]]\nlisten = ':21'\nserver = 'a'"))
		if err != nil || parseErr != nil {
			t.Errorf("%q: got errors %v, %v; want none", tt.values, err, parseErr)
			continue
		}
		for _, got := range []*Config{fromValues, parsed} {
			if got.Admin != tt.admin || got.Log != tt.log {
				t.Errorf("%q: got %+v, %+v; want %+v, %+v", tt.values, got.Admin, got.Log, tt.admin, tt.log)
			}
		}
	}
	_, err := FromValues(false, []Value{{"listen", ":21"}, {"server", "a"}, {"admin.listen", ":9121"},
		{"log.xferlog", "\x00"}})
	want := Faults{
		{Key: "admin.listen",
			Text: `admin.listen ":9121" is not on loopback: anyone who reaches it could see ` +
				`and end sessions; name an admin.token_file, or listen on "127.0.0.1:9121"`},
		{Key: "log.xferlog", Text: `log.xferlog "\x00": a file name cannot have a NUL`},
	}
	if !reflect.DeepEqual(err, error(want)) {
		t.Errorf("got %v; want %v", err, want)
	}
}
