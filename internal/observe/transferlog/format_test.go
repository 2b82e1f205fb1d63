package transferlog

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"ftpgate/internal/observe/sessions"
)

// transfer is a download that a session has finished.
func transfer() sessions.Transfer {
	began := time.Date(2026, 3, 7, 9, 5, 1, 250e6, time.UTC)
	return sessions.Transfer{
		Session: "s1", Forward: "archive",
		Client: netip.MustParseAddr("192.168.5.1"), Server: netip.MustParseAddrPort("203.0.113.21:21"),
		User: "lea", Verb: "RETR", Direction: sessions.Download, File: "/pub/a file.bin", Type: "I",
		Mode: "PASV", Path: "kernel",
		Began: began, Connected: began.Add(time.Second), Ended: began.Add(20 * time.Second),
		Bytes: 1_500_000, Rate: 75_000, Complete: true,
	}
}

func TestJSONLine(t *testing.T) {
	x := transfer()
	x.File = "<a&b>\x7f\u009b1m\u00a0\"\n\xff"
	got, err := jsonLine(nil, &x)
	want := `{"session":"s1","forward":"archive","client":"192.168.5.1","server":"203.0.113.21:21",` +
		`"user":"lea","command":"RETR",` +
		`"direction":"download","file":"<a&b>\u007f\u009b1m` + "\u00a0" +
		`\"\n\ufffd","type":"I","mode":"PASV","path":"kernel",` +
		`"began":"2026-03-07T09:05:01.25Z","connected":"2026-03-07T09:05:02.25Z",` +
		`"ended":"2026-03-07T09:05:21.25Z",` +
		`"bytes":1500000,"rate":75000,"complete":true}` + "\n"
	if err != nil || string(got) != want {
		t.Errorf("got %s, error %v; want %s", got, err, want)
	}
	x.Ended = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
	if got, err := jsonLine(nil, &x); err == nil {
		t.Errorf("got %s; want an error for a year that JSON cannot hold", got)
	}
}

func TestXferlogLine(t *testing.T) {
	date := transfer().Ended.Local().Format(time.ANSIC)
	for _, tt := range []struct {
		name   string
		change func(*sessions.Transfer)
		want   string
	}{
		{"download", func(*sessions.Transfer) {},
			"20 192.168.5.1 1500000 /pub/a_file.bin b _ o r lea ftp 0 * c"},
		{"upload", func(x *sessions.Transfer) { x.Direction, x.Verb = sessions.Upload, "STOR" },
			"20 192.168.5.1 1500000 /pub/a_file.bin b _ i r lea ftp 0 * c"},
		{"incomplete", func(x *sessions.Transfer) { x.Complete = false },
			"20 192.168.5.1 1500000 /pub/a_file.bin b _ o r lea ftp 0 * i"},
		{"ASCII", func(x *sessions.Transfer) { x.Type = "A" },
			"20 192.168.5.1 1500000 /pub/a_file.bin a _ o r lea ftp 0 * c"},
		{"no type", func(x *sessions.Transfer) { x.Type = "" },
			"20 192.168.5.1 1500000 /pub/a_file.bin a _ o r lea ftp 0 * c"},
		{"anonymous", func(x *sessions.Transfer) { x.User = "Anonymous" },
			"20 192.168.5.1 1500000 /pub/a_file.bin b _ o a Anonymous ftp 0 * c"},
		{"ftp", func(x *sessions.Transfer) { x.User = "ftp" },
			"20 192.168.5.1 1500000 /pub/a_file.bin b _ o a ftp ftp 0 * c"},
		{"user with blanks", func(x *sessions.Transfer) { x.User = "Lea Ma\tier" },
			"20 192.168.5.1 1500000 /pub/a_file.bin b _ o r Lea_Ma_ier ftp 0 * c"},
		{"mapped address", func(x *sessions.Transfer) { x.Client = netip.MustParseAddr("::ffff:192.0.2.1") },
			"20 192.0.2.1 1500000 /pub/a_file.bin b _ o r lea ftp 0 * c"},
		{"IPv6", func(x *sessions.Transfer) { x.Client = netip.MustParseAddr("2001:db8::1") },
			"20 2001:db8::1 1500000 /pub/a_file.bin b _ o r lea ftp 0 * c"},
		{"at once", func(x *sessions.Transfer) { x.Ended = x.Began },
			"1 192.168.5.1 1500000 /pub/a_file.bin b _ o r lea ftp 0 * c"},
		{"nothing known", func(x *sessions.Transfer) { x.User, x.File, x.Client = "", "", netip.Addr{} },
			"20 - 1500000 - b _ o r - ftp 0 * c"},
		{"hostile",
			func(x *sessions.Transfer) { x.File = "a\r\nb\x00c\x1b\u0085\u2028\u00a0\u202e\xff\xc3é名" },
			"20 192.168.5.1 1500000 a__b_c_______é名 b _ o r lea ftp 0 * c"},
		{"listing", func(x *sessions.Transfer) { x.Verb = "LIST" }, ""},
		{"names", func(x *sessions.Transfer) { x.Verb = "nlst" }, ""},
		{"facts", func(x *sessions.Transfer) { x.Verb = "MLSD" }, ""},
		{"unknown direction", func(x *sessions.Transfer) { x.Verb, x.Direction = "", sessions.Unknown }, ""},
	} {
		x := transfer()
		tt.change(&x)
		want := tt.want
		if want != "" {
			at := date
			if tt.name == "at once" {
				at = x.Ended.Local().Format(time.ANSIC)
			}
			want = at + " " + want + "\n"
		}
		if got, err := xferlogLine(nil, &x); err != nil || string(got) != want {
			t.Errorf("%s: got %q, error %v; want %q", tt.name, got, err, want)
		}
	}
	x := transfer()
	x.Ended = time.Date(2026, 3, 7, 9, 5, 21, 0, time.Local)
	if got, _ := xferlogLine(nil, &x); !strings.HasPrefix(string(got), "Sat Mar  7 09:05:21 2026 ") {
		t.Errorf("got %q; want the date as ctime(3) writes it", got)
	}
}

// xferlogRow is the format as its readers have it: a day of one digit has two blanks before it.
var xferlogRow = regexp.MustCompile(`^(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ` +
	`([A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d \d{4}) (\d+) (\S+) (\d+) (\S+) ` +
	`([ab]) _ ([io]) ([ar]) (\S+) ftp 0 \* ([ci])$`)

// FuzzLines: whatever a client names, a transfer is one line of JSON that says all of it, and one line of
// xferlog whose fields readers can split at blanks.
func FuzzLines(f *testing.F) {
	for _, name := range []string{"a", "", "a b", "\n", "\"\\", "\x00\x7f\u009b", "\xff\xc2",
		"é名\u2028\u202e", strings.Repeat("x y", 5000), " ", "{\"a\":1}\r\n"} {
		f.Add(name, "lea", "RETR", "I", int64(1), int64(1e9), true)
		f.Add("f", name, "STOR", "A", int64(0), int64(0), false)
		f.Add("f", "lea", name, name, int64(1)<<62, int64(-5), true)
	}
	f.Fuzz(func(t *testing.T, file, user, verb, typ string, bytes, took int64, complete bool) {
		x := transfer()
		x.File, x.User, x.Verb, x.Type, x.Bytes, x.Complete = file, user, verb, typ, max(bytes, 0), complete
		if strings.HasPrefix(verb, "S") {
			x.Direction = sessions.Upload
		}
		x.Ended = x.Began.Add(time.Duration(took) % (1000 * time.Hour))
		checkJSON(t, &x)
		checkXferlog(t, &x)
	})
}

func checkJSON(t *testing.T, x *sessions.Transfer) {
	line, err := jsonLine(nil, x)
	text, ended := strings.CutSuffix(string(line), "\n")
	if err != nil || !ended || strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text) {
		t.Fatalf("got %q, error %v; want one line that can be printed", line, err)
	}
	var got sessions.Transfer
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("got %q: %v; want JSON", line, err)
	}
	want := *x
	for _, s := range []*string{&want.File, &want.User, &want.Verb, &want.Type} {
		*s = strings.Join(strings.Split(string([]rune(*s)), ""), "") // an invalid byte is U+FFFD
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

func checkXferlog(t *testing.T, x *sessions.Transfer) {
	line, err := xferlogLine(nil, x)
	listing := map[string]bool{"LIST": true, "NLST": true, "MLSD": true}[strings.ToUpper(x.Verb)]
	if err != nil || (len(line) == 0) != listing {
		t.Fatalf("got %q, error %v for %q; want a line of what is no listing", line, err, x.Verb)
	}
	if listing {
		return
	}
	text := strings.TrimSuffix(string(line), "\n")
	m := xferlogRow.FindStringSubmatch(text)
	if m == nil || len(strings.Fields(text)) != 18 || !utf8.ValidString(text) {
		t.Fatalf("got %q; want 18 words of xferlog", text)
	}
	at, err := time.ParseInLocation("Jan _2 15:04:05 2006", m[2], time.Local)
	if err != nil || at.Unix() != x.Ended.Unix() || at.Weekday().String()[:3] != m[1] {
		t.Errorf("got time %q, error %v; want %s", m[2], err, x.Ended)
	}
	if n, err := strconv.ParseInt(m[3], 10, 64); err != nil || n < 1 || n > 1 &&
		float64(n)-x.Ended.Sub(x.Began).Seconds() > 0.5 {
		t.Errorf("got %s s; want %s", m[3], x.Ended.Sub(x.Began))
	}
	direction, complete := "o", "i"
	if x.Direction == sessions.Upload {
		direction = "i"
	}
	if x.Complete {
		complete = "c"
	}
	got := []string{m[4], m[5], m[8], m[11]}
	if want := []string{"192.168.5.1", fmt.Sprint(x.Bytes), direction, complete}; !reflect.DeepEqual(got,
		want) {
		t.Errorf("got %q; want %q", got, want)
	}
	checkField(t, m[6], x.File)
	checkField(t, m[10], x.User)
}

// checkField holds a field against the text that it stands for, character by character.
func checkField(t *testing.T, field, text string) {
	if text == "" {
		text = "-"
	}
	got, want := []rune(field), []rune(text)
	if len(got) != len(want) {
		t.Fatalf("got field %q; want one as long as %q", field, text)
	}
	for i := range got {
		if got[i] != want[i] && got[i] != '_' || got[i] == '_' && want[i] > ' ' && want[i] < 0x7f &&
			want[i] != '_' {
			t.Errorf("got field %q; want %q at %d", field, text, i)
		}
	}
}
