package transferlog

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/observe/sessions"
)

// deadline bounds what should happen at once.
const deadline = time.Minute

// logLines collects the lines of the program's own log.
type logLines struct {
	mu   sync.Mutex
	text []string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (l *logLines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.text...)
}

func (l *logLines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l,
		&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
}

func mustOpen(t testing.TB, s Settings) *Log {
	t.Helper()
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	l, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// named returns a transfer with a file name of its own.
func named(i int) sessions.Transfer {
	x := transfer()
	x.File = fmt.Sprintf("/f%d", i)
	return x
}

// names returns the file names in a log, and fails if a line is not JSON.
func names(t testing.TB, text string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(text) {
		var x sessions.Transfer
		if err := json.Unmarshal([]byte(line), &x); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("got line %q, error %v; want JSON", line, err)
		}
		found = append(found, x.File)
	}
	return found
}

// TestBoth checks that each transfer is in both files once and in order, and a listing only in that of JSON.
func TestBoth(t *testing.T) {
	dir := t.TempDir()
	s := Settings{Transfers: filepath.Join(dir, "t.json"), Xferlog: filepath.Join(dir, "xferlog")}
	l := mustOpen(t, s)
	var want []string
	for i := range 100 {
		x := named(i)
		if i%10 == 3 {
			x.Verb = "LIST"
		}
		l.Add(x)
		want = append(want, x.File)
	}
	mustClose(t, l)
	mustClose(t, l) // the second time does nothing
	if got := names(t, read(t, s.Transfers)); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q; want %q", got, want)
	}
	if got := strings.Count(read(t, s.Xferlog), "\n"); got != 90 {
		t.Errorf("got %d lines of xferlog; want 90", got)
	}
	if written, lost := l.Counts(); written != 190 || lost != 0 {
		t.Errorf("got %d written, %d lost; want 190 and 0", written, lost)
	}
	for _, path := range []string{s.Transfers, s.Xferlog} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 ||
			info.Mode().Perm()&0o600 != 0o600 {
			t.Errorf("got mode %v, error %v; want 0640 less the umask", info.Mode(), err)
		}
	}
	l.Add(named(1))
	if err := l.Reopen(); err != nil {
		t.Error(err)
	}
	if _, lost := l.Counts(); lost != 2 {
		t.Errorf("got %d lost; want the one added after Close, in two files", lost)
	}
}

// TestNone checks that a log without files does nothing.
func TestNone(t *testing.T) {
	l := mustOpen(t, Settings{})
	l.Add(transfer())
	if err := l.Reopen(); err != nil {
		t.Error(err)
	}
	mustClose(t, l)
	if written, lost := l.Counts(); written != 0 || lost != 0 {
		t.Errorf("got %d written, %d lost; want none", written, lost)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want string }{
		{filepath.Join(dir, "none", "t.json"), "transfer log: open " + dir +
			"/none/t.json: no such file or directory: make its directory, and let the user that ftpgate " +
			"runs as write there"},
		{dir, "transfer log: open " + dir + ": is a directory: name another file, or make this one writable"},
		{pipe, "transfer log: open " + pipe +
			": no such device or address: name another file, or make this one writable"},
	} {
		_, err := Open(Settings{Transfers: filepath.Join(dir, "good"), Xferlog: tt.path})
		if err == nil || err.Error() != tt.want {
			t.Errorf("got error %v; want %s", err, tt.want)
		}
	}
	if os.Getuid() == 0 {
		return // root may write everywhere
	}
	locked := filepath.Join(dir, "locked")
	if err := os.WriteFile(locked, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Settings{Transfers: locked})
	if want := "permission denied: let the user that ftpgate runs as write there, or name another " +
		"file"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got error %v; want %s", err, want)
	}
}

// TestPartialAtStart checks that the first line does not continue the partial line of a killed process.
func TestPartialAtStart(t *testing.T) {
	for text, want := range map[string]string{"": "", "{}\n": "{}\n", "{}\n{\"sess": "{}\n{\"sess\n"} {
		path := filepath.Join(t.TempDir(), "t.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l := mustOpen(t, Settings{Transfers: path})
		l.Add(named(1))
		l.Add(named(2))
		mustClose(t, l)
		got, ok := strings.CutPrefix(read(t, path), want)
		if !ok || len(names(t, got)) != 2 {
			t.Errorf("got %q; want %q and two lines", got, want)
		}
	}
}

// TestReopen checks that the log continues with the old file if Reopen fails.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log", "t.json")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, Settings{Transfers: path})
	l.Add(named(1))
	old := filepath.Join(dir, "old")
	if err := os.Rename(filepath.Dir(path), old); err != nil {
		t.Fatal(err)
	}
	err := l.Reopen()
	want := "transfer log: open " + path + ": no such file or directory: make its directory, and let the " +
		"user that ftpgate runs as write there; until then the file that was open is used"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v; want %s", err, want)
	}
	l.Add(named(2))
	mustClose(t, l)
	if got := names(t, read(t, filepath.Join(old, "t.json"))); strings.Join(got, " ") != "/f1 /f2" {
		t.Errorf("got %q; want both", got)
	}
}

// TestAppendByAnotherProcess checks that the rest of a partial line is dropped if another process has written
// in between.
func TestAppendByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.json")
	f, err := openAppend(path)
	if err != nil {
		t.Fatal(err)
	}
	o := &output{path: path, line: jsonLine}
	o.attach(f)
	if _, err := writeOnce(f, []byte(`{"sess`)); err != nil {
		t.Fatal(err)
	}
	o.pending, o.partial = []byte("ion\":\"a\"}\n"), true
	other, err := openAppend(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.WriteString("\n{}\n"); err != nil {
		t.Fatal(err)
	}
	x := named(1)
	r := o.write(&x)
	if end := o.close(); r.written != 1 || r.lost != 1 || r.err == nil || !r.complete || end != (result{}) {
		t.Errorf("got %+v, then %+v; want one written, one lost", r, end)
	}
	line, _ := jsonLine(nil, &x)
	if got, want := read(t, path), "{\"sess\n{}\n\n"+string(line); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}
