package top

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

var began = time.Date(2026, 3, 14, 9, 0, 0, 0, time.Local)

var testWords = Words{
	Explain: func(s terminal.Terminal, e sessions.Explained, _ time.Time) []string {
		lines := s.Labelled("verdict", 9, e.Verdict.Text)
		for _, event := range e.Events {
			lines = append(lines, s.Wrap("  ", event.Text)...)
		}
		return lines
	},
	Activity: func(one sessions.Session, _ time.Time) string { return string(one.State) },
	Health:   func(h *admin.Health, _ time.Time) string { return fmt.Sprint("answers: ", h.Answers) },
}

// session returns a session that has carried bytes.
func session(number int, user string, down int64) sessions.Session {
	return sessions.Session{ID: fmt.Sprint("3p5kx-", number), Forward: "files",
		Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(number)}), 40000), User: user,
		Since: began.Add(time.Duration(number) * time.Second), State: sessions.StateIdle,
		Totals: sessions.Totals{Down: down}, Verdict: verdict.Verdict{Code: verdict.CodeFine}}
}

// answer returns an answer of one ftpgate after so many seconds of a minute.
func answer(seconds int, all ...sessions.Session) Answer {
	at := began.Add(time.Minute + time.Duration(seconds)*time.Second)
	i := Instance{Key: "1", PID: 12, Title: "process 12: /etc/ftpgate/ftpgate.toml", At: at, Sessions: all,
		Status: admin.Status{Since: began, Forwards: []admin.Forward{{Name: "files", Listen: ":2121",
			Server: "203.0.113.21:21", Counts: &admin.Counts{Sessions: len(all)},
			Health: &admin.Health{Answers: true}}}}}
	return Answer{at, []Instance{i}}
}

// retrieving is a session with a transfer of a file.
func retrieving(one sessions.Session, file string) sessions.Session {
	one.Transfer = &sessions.Transfer{Verb: "RETR", File: file}
	return one
}

// after returns the state after events, and the last request.
func after(s State, events ...any) (State, Request) {
	var r Request
	for _, e := range events {
		s, r = s.Update(e)
	}
	return s, r
}

// screen returns what a state shows, each line with a mark for its style.
func screen(s State) string {
	var b strings.Builder
	for _, l := range s.Lines() {
		b.WriteString(strings.TrimRight(map[Style]string{Plain: " ", Title: "#", Selected: ">",
			Bad: "!"}[l.Style]+
			l.Text, " ") + "\n")
	}
	return b.String()
}

func wantScreen(t *testing.T, s State, want string) {
	t.Helper()
	if got := screen(s); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// three has an idle session, one that downloads 2 kB/s, and one that began a second ago and has failed.
func three(t *testing.T, size Size) State {
	t.Helper()
	failed := session(61, "zoe", 1000)
	failed.Verdict.Code = verdict.CodeClientNeverConnected
	s, _ := after(NewState(false, testWords), size,
		answer(0, session(1, "anna", 5), retrieving(session(2, "bert", 10_000), "/a.iso")),
		answer(2, session(1, "anna", 5), retrieving(session(2, "bert", 14_000), "/a.iso"), failed))
	return s
}

// The screen of a state, at several sizes.
func TestScreens(t *testing.T) {
	for _, size := range []Size{{80, 12}, {40, 10}, {120, 13}, {20, 4}, {1, 1}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) { wantScreen(t, three(t, size), screens[size]) })
	}
	if lines := NewState(false, testWords).Lines(); lines != nil {
		t.Errorf("without a size got %v; want nothing", lines)
	}
}

var screens = map[Size]string{
	{80, 12}: `
#ftpgate top 09:01:02  3 sessions, 1 transfer  up 0 B/s  down 2.5 kB/s
 1 forward
#SESSION   FORWARD  CLIENT      USER  AGE      UP/s    DOWN/s  DOING
>3p5kx-2   files    192.0.2.2   bert   1m       0 B    2.0 kB  RETR /a.iso
!3p5kx-61  files    192.0.2.61  zoe    1s       0 B     500 B  idle
 3p5kx-1   files    192.0.2.1   anna   1m       0 B       0 B  idle




 by rate
#? help  enter time line  / filter  < > sort  f forwards  K kill  B ban  q quit
`,
	{40, 10}: `
#ftpgate top 09:01:02  3 sessions, 1 tr..
 1 forward
#CLIENT        DOWN/s  DOING
>192.0.2.2     2.0 kB  RETR /a.iso
!192.0.2.61     500 B  idle
 192.0.2.1        0 B  idle



 by rate
`,
	{120, 13}: `
#ftpgate top 09:01:02  3 sessions, 1 transfer  up 0 B/s  down 2.5 kB/s
 1 forward
#SESSION   FORWARD  CLIENT      USER  AGE      UP/s    DOWN/s   UP    DOWN  FAILED  DOING
>3p5kx-2   files    192.0.2.2   bert   1m       0 B    2.0 kB  0 B   14 kB       0  RETR /a.iso
!3p5kx-61  files    192.0.2.61  zoe    1s       0 B     500 B  0 B  1.0 kB       0  idle
 3p5kx-1   files    192.0.2.1   anna   1m       0 B       0 B  0 B     5 B       0  idle





 by rate
#? help  enter time line  / filter  < > sort  f forwards  K kill  B ban  q quit
`,
	{20, 4}: `
 1 forward
#CLIENT     DOING
>192.0.2.2  RETR /a..
 by rate
`,
	{1, 1}: `
 .
`,
}

// What the screen shows after keys, and what the last of them asks for.
func TestKeys(t *testing.T) {
	for _, test := range []struct {
		keys string // between spaces
		want string // a line of the screen; empty: any
		then Request
	}{
		{"q", "", Request{Quit: true}},
		{"/ q ctrl+c", " /q_", Request{Quit: true}},
		{"ctrl+z", "", Request{Suspend: true}},
		{"ctrl+l", "", Request{Redraw: true}},
		{"e", " by rate; ended ones, too", Request{Poll: true}},
		{"s s s s s s", ">3p5kx-1   files    192.0.2.1   anna   1m       0 B       0 B  idle", Request{}},
		{"< <", " by forward", Request{}},
		{"> r", " by up, reversed", Request{}},
		{"/ A N N enter", " by rate; only with ANN (esc: all)", Request{}},
		{"/ A N backspace N enter", " by rate; only with AN (esc: all)", Request{}},
		{"/ A N ctrl+u", " /_", Request{}},
		{"/ A space B", " /A B_", Request{}},
		{"/ x esc", " by rate", Request{}},
		{"/ x enter esc", " by rate", Request{}},
		{"/ z o enter", ">3p5kx-61  files    192.0.2.61  zoe    1s       0 B     500 B  0 B  1.0 kB  idle",
			Request{}},
		{"f", ">files    :2121   203.0.113.21:21         3       0 B    2.5 kB  answers: true", Request{}},
		{"f f", " by rate", Request{}},
		{"tab enter", " by rate; only with files (esc: all)", Request{}},
		{"f K", "!no session is selected", Request{}},
		{"j enter", " asking for session 3p5kx-61", Request{Poll: true}},
		{"down down down up K", "!kill? y: yes, any other key: no. Session 3p5kx-61 of zoe from 192.0.2.61",
			Request{}},
		{"K y", " by rate", Request{Kill: SessionID{"1", "3p5kx-2"}}},
		{"end f9 y", "", Request{Kill: SessionID{"1", "3p5kx-1"}}},
		{"K q", " by rate", Request{}},
		{"K enter", " by rate", Request{}},
		{"G B", "!ban 192.0.2.1? h: an hour, d: a day, u: until it is lifted, any other key: no", Request{}},
		{"B q", " by rate", Request{}},
		{"B h", "", banOf("1", netip.MustParseAddr("::ffff:192.0.2.2"), time.Hour)},
		{"B d", "", banOf("1", netip.MustParseAddr("192.0.2.2"), 24*time.Hour)},
		{"B u", "", banOf("1", netip.MustParseAddr("192.0.2.2"), 0)},
		{"?", " up, down, k, j  move; pgup, pgdn, g, G move further", Request{}},
		{"? q", " by rate", Request{}},
		{"enter ? esc", " by rate", Request{}},
		{"f ? esc", "#f sessions  enter its sessions  ? help  q quit", Request{}},
	} {
		var events []any
		for key := range strings.FieldsSeq(test.keys) {
			events = append(events, Key(key))
		}
		s, r := after(three(t, Size{80, 24}), events...)
		if r != test.then {
			t.Errorf("%s: got the request %+v; want %+v", test.keys, r, test.then)
		}
		if got := screen(s); !strings.Contains("\n"+got, "\n"+test.want) {
			t.Errorf("%s: got\n%s\nwant %q", test.keys, got, test.want)
		}
	}
}

// The cursor stays at the session that the operator has selected, and until then at the top. A question is
// about the session of its time, whatever comes.
func TestSelection(t *testing.T) {
	s := three(t, Size{80, 12})
	all := s.instances[0].Sessions
	busy := answer(4, session(1, "anna", 50_000), all[1], all[2])
	top, _ := after(s, busy)
	follows, _ := after(s, Key("down"), busy)
	if top.selected.ID != "3p5kx-1" || follows.selected.ID != "3p5kx-61" {
		t.Errorf("got %s at the top, and %s followed; want 1 and 61", top.selected.ID, follows.selected.ID)
	}
	_, r := after(s, Key("down"), Key("K"), answer(4, all[0]), Key("y"))
	if r.Kill.ID != "3p5kx-61" {
		t.Errorf("got %+v killed; want the session that was asked about", r.Kill)
	}
	if s, r = after(s, answer(5), Key("K"), Key("y")); r != (Request{}) {
		t.Errorf("without sessions got %+v; want nothing done", r)
	}
	s, _ = after(s, Key("enter"), Key("f"), Key("down"), Key("G"), Key("enter"))
	if s.view != viewSessions {
		t.Errorf("got view %d; want the sessions", s.view)
	}
}

// Pasted text is no keys: it goes into the filter, or nowhere.
func TestPaste(t *testing.T) {
	if s, r := after(three(t, Size{80, 12}), Paste("Kyq")); s.asked != askNothing || r != (Request{}) {
		t.Errorf("got question %d, %+v; want nothing", s.asked, r)
	}
	s, _ := after(three(t, Size{80, 12}), Key("/"), Paste("an\x1b[31m\n"+strings.Repeat("n", 200)),
		Key("enter"))
	if want := "an[31m" + strings.Repeat("n", maxFilter-6); s.filter != want {
		t.Errorf("got the filter %q; want %q", s.filter, want)
	}
}

// Of an ftpgate that is slow the last answer stays; of one that has ended the screen says so for a while.
func TestInstances(t *testing.T) {
	a := answer(2, session(1, "anna", 0))
	other := a.Instances[0]
	other.Key, other.PID, other.Title, other.Sessions = "2", 13, "process 13: forward \x1b[31m", nil
	other.Problem = "has not answered for 3s"
	s, _ := after(NewState(false, testWords), Size{80, 12}, Answer{a.At, append(a.Instances, other)})
	wantScreen(t, s, `
#ftpgate top 09:01:02  1 session, 0 transfers  up 0 B/s  down 0 B/s
 2 forwards
 process 12: /etc/ftpgate/ftpgate.toml, since 1m
!process 13: forward \x1b[31m: has not answered for 3s
#PROCESS  SESSION  FORWARD  CLIENT     USER  AGE      UP/s    DOWN/s  DOWN  DOING
>     12  3p5kx-1  files    192.0.2.1  anna   1m         -         -   0 B  idle




 by rate
#? help  enter time line  / filter  < > sort  f forwards  K kill  B ban  q quit
`)
	s, _ = after(s, a)
	if want := "!process 13: forward \\x1b[31m: has ended\n"; !strings.Contains(screen(s), want) {
		t.Errorf("got\n%s\nwant %q", screen(s), want)
	}
	if s, _ = after(s, answer(32, a.Instances[0].Sessions...)); strings.Contains(screen(s), "has ended") {
		t.Errorf("after half a minute got\n%s\nwant nothing of it", screen(s))
	}
	if s, _ = after(s, Answer{At: a.At.Add(time.Hour)}); !strings.Contains(screen(s),
		"no ftpgate is running here") {
		t.Errorf("got\n%s\nwant that none runs", screen(s))
	}
}

// A time line that cannot be renewed stays, with the reason. One that was closed does not come back.
// A forward with tracking none has no numbers.
func TestUncounted(t *testing.T) {
	a := answer(0)
	a.Instances[0].Status.Forwards[0].Counts = nil
	s, _ := after(NewState(false, testWords), Size{80, 12}, a, Key("f"))
	want := []string{">files", ":2121", "203.0.113.21:21", "-", "-", "-", "answers:", "true"}
	if got := strings.Fields(lineOf(t, s, "files")); !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}

// lineOf returns the line of the screen that has text in it.
func lineOf(t *testing.T, s State, text string) string {
	t.Helper()
	for line := range strings.Lines(screen(s)) {
		if strings.Contains(line, text) {
			return line
		}
	}
	t.Fatalf("got\n%s\nwant %q in it", screen(s), text)
	return ""
}

func TestTimeLine(t *testing.T) {
	of := SessionID{"1", "3p5kx-2"}
	e := sessions.Explained{Session: session(2, "bert", 0)}
	e.Verdict.Text = "nothing went wrong"
	for n := range 30 {
		e.Events = append(e.Events, sessions.Event{Text: fmt.Sprint("event ", n)})
	}
	s, _ := after(three(t, Size{80, 12}), Key("enter"), TimeLine{Of: of, Explained: e})
	if got := screen(s); !strings.Contains(got, " verdict    nothing went wrong\n   event 0\n") {
		t.Errorf("got\n%s\nwant the beginning", got)
	}
	s, _ = after(s, Key("G"), Key("k"))
	if got := screen(s); !strings.Contains(got, "event 28\n\n") || strings.Contains(got, "event 29") {
		t.Errorf("got\n%s\nwant all but the last line", got)
	}
	s, _ = after(s, TimeLine{Of: of, Err: fmt.Errorf("it has\x1b[31m ended")})
	if got := screen(s); !strings.Contains(got, "event 28\n!this is the last that was heard: it "+
		"has\\x1b[31m ended\n") {
		t.Errorf("got\n%s\nwant what was there, and the reason", got)
	}
	s, _ = after(s, Key("q"), TimeLine{Of: of, Explained: e})
	if _, explain := s.Wanted(); s.view != viewSessions || explain != (SessionID{}) {
		t.Errorf("got view %d, %v asked for; want the list alone", s.view, explain)
	}
}
