package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

// aFewSessions returns a source with sessions of every sort, also with hostile peers.
func aFewSessions(now time.Time) *answers {
	busy, idle, waits, evil := oneSession(now), oneSession(now), oneSession(now), oneSession(now)
	idle.ID, idle.State, idle.Transfer, idle.TLS = "3p5kx-18", sessions.StateIdle, nil, sessions.TLS{}
	waits.ID, waits.State, waits.Transfer, waits.User = "3p5kx-19", sessions.StateCommand, nil, ""
	waits.Client = netip.MustParseAddrPort("[2001:db8:5::17]:40112")
	waits.Verdict = verdict.Verdict{Code: verdict.CodeWaiting, Text: "so far the client never connected to " +
		"192.168.5.2:51234 within 4 s"}
	evil.ID, evil.User = "3p5kx-20", "\x1b]0;owned\a"
	evil.Transfer = &sessions.Transfer{Direction: sessions.Upload, File: "/\u202egpj.exe\u009b2J\xff\n中",
		Bytes: 1}
	ended := oneSession(now)
	ended.ID, ended.State, ended.Transfer = "3p5kx-9", sessions.StateEnded, nil
	ended.Since, ended.Ended = now.Add(-3*time.Hour), now.Add(-time.Hour-time.Minute)
	ended.Verdict = verdict.Verdict{Code: verdict.CodeLoginFailed, Text: "the server rejected the login"}
	return &answers{
		status:  admin.Status{Forwards: []admin.Forward{{Name: "archive"}, {Name: "camera"}}},
		running: []sessions.Session{busy, idle, waits, evil}, ended: []sessions.Session{ended},
	}
}

func TestSessionsOnTerminal(t *testing.T) {
	socket := answering(t, aFewSessions(time.Now()))
	want := `SESSION   FORWARD  CLIENT          USER          AGE  DOING
3p5kx-9   archive  192.168.5.17    anna           1h  ended 1h ago: the server..
3p5kx-17  archive  192.168.5.17    anna           3m  down 10 MB, 5.2 MB/s /pu..
3p5kx-18  archive  192.168.5.17    anna           3m  idle 12s
3p5kx-19  archive  2001:db8:5::17  -              3m  command 12s: so far the ..
3p5kx-20  archive  192.168.5.17    \x1b]0;own..   3m  up 1 B, 0 B/s /\u202egpj..
`
	if got := onTerminal(t, 80, newSessions(), "--socket", socket, "--ended"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := onTerminal(t, 70, newSessions(), "--socket", socket); !strings.HasPrefix(got,
		"SESSION   CLIENT          USER          AGE  DOING\n") {
		t.Errorf("got\n%s\nwant less of it on a narrow terminal", got)
	}
	wide := onTerminal(t, 250, newSessions(), "--socket", socket)
	for _, want := range []string{"FORWARD", "203.0.113.21:21", "FAILED", "TLS 1.3"} {
		if !strings.Contains(wide, want) {
			t.Errorf("got\n%s\nwant %q on a wide terminal", wide, want)
		}
	}
	onTerminal(t, 30, newSessions(), "--socket", socket, "--ended") // too narrow, and nothing breaks
	if got := onTerminal(t, 80, newSessions(), "--socket", socket, "--forward",
		"camera"); got != "no sessions\n" {
		t.Errorf("got %q; want that there are none", got)
	}
}

// squeezed returns a text with one space in place of several.
func squeezed(s string) string { return strings.Join(strings.Fields(s), " ") }

// TestSessionsPiped: a pipe gets everything, nothing cut, and nothing that could control a terminal.
func TestSessionsPiped(t *testing.T) {
	socket := answering(t, aFewSessions(time.Now()))
	var out strings.Builder
	if stderr, status := try(t.Context(), newSessions(), &out, "--socket", socket, "--ended"); status != 0 ||
		stderr != "" {
		t.Fatalf("got exit status %d, %s", status, stderr)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 6 {
		t.Fatalf("got %d lines; want a head and 5 sessions:\n%s", len(lines), &out)
	}
	for i, want := range []string{
		"SESSION FORWARD CLIENT USER AGE STATE MODE TLS DATA SERVER UP DOWN DONE FAILED DOING",
		"3p5kx-9 archive 192.168.5.17 anna 1h ended PASV client TLS 1.3 relay 203.0.113.21:21 0 B 20 kB 2 " +
			"0 ended 1h ago: the server rejected the login",
		"3p5kx-17 archive 192.168.5.17 anna 3m transfer PASV client TLS 1.3 relay 203.0.113.21:21 0 B 20 " +
			"kB 2 0 down 10 MB, 5.2 MB/s /pub/a.iso",
		"3p5kx-18 archive 192.168.5.17 anna 3m idle PASV - relay 203.0.113.21:21 0 B 20 kB 2 0 idle 12s",
		"3p5kx-19 archive 2001:db8:5::17 - 3m command PASV client TLS 1.3 relay 203.0.113.21:21 0 B 20 kB " +
			"2 0 command 12s: so far the client never connected to 192.168.5.2:51234 within 4 s",
		`3p5kx-20 archive 192.168.5.17 \x1b]0;owned\x07 3m transfer PASV client TLS 1.3 relay ` +
			`203.0.113.21:21 0 B 20 kB 2 0 up 1 B, 0 B/s /\u202egpj.exe\u009b2J` + "\ufffd" + `\x0a中`,
	} {
		if got := squeezed(lines[i]); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	wantOut(t, newSessions(), strings.Join([]string{"SESSION", "FORWARD", "CLIENT", "USER", "AGE", "STATE",
		"MODE", "TLS", "DATA", "SERVER", "UP", "DOWN", "DONE", "FAILED", "DOING\n"}, "  "),
		"--socket", socket, "--forward", "camera")
	stderr, status := try(t.Context(), newSessions(), io.Discard, "--socket", socket, "--forward", "kamera")
	if want := "ftpgate: no forward \"kamera\": there are archive, camera\n"; status != exitFailed ||
		stderr != want {
		t.Errorf("got exit status %d, %q; want 1, %q", status, stderr, want)
	}
}

// TestSessionsJSON: the output means what the server sent, and cannot control a terminal.
func TestSessionsJSON(t *testing.T) {
	a := aFewSessions(time.Now())
	socket := answering(t, a)
	var out strings.Builder
	if stderr, status := try(t.Context(), newSessions(), &out, "--socket", socket, "--json"); status != 0 ||
		stderr != "" {
		t.Fatalf("got exit status %d, %s", status, stderr)
	}
	if strings.ContainsAny(out.String(), "\x1b\u009b\u202e\a") {
		t.Errorf("got %q; want nothing in it that controls a terminal", &out)
	}
	var got struct{ Sessions []sessions.Session }
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil || len(got.Sessions) != 4 {
		t.Fatalf("got %d sessions, %v; want 4", len(got.Sessions), err)
	}
	if got, want := got.Sessions[3].Transfer.File, "/\u202egpj.exe\u009b2J\ufffd\n中"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// TestWatch: a pipe gets block after block, and a terminal is drawn anew.
func TestWatch(t *testing.T) {
	for _, onTTY := range []bool{false, true} {
		a := aFewSessions(time.Now())
		a.looked = make(chan struct{})
		for i := range 50 { // more than the terminal has lines
			s := oneSession(time.Now())
			s.ID = fmt.Sprintf("3p5kx-%d", 100+i)
			a.running = append(a.running, s)
		}
		socket := answering(t, a)
		ctx, cancel := context.WithCancel(t.Context())
		var out strings.Builder
		w, text := io.Writer(&out), out.String
		if onTTY {
			t.Setenv("TERM", "xterm")
			w, text = pseudoTerminal(t, 80, 24)
		}
		type result struct {
			stderr string
			status int
		}
		done := make(chan result, 1)
		go func() {
			stderr, status := try(ctx, newSessions(), w, "--socket", socket, "--watch")
			done <- result{stderr, status}
		}()
		for range 2 { // the third request never ends
			<-a.looked
		}
		<-a.looked
		cancel()
		if got := <-done; got.status != 0 || got.stderr != "" {
			t.Errorf("got exit status %d, %q; want 0", got.status, got.stderr)
		}
		checkWatch(t, onTTY, text())
	}
}

func checkWatch(t *testing.T, onTTY bool, got string) {
	t.Helper()
	if !onTTY {
		if blocks := strings.Split(got, "\n\n"); len(blocks) < 2 || strings.Contains(got, "\x1b") ||
			!strings.Contains(blocks[1], "  54 sessions\nSESSION") {
			t.Errorf("got\n%q\nwant two blocks", got)
		}
		return
	}
	frames := strings.Split(got, "\x1b[H")
	if len(frames) < 3 || !strings.HasSuffix(frames[1], "\x1b[K\n\x1b[J") {
		t.Fatalf("got\n%q\nwant two frames at least", got)
	}
	if n := strings.Count(frames[1], "\n"); n != 23 ||
		!strings.Contains(frames[1], "54 sessions, the newest 21") ||
		!strings.Contains(frames[1], "3p5kx-149") || strings.Contains(frames[1], "3p5kx-17 ") {
		t.Errorf("got %d lines\n%s\nwant 23, with the newest sessions", n, frames[1])
	}
}
