package dialogue

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// A step that was returned stays as it was, whatever happens to the dialogue, and to the line, later.
func TestStepsStay(t *testing.T) {
	for _, s := range scripts(t) {
		d := newParsed(addresses[s.ends], s.config)
		var steps []Step
		var texts [][]string
		for _, l := range s.lines {
			kind, rest, _ := strings.Cut(l, " ")
			if kind != "C" && kind != "S" && kind != "+" {
				continue
			}
			steps = append(steps, input(t, d, kind, rest))
			last := steps[len(steps)-1]
			texts = append(texts, show(last))
			// A caller may write behind its lines.
			_ = append(last.ToClient, "!!!!!!!!!!!!!!!!"...)
			_ = append(last.ToServer, "!!!!!!!!!!!!!!!!"...)
		}
		for i, step := range steps {
			if got := show(step); !slices.Equal(got, texts[i]) {
				t.Errorf("%s: step %d became %q; want %q", s.name, i, got, texts[i])
			}
		}
	}
}

// A reply ends as the server ends it, also where its numbers are rewritten. The end of the stream ends none.
func TestLineEndings(t *testing.T) {
	for ending, want := range map[ftp.Ending]string{ftp.EndNone: "\r\n", ftp.EndLF: "\n",
		ftp.EndCRLF: "\r\n"} {
		d := newParsed(addresses["4"], Config{LoginFailures: 5})
		say := func(line string) string {
			return string(d.Reply(d.replies.Next([]byte(line), ending, false)).ToClient)
		}
		got := say("220 hello")
		d.client("USER x")
		got += say("230 welcome")
		d.client("EPSV")
		say("229 on (|||50000|)")
		got += string(d.Opened(netip.MustParseAddrPort("192.168.5.2:50001")).ToClient)
		if want := "220 hello" + want + "230 welcome" + want + "229 on (|||50001|)" + want; got != want {
			t.Errorf("ending %q: got %q; want %q", ending, got, want)
		}
	}
}

// A 227 without a port ends with CR LF: to clients that know no other end of a line, the next line would be
// its end, and perhaps have a port.
func TestLineEndingWithoutPort(t *testing.T) {
	d := newParsed(addresses["4"], Config{LoginFailures: 5})
	d.server("220 hello")
	d.client("USER x")
	d.server("230 welcome")
	d.client("PASV")
	if got := string(d.Reply(d.replies.Next([]byte("227 Hello"), ftp.EndLF,
		false)).ToClient); got != "227 Hello\r\n" {
		t.Errorf("got %q; want CR LF", got)
	}
}

// Each event about an action returns a step of its own, and leaves the step before as it was.
func TestEventsReturnNewSteps(t *testing.T) {
	at := netip.MustParseAddrPort("192.168.5.2:50000")
	for name, event := range map[string]func(*parsed) Step{
		"Opened": func(p *parsed) Step { return p.Opened(at) },
		"Failed": func(p *parsed) Step { return p.Failed("no", "mend it") },
		"Broken": func(p *parsed) Step {
			return p.Broken(pinhole.Failure{ReplyCode: 426, Reason: "broken"})
		},
		"Broken, in the server's words": func(p *parsed) Step {
			return p.Broken(pinhole.Failure{Reason: "no TLS"})
		},
	} {
		d := newParsed(addresses["4"], Config{LoginFailures: 5})
		d.server("220 hello")
		d.client("USER x")
		d.server("230 welcome")
		d.client("EPSV")
		before := d.server("229 (|||50000|)")
		if strings.HasPrefix(name, "Broken") {
			d.Opened(at)
			d.client("RETR x")
			before = d.server("425 no")
		}
		was := show(before)
		after := event(d)
		for i := range after.ToClient {
			after.ToClient[i] = '!'
		}
		if got := show(before); !slices.Equal(got, was) {
			t.Errorf("%s: the step before became %q; want %q", name, got, was)
		}
		if slices.Equal(show(after), was) {
			t.Errorf("%s: got the step before: %q", name, was)
		}
	}
}

// A step says whether the server ends a transfer because of its data connection. A failure without a reply
// code leaves the server's words to the client.
func TestDataRefused(t *testing.T) {
	for reply, want := range map[string]bool{
		"425 no": true, "426 no": true, "522 no": true, "534 no": true,
		"550 no such file": false, "451 no": false,
	} {
		d := newParsed(addresses["4"], Config{LoginFailures: 5})
		d.server("220 hello")
		d.client("USER x")
		d.server("230 welcome")
		d.client("EPSV")
		d.server("229 (|||50000|)")
		d.Opened(netip.MustParseAddrPort("192.168.5.2:50000"))
		d.client("RETR x")
		d.server("150 here it comes")
		if got := d.server(reply).DataRefused; got != want {
			t.Errorf("%s: got DataRefused %t; want %t", reply, got, want)
		}
		s := d.Broken(pinhole.Failure{Reason: "not resumed"})
		if s.Refusal.Kind != verdict.RefusedBrokenTransfer || string(s.ToClient) != reply+"\r\n" {
			t.Errorf("%s: got %s and %q; want a refusal and the reply", reply, s.Refusal.Kind, s.ToClient)
		}
	}
}

// A step says when a login begins, becomes another user's, and ends.
func TestStepLogin(t *testing.T) {
	d := newParsed(addresses["4"], Config{LoginFailures: 5})
	for _, tt := range []struct {
		command, reply string
		want           Login
	}{
		{"", "220 hello", SameLogin},
		{"USER a", "331 password", SameLogin},
		{"PASS a", "230 welcome", LoggedIn},
		{"NOOP", "200 ok", SameLogin},
		{"USER b", "230 welcome", LoggedIn},
		{"REIN", "220 ready", LoggedOut},
		{"USER b", "530 no", SameLogin},
	} {
		if tt.command != "" {
			d.client(tt.command)
		}
		if got := d.server(tt.reply).Login; got != tt.want {
			t.Errorf("%s, %s: got login %d; want %d", tt.command, tt.reply, got, tt.want)
		}
	}
}

// An error of several lines to PASV passes on whole, but for lines that are too many to be kept.
func TestLongErrors(t *testing.T) {
	d := newParsed(addresses["4"], Config{LoginFailures: 5})
	d.replies = ftp.ReplyScanner{MaxLines: 2000, MaxBytes: 2 << 20}
	d.server("220 hello")
	d.client("USER x")
	d.server("230 welcome")
	d.client("PASV")
	for range 1000 {
		if s := d.server("425-" + strings.Repeat("x", 1000)); len(s.ToClient) > 0 ||
			len(d.held.lines) > maxHeldBack {
			t.Fatalf("got %d bytes sent and %d kept; want none, and no more than %d", len(s.ToClient),
				len(d.held.lines), maxHeldBack)
		}
	}
	s := d.server("425 no")
	if text := string(s.ToClient); !strings.HasPrefix(text, "425-x") || !strings.HasSuffix(text,
		"\n425 no\r\n") {
		t.Errorf("got %.20q ... of %d bytes; want lines, and the last one", text, len(text))
	}
	if s := d.server("421 bye"); string(s.ToClient) != "421 bye\r\n" {
		t.Errorf("got %q; want 421 bye", s.ToClient)
	}
}
