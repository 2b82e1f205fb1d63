package dialogue

import (
	"fmt"
	"strings"
	"testing"

	"ftpgate/internal/core/ftp"
)

// queued returns a queue of these commands: "RETR" is a transfer that has not started, "RETR*" one that has,
// "RETR-" one without a data connection, "ABOR?" an optional command, and "ABOR!" an ignorable one.
func queued(commands string) *queue {
	q := &queue{current: noRequest}
	for word := range strings.FieldsSeq(commands) {
		verb := strings.Trim(word, "*-?!")
		q.sent++
		r := q.add(strings.ReplaceAll(verb, "(blank)", blankLine))
		r.optional = r.optional || strings.ContainsAny(word, "?!")
		r.ignorable = strings.Contains(word, "!")
		if verb == "RETR" || verb == "STOR" {
			r.transfer, r.started = true, strings.Contains(word, "*")
			r.hasData = !strings.Contains(word, "-")
		}
	}
	return q
}

// Outside a transfer one command is under way at a time; in one, others go before its end.
func TestQueueAccepts(t *testing.T) {
	full := "RETR*" + strings.Repeat(" NOOP", maxOutstanding-1)
	for _, tt := range []struct {
		queue, accepted, waiting string // lines with '|' between them
	}{
		{"", "USER x|RETR f||GET/ x", ""},
		{greeting, "", "USER x|NOOP|"},
		{"NOOP", "", "NOOP|ABOR|PASV|RETR f|"},
		{"ABOR?", "NOOP|ABOR|PASV|RETR f|", ""},
		{"ABOR!", "NOOP|ABOR|PASV|RETR f|USER x|AUTH TLS", ""},
		{"ABOR! PWD", "", "NOOP|ABOR|PASV"},
		{"ABOR! RETR", "ABOR|NOOP", "PASV|RETR f"},
		{strings.Repeat("ABOR! ", maxOutstanding), "", "NOOP|ABOR|PASV"},
		{"(blank) (blank)", "NOOP|PASV", ""},
		{"STOR*", "ABOR|\xff\xf4\xff\xf2ABOR|stat|QUIT|NOOP|XMD5 f|CWD /|FEAT|",
			"PASV|EPSV|PORT 1|EPRT x|USER x|PASS x|ACCT x|REIN|AUTH TLS|PROT P|CCC|STOR y|LIST|GET/ x|LPSV"},
		{"STOR* NOOP ABOR", "ABOR|NOOP", "PASV|LIST"},
		{"STOR-", "PASV|EPSV|PORT 1|EPRT x|ABOR|NOOP", "STOR y|USER x"},
		{"STOR- NOOP", "ABOR|NOOP", "PASV"},
		{"STOR*- PASV", "", "ABOR|NOOP|PASV"}, // the answer to PASV comes first
		{full, "", "NOOP|ABOR"},
		{"PASS?", "NOOP|USER x|PASS x", "AUTH TLS|REIN"},
		{"NOOP NOOP", "", "NOOP"}, // left over from a transfer
	} {
		q := queued(tt.queue)
		for want, lines := range map[bool]string{true: tt.accepted, false: tt.waiting} {
			if lines == "" {
				continue
			}
			for line := range strings.SplitSeq(lines, "|") {
				if got := q.accepts(ftp.ParseClientLine([]byte(line))); got != want {
					t.Errorf("%q after %s: got %t; want %t", line, tt.queue, got, want)
				}
			}
		}
	}
}

// Optional commands do not fill the queue.
func TestQueueForgets(t *testing.T) {
	q := queued(strings.Repeat("(blank) ", 3*maxOutstanding))
	if len(q.requests) != maxOutstanding || !q.accepts(ftp.ParseClientLine([]byte("NOOP"))) {
		t.Errorf("got %d commands, or no more; want %d and more", len(q.requests), maxOutstanding)
	}
	if first := q.requests[0].number; first != 2*maxOutstanding+1 {
		t.Errorf("got number %d first; want the oldest ones forgotten", first)
	}
}

// matches are commands under way, and which one of them each reply answers, by codes; 0: none.
type matches []struct {
	queue string
	want  map[string]int
}

// The code of a reply says whose it is.
func TestQueueMatches(t *testing.T) {
	wantMatches(t, matches{
		{"", map[string]int{"200 227 421 550": 0}},
		{"NOOP", map[string]int{"200 227 421 550 150": 1}},
		{"NOOP PWD", map[string]int{"200 257 227": 1}},
		{"RETR", map[string]int{"150 200 226 227 250 331 425 550 500 421": 1}},
		{"RETR*", map[string]int{"226 250 426 451 200 550 500 225 221": 1}},
		{"RETR NOOP", map[string]int{"200 213 257 331": 2, "150 125 226 250 550 425 500 421": 1, "227": 2}},
		{"RETR* NOOP", map[string]int{"200 213 257 550 500 450": 2,
			"226 250 425 426 451 452 551 552 421 150": 1}},
		{"RETR* CWD", map[string]int{"250 550": 2, "226 426": 1}},
		{"RETR* NOOP QUIT", map[string]int{"221": 3, "200": 2, "226": 1}},
		{"RETR* ABOR", map[string]int{"226 225 250 426 451 550": 1, "500 502": 2}},
		{"RETR ABOR", map[string]int{"226 225 200 426 500 502 150": 1}},
		{"RETR* NOOP ABOR", map[string]int{"200 500": 2, "226 225": 1}},
		{"STOR*- PASV", map[string]int{"227 425 500": 2, "150": 1}},
		{"STOR*- PORT", map[string]int{"200 500 425": 2, "150": 1}},
		{"ABOR?", map[string]int{"226 500 421": 1, "227": 0}},
		{"ABOR? NOOP", map[string]int{"226 225 426": 1, "200 500 550": 2}},
		{"ABOR? PASV", map[string]int{"226 225 200": 1, "227 229 500 425": 2}},
		{"ABOR? RETR", map[string]int{"226 225": 1, "150 550": 2}},
		{"ABOR? RETR*", map[string]int{"226 225 426": 2}},
		{"(blank)", map[string]int{"500 200": 1}},
		{"(blank) NOOP", map[string]int{"500": 1, "200 550 502": 2}},
		{"RETR* (blank)", map[string]int{"500": 2, "226 550": 1}},
		{"NOOP? USER", map[string]int{"200 250 350 500 502": 1, "230 232 331 332 421 530 550": 2}},
		{"NOOP? PASS", map[string]int{"200 202 250 350 500 502": 1, "230 232 332 421 530 550": 2}},
		{"(blank) PASS", map[string]int{"500 502 200": 1, "230 530": 2}},
		{"PASS", map[string]int{"200 350 500": 1}}, // no other user is meant
		{"NOOP? AUTH", map[string]int{"200 350": 1, "234 334 500 534": 2}},
		{"PASS? NOOP", map[string]int{"200 250 500 202": 2, "230 421 530 550": 1}},
		{"PASS?", map[string]int{"230 331 500 530": 1, "200 202": 0}},
		{"USER? PASS", map[string]int{"331 530 500": 1, "200": 2}},
		{"PASS? USER", map[string]int{"331": 2, "230 530": 1}},
		{"USER? PASV", map[string]int{"530 227": 2}},
		{"RETR* ABOR PWD", map[string]int{"257 200 550": 3, "226 426 250 150": 1, "500": 2}},
		{"RETR* ABOR CWD", map[string]int{"250": 3, "226": 1}},
		{"RETR ABOR PWD", map[string]int{"257 226": 1}},
		{"SITE?", map[string]int{"200": 1, "229": 0}},
		{"SITE? NOOP", map[string]int{"200": 2}},
		{"SITE? EPSV", map[string]int{"200": 1, "229": 2}},
	})
}

// The first reply that fits an ignorable command is its own; one that fits a later command alone is not.
func TestQueueMatchesIgnorable(t *testing.T) {
	wantMatches(t, matches{
		{"ABOR!", map[string]int{"225 226 500 502 200 421": 1}},
		{"ABOR! ABOR!", map[string]int{"225 226 500": 1}},
		{"ABOR! PWD", map[string]int{"225 226 500 502": 1, "257 200 550 421": 2}},
		{"ABOR! PASV", map[string]int{"225 226 200 500 502": 1, "227 425 530": 2}},
		{"ABOR! PORT", map[string]int{"225 226 500 502": 1, "200 501 530": 2}},
		{"ABOR! RETR", map[string]int{"225 226 500 502": 1, "150 125 425 550 421": 2}},
		{"ABOR! RETR*", map[string]int{"225 226 426": 2}},
		{"ABOR! RETR NOOP", map[string]int{"226": 1, "150": 2, "200": 3}},
		{"ABOR! USER", map[string]int{"225 226 500": 1, "331 230 530": 2}},
		{"ABOR! AUTH", map[string]int{"225 500": 1, "234 534": 2}},
		{"STAT! NOOP", map[string]int{"211 212 500": 1, "200": 2}},
		{"QUIT! NOOP", map[string]int{"221 502": 1, "200": 2}},
	})
}

func wantMatches(t *testing.T, all matches) {
	t.Helper()
	for _, tt := range all {
		for codes, want := range tt.want {
			for code := range strings.FieldsSeq(codes) {
				q := queued(tt.queue)
				var n, got int
				fmt.Sscan(code, &n)
				if q.begin(n); q.current != noRequest {
					got = q.current
				}
				if got != want {
					t.Errorf("%s to %s: got command %d; want %d", code, tt.queue, got, want)
				}
			}
		}
	}
}

// With the last reply of a transfer, ABOR behind it may have got its answer.
func TestQueueAborts(t *testing.T) {
	q := queued("RETR* NOOP ABOR")
	if !q.requests[0].aborted {
		t.Error("ABOR behind a transfer: got it not aborted")
	}
	q.begin(426)
	q.answered()
	if q.requests[0].verb != "NOOP" || q.requests[0].optional || !q.requests[1].optional {
		t.Errorf("got %+v; want NOOP, and an optional ABOR", q.requests)
	}
	if !q.awaits() {
		t.Error("got no reply outstanding; want NOOP's")
	}
	if !q.accepts(ftp.ParseClientLine([]byte("NOOP"))) {
		t.Error("got a command waiting behind one that the server may have dropped; want it sent")
	}
	q.begin(200)
	q.answered()
	if q.awaits() {
		t.Error("got a reply outstanding; want none for an optional ABOR")
	}
}
