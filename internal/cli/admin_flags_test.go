package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

// answers is a source with the answers of a test.
type answers struct {
	status         admin.Status
	running, ended []sessions.Session
	events         []sessions.Event
	reload         error
	bans           admin.Bans
	notKept        string        // of each ban
	warnings       []string      // of each ban
	refused        string        // what still refuses who was banned
	looked         chan struct{} // receives for each request of the running sessions, unless it is nil
}

func (a *answers) Status() admin.Status { return a.status }

func (a *answers) Sessions(ended bool) iter.Seq[sessions.Session] {
	if ended {
		return slices.Values(a.ended)
	}
	if a.looked != nil {
		a.looked <- struct{}{}
	}
	return slices.Values(a.running)
}

func (a *answers) Explain(id string) (sessions.Explained, bool) {
	for _, s := range slices.Concat(a.running, a.ended) {
		if s.ID == id {
			return sessions.Explained{Session: s, Events: a.events}, true
		}
	}
	return sessions.Explained{}, false
}

func (a *answers) Kill(id string) error {
	if _, known := a.Explain(id); !known {
		return admin.ErrNoSession
	}
	return nil
}

// bannedAt is when the client was banned.
var bannedAt = time.Date(2026, 3, 14, 9, 26, 53, 0, time.Local)

func (a *answers) Bans() admin.Bans { return a.bans }

func (a *answers) Ban(b admin.BanRequest) (admin.Banned, error) {
	banned := ban.Ban{Prefix: b.Prefix, Since: bannedAt, Reason: b.Reason}
	if b.For > 0 {
		banned.Until = bannedAt.Add(b.For)
	}
	return admin.Banned{Ban: banned, Ended: 1, NotKept: a.notKept, Warnings: a.warnings},
		ban.Check(b.Prefix)
}

func (a *answers) Unban(p netip.Prefix) (admin.Unbanned, error) {
	for _, b := range a.bans.Bans {
		if b.Prefix == p {
			return admin.Unbanned{Prefix: p, Refused: a.refused, NotKept: a.notKept}, nil
		}
	}
	return admin.Unbanned{}, fmt.Errorf("%s is %w", ban.Name(p), ban.ErrNotBanned)
}

func (a *answers) Reload(context.Context) error { return a.reload }

func (a *answers) Doctor(context.Context) (admin.Findings, error) { return admin.Findings{}, nil }

// oneSession returns a session that transfers a file.
func oneSession(now time.Time) sessions.Session {
	return sessions.Session{
		ID: "3p5kx-17", Forward: "archive", Tracking: "proxy",
		Client:  netip.MustParseAddrPort("192.168.5.17:40112"),
		Gateway: netip.MustParseAddrPort("192.168.5.2:2121"),
		Server:  netip.MustParseAddrPort("203.0.113.21:21"), User: "anna",
		Since:  now.Add(-3*time.Minute - 5*time.Second),
		Active: now.Add(-12*time.Second - 500*time.Millisecond),
		State:  sessions.StateTransfer, Mode: "PASV", Path: "relay", TLS: sessions.TLS{Client: "TLS 1.3"},
		Transfer: &sessions.Transfer{Direction: sessions.Download, File: "/pub/a.iso", Bytes: 10_485_760,
			Rate: 5_242_880},
		Totals:  sessions.Totals{Transfers: 2, Down: 20_480},
		Verdict: verdict.Verdict{Code: verdict.CodeFine, Text: "nothing went wrong"},
	}
}

// answering serves a source until the test ends, and returns the socket's path.
func answering(t *testing.T, a *answers) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	answeringAt(t, socket, a)
	return socket
}

// answeringAt is answering with a path.
func answeringAt(t *testing.T, socket string, a *answers) {
	t.Helper()
	s, err := admin.Listen(admin.Options{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, a, nil, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// try runs a command, and returns its exit status.
func try(ctx context.Context, cmd *cobra.Command, stdout io.Writer, args ...string) (stderr string,
	status int) {
	var errs bytes.Buffer
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(ctx)
	var f failure
	switch {
	case err == nil:
		return errs.String(), 0
	case !errors.As(err, &f):
		return errs.String() + err.Error(), exitUsage
	case f.err != nil:
		printError(&errs, f.err)
	}
	return errs.String(), f.status
}

// wantOut runs a command, and wants this output and nothing else.
func wantOut(t *testing.T, cmd *cobra.Command, want string, args ...string) {
	t.Helper()
	var out strings.Builder
	stderr, status := try(t.Context(), cmd, &out, args...)
	if status != 0 || stderr != "" || out.String() != want {
		t.Errorf("%s %q: got exit status %d, %s\n%s\nwant\n%s", cmd.Name(), args, status, stderr, &out, want)
	}
}

// constructors returns the commands that ask a running ftpgate, each with the argument that it needs.
func constructors() map[string]func() *cobra.Command {
	return map[string]func() *cobra.Command{
		"status": newStatus, "sessions": newSessions, "reload": newReload, "explain x-1": newExplain,
		"kill x-1": newKill,
	}
}

// TestNotRunning: the commands print one line, with exit status 1.
func TestNotRunning(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for words, construct := range constructors() {
		for _, flags := range [][]string{nil, {"--json"}} {
			args := append(append(strings.Fields(words)[1:], "--socket", none), flags...)
			var out strings.Builder
			stderr, status := try(t.Context(), construct(), &out, args...)
			want := "ftpgate is not running here: nothing answers at " + none + "\n"
			if status != exitFailed || stderr != want || out.Len() > 0 {
				t.Errorf("%s %q: got exit status %d, %q, %q; want 1 and %q", words, flags, status, stderr,
					&out, want)
			}
		}
	}
}

// TestNotPermitted: the message names the users of the socket.
func TestNotPermitted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		return // nothing is closed to root; a script has the same without privilege
	}
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	stderr, status := try(t.Context(), newStatus(), io.Discard, "--socket", filepath.Join(dir, "s"))
	if status != exitFailed || !strings.Contains(stderr, "be root or a member of group ftpgate") {
		t.Errorf("got exit status %d, %q; want who may use it", status, stderr)
	}
}

// TestUnknownSession: the commands print one sentence, with exit status 1.
func TestUnknownSession(t *testing.T) {
	socket := answering(t, &answers{})
	for _, construct := range []func() *cobra.Command{newExplain, newKill} {
		stderr, status := try(t.Context(), construct(), io.Discard, "3p5kx-99", "--socket", socket)
		if status != exitFailed || !strings.HasPrefix(stderr, "ftpgate: there is no session 3p5kx-99: ") ||
			strings.Count(stderr, "\n") != 1 {
			t.Errorf("got exit status %d, %q; want 1, and one line that names it", status, stderr)
		}
	}
	for _, construct := range []func() *cobra.Command{newExplain, newKill} {
		if stderr, status := try(t.Context(), construct(), io.Discard, "--socket",
			socket); status != exitUsage || !strings.Contains(stderr, "missing SESSION") {
			t.Errorf("without a word: got exit status %d, %q; want 2", status, stderr)
		}
	}
}

func TestKill(t *testing.T) {
	socket := answering(t, &answers{running: []sessions.Session{oneSession(time.Now())}})
	wantOut(t, newKill(), "session 3p5kx-17: ending\n", "3p5kx-17", "--socket", socket)
	wantOut(t, newKill(), "{\n  \"session\": \"3p5kx-17\",\n  \"ending\": true\n}\n", "3p5kx-17", "-o",
		"json",
		"--socket", socket)
}

func TestReload(t *testing.T) {
	a := &answers{status: admin.Status{File: "/etc/ftpgate/ftpgate.toml",
		Forwards: []admin.Forward{{Name: "a"}, {Name: "b", Problem: "b.example does not resolve"}}}}
	socket := answering(t, a)
	wantOut(t, newReload(), "/etc/ftpgate/ftpgate.toml: read again, 2 forwards\n  b: b.example does not "+
		"resolve\n", "--socket", socket)
	for _, tt := range []struct {
		err    error
		status int
		want   string
	}{
		{&admin.Error{Text: "f.toml:3:1: no \x1b[2J listen\nf.toml:9:1: no server", Kind: admin.ErrFile},
			exitUsage,
			"f.toml:3:1: no \\x1b[2J listen\nf.toml:9:1: no server\n"},
		{errors.New("nft: apply table ftp\x1bgate: busy"), exitFailed,
			"ftpgate: nft: apply table ftp\\x1bgate: busy\n"},
		{fmt.Errorf("a forward from the command line has no file: %w", admin.ErrNotNow), exitFailed,
			"ftpgate: a forward from the command line has no file: not possible now\n"},
	} {
		a.reload = tt.err
		if stderr, status := try(t.Context(), newReload(), io.Discard, "--socket",
			socket); status != tt.status || stderr != tt.want {
			t.Errorf("got exit status %d, %q; want %d, %q", status, stderr, tt.status, tt.want)
		}
	}
}

// pseudoTerminal returns a pseudoterminal of a size; text closes it and returns what was printed on it.
func pseudoTerminal(t *testing.T, columns, rows uint16) (tty *os.File, text func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudoterminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows})
	}
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() { io.Copy(&printed, master) }) // ends with EIO, once no process has the terminal
	return tty, func() string {
		tty.Close()
		reading.Wait()
		return strings.ReplaceAll(printed.String(), "\r\n", "\n")
	}
}

// onTerminal runs a command on a pseudoterminal, and returns what it prints.
func onTerminal(t *testing.T, columns uint16, cmd *cobra.Command, args ...string) string {
	t.Helper()
	tty, text := pseudoTerminal(t, columns, 24)
	stderr, status := try(t.Context(), cmd, tty, args...)
	got := text()
	if status != 0 || stderr != "" {
		t.Errorf("%s %q: got exit status %d, %s", cmd.Name(), args, status, stderr)
	}
	for line := range strings.Lines(got) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > int(columns) {
			t.Errorf("%s: got a line of %d cells; want %d at most: %s", cmd.Name(), n, columns, line)
		}
	}
	return got
}
