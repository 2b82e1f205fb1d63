package transcript

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/observe/sessions"
)

// pair is a command and the server's answer to it, line by line.
type pair struct {
	command string
	replies []string
}

// timeline returns the time line of a session with these exchanges, an event a line.
func timeline(exchanges ...pair) string {
	sessionLog := sessions.New(time.Now())
	record := sessionLog.Begin(sessions.Start{})
	tr, replies, now := New(record), ftp.ReplyScanner{}, time.Now()
	for i, e := range exchanges {
		tr.Command(now, ftp.ParseClientLine([]byte(e.command)))
		for _, r := range e.replies {
			tr.Reply(now, replies.Next([]byte(r), ftp.EndCRLF, false), i+1)
		}
	}
	explained, _ := sessionLog.Explain(record.ID())
	var text strings.Builder
	for _, ev := range explained.Events {
		fmt.Fprintf(&text, "%s: %s\n", ev.Kind, ev.Text)
	}
	return text.String()
}

func TestTranscript(t *testing.T) {
	for name, tt := range map[string]struct {
		pair pair
		want string
	}{
		"a command": {pair{"CWD a b", []string{"250 ok"}}, "command: CWD a b\nreply: 250 ok\n"},
		"a password": {pair{"PASS hunter2", []string{"230 hunter2 it is"}},
			"command: PASS (not shown)\nreply: 230 (not shown) it is\n"},
		"a password without a space": {pair{"PASShunter2", []string{"530 hunter2 is wrong"}},
			"command: PASS (not shown)\nreply: 530 (not shown) is wrong\n"},
		"SITE": {pair{"SITE PSWD hunter2", []string{"200 now hunter2"}},
			"command: SITE (not shown)\nreply: 200 (not shown)\n"},
		"an unknown command": {pair{"hunter two", []string{"500 hunter?"}},
			"command: (unknown command)\nreply: 500 (not shown)\n"},
		"no command": {pair{"hunter/2", []string{"500 hunter2?"}},
			"command: (no command)\nreply: 500 (not shown)\n"},
		"first and last line": {pair{"FEAT", []string{"211-a", "b", "211 c"}},
			"command: FEAT\nreply: 211-a\nreply: 211 c\n"},
		"no reply": {pair{"NOOP", []string{"HTTP/1.1 hunter"}},
			"command: NOOP\nreply: (a line without a code)\n"},
		"bytes": {pair{"NOOP", []string{"200 \xff"}}, "command: NOOP\nreply: 200 ?\n"},
	} {
		if got := timeline(tt.pair); got != tt.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, tt.want)
		}
	}
}

// While several commands await their replies, each is recorded with its command: a secret stays one, and the
// answer to another command is shown.
func TestTranscriptOfSeveralCommands(t *testing.T) {
	sessionLog := sessions.New(time.Now())
	record := sessionLog.Begin(sessions.Start{})
	tr, replies, now := New(record), ftp.ReplyScanner{}, time.Now()
	for _, command := range []string{"RETR f", "hunter2 x", "NOOP", "", "PASS hunter3"} {
		tr.Command(now, ftp.ParseClientLine([]byte(command)))
	}
	for _, r := range []struct {
		line    string
		answers int
		verb    string
	}{
		{"200 ok", 3, "NOOP"}, {"226 done", 1, "RETR"}, {"500 hunter2?", 2, ""}, {"500 hunter3?", 4, ""},
		{"530 no", 5, "PASS"},
		{"200 hunter2?", -1, "PASS"},
	} {
		tr.Reply(now, replies.Next([]byte(r.line), ftp.EndCRLF, false), r.answers)
		if got := tr.Verb(); got != r.verb {
			t.Errorf("%s: got verb %q; want %q", r.line, got, r.verb)
		}
	}
	explained, _ := sessionLog.Explain(record.ID())
	var text []string
	for _, ev := range explained.Events {
		text = append(text, ev.Text)
	}
	got := strings.Join(text, ", ")
	const want = "RETR f, (unknown command), NOOP, (a blank line), PASS (not shown), 200 ok, 226 done, " +
		"500 (not shown), 500 (not shown)?, 530 no, "
	if !strings.HasPrefix(got, want) || len(tr.open) != 0 {
		t.Errorf("got %s, and %d open; want %s", got, len(tr.open), want)
	}
	for range 3 * maxOpen { // that are not answered
		tr.Command(now, ftp.ParseClientLine([]byte("")))
	}
	if len(tr.open) != maxOpen {
		t.Errorf("got %d open commands; want %d", len(tr.open), maxOpen)
	}
}

// The gateway's own lines are recorded if they differ from those of the ends.
func TestTranscriptSteps(t *testing.T) {
	sessionLog := sessions.New(time.Now())
	record := sessionLog.Begin(sessions.Start{})
	tr, replies, now := New(record), ftp.ReplyScanner{}, time.Now()
	line := ftp.ParseClientLine([]byte("EPSV"))
	tr.Command(now, line)
	tr.CommandStep(now, line, dialogue.Step{ToServer: []byte("PASV\r\n")})
	reply := replies.Next([]byte("227 (10,0,0,1,195,80)"), ftp.EndCRLF, false)
	tr.Reply(now, reply, 1)
	tr.ReplyStep(now, reply, dialogue.Step{ToClient: []byte("229 (|||50000|)\r\n")})
	line = ftp.ParseClientLine([]byte("PASV"))
	tr.Command(now, line)
	tr.CommandStep(now, line, dialogue.Step{ToServer: []byte("PASV\r\n")}) // as the client sent it
	explained, _ := sessionLog.Explain(record.ID())
	var kinds []string
	for _, ev := range explained.Events {
		kinds = append(kinds, fmt.Sprintf("%s %.4s", ev.Kind, ev.Text))
	}
	if got, want := strings.Join(kinds,
		", "), "command EPSV, ask PASV, reply 227 , answer 229 , command PASV"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if got := tr.Verb(); got != "PASV" {
		t.Errorf("got verb %q; want PASV", got)
	}
}

func TestKnown(t *testing.T) {
	for verb, want := range map[string]bool{"ABOR": true, "XRMD": true, "RETR": true, "HUNTER": false,
		"": false, "retr": false} {
		if got := Known(verb); got != want {
			t.Errorf("%q: got %t; want %t", verb, got, want)
		}
	}
}

// Without a record nothing is kept.
func TestNoRecord(t *testing.T) {
	tr := New(nil)
	tr.Command(time.Now(), ftp.ParseClientLine([]byte("PASS hunter2")))
	if !reflect.DeepEqual(tr, Transcript{}) {
		t.Errorf("got %+v; want nothing kept", tr)
	}
}
