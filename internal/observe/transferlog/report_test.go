package transferlog

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// reportTest is a log whose file can be made full and writable again, and the messages that it should have
// logged.
type reportTest struct {
	*testing.T
	*Log
	dir, path string
	logged    logLines
	want      []string
}

func newReportTest(t *testing.T) *reportTest {
	dir := t.TempDir()
	w := &reportTest{T: t, dir: dir, path: filepath.Join(dir, "t.json")}
	w.link("/dev/full")
	w.Log = mustOpen(t, Settings{Transfers: w.path, Log: w.logged.logger()})
	return w
}

// link makes the log's file name a link to target.
func (w *reportTest) link(target string) {
	w.Helper()
	if err := os.Remove(w.path); err != nil && !os.IsNotExist(err) {
		w.Fatal(err)
	}
	if err := os.Symlink(target, w.path); err != nil {
		w.Fatal(err)
	}
}

// full and writable change the file.
func (w *reportTest) full()     { w.change("/dev/full") }
func (w *reportTest) writable() { w.change(filepath.Join(w.dir, "good")) }

func (w *reportTest) change(target string) {
	w.Helper()
	w.link(target)
	if err := w.Reopen(); err != nil {
		w.Fatal(err)
	}
}

// add logs a transfer, and waits until all goroutines are idle.
func (w *reportTest) add(i int) {
	w.Add(named(i))
	synctest.Wait()
}

// wantMissing and over are what should be said next.
func (w *reportTest) wantMissing(n int) {
	w.want = append(w.want, fmt.Sprintf(`level=ERROR msg="transfers are missing from the transfer log" `+
		`file=%s missing=%d err="write %[1]s: no space left on device" remedy="make room on its disk"`,
		w.path, n))
}

func (w *reportTest) wantResolved(n int) {
	w.want = append(w.want, fmt.Sprintf(`level=INFO msg="transfers are written to the transfer log again" `+
		`file=%s missing=%d`, w.path, n))
}

func (w *reportTest) check(when string) {
	w.Helper()
	synctest.Wait()
	if got, want := strings.Join(w.logged.all(), "\n"), strings.Join(w.want, "\n"); got != want {
		w.Errorf("%s: got\n%s\nwant\n%s", when, got, want)
	}
}

// TestReport checks that missing lines are reported at once, then once a minute, and that the end is
// reported.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReportTest(t)
		w.check("before")
		w.add(1)
		w.wantMissing(1)
		w.check("the first")
		for range 5 {
			w.add(2)
		}
		w.check("more within the minute")
		<-time.After(reportInterval)
		w.wantMissing(5)
		w.check("after a minute")
		<-time.After(5 * reportInterval)
		w.check("without new ones")
		w.add(3)
		<-time.After(reportInterval)
		w.wantMissing(1)
		w.check("one more")
		w.add(4) // reported at the end only
		w.writable()
		w.check("a good file, and nothing to write")
		w.add(5)
		w.wantResolved(8)
		w.check("resolved")
		w.full()
		w.add(6)
		w.check("again within the minute")
		w.writable()
		w.add(7)
		w.check("resolved before it was reported")
		<-time.After(reportInterval)
		w.wantMissing(1)
		w.wantResolved(1)
		w.check("reported late")
		w.full()
		w.add(8)
		mustClose(t, w.Log)
		w.wantMissing(1)
		w.check("the last")
		if got := names(t, read(t, filepath.Join(w.dir, "good"))); strings.Join(got, " ") != "/f5 /f7" {
			t.Errorf("got %q; want /f5 and /f7", got)
		}
		if written, lost := w.Counts(); written != 2 || lost != 10 {
			t.Errorf("got %d written, %d lost; want 2 and 10", written, lost)
		}
	})
}

// TestOneFull checks that a full file does not affect the other.
func TestOneFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "xferlog")
	l := mustOpen(t, Settings{Transfers: "/dev/full", Xferlog: path})
	for i := range 50 {
		l.Add(named(i))
	}
	mustClose(t, l)
	if got := len(filesOf(t, read(t, path))); got != 50 {
		t.Errorf("got %d lines; want 50", got)
	}
	if written, lost := l.Counts(); written != 50 || lost != 50 {
		t.Errorf("got %d written, %d lost; want 50 and 50", written, lost)
	}
}

// TestSlowReader checks that a reader who does not read its pipe blocks no session, that the queue stays
// within its memory, and that each line the reader gets in the end is complete.
func TestSlowReader(t *testing.T) {
	var logged logLines
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := mustOpen(t, Settings{Transfers: path, Log: logged.logger()})
	const n = 12_000
	long := strings.Repeat("n", 5000) // longer than a pipe takes at once
	for i := range n {
		x := named(i)
		if i%100 == 0 {
			x.File += long
		}
		l.Add(x)
		if l.mu.Lock(); l.queuedBytes > maxQueuedBytes {
			t.Fatalf("got %d bytes held; want %d or fewer", l.queuedBytes, maxQueuedBytes)
		}
		l.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Close(ctx); err == nil ||
		!strings.HasSuffix(err.Error(), "transfers are not written: context canceled") {
		t.Errorf("got error %v; want how many are not written", err)
	}
	text := make(chan []byte)
	go func() { b, _ := io.ReadAll(r); text <- b }()
	mustClose(t, l)
	got := names(t, string(<-text))
	written, lost := l.Counts()
	if len(got) != int(written) || written+lost != n || lost == 0 || written < maxQueuedBytes/(2*fixedSize) {
		t.Errorf("got %d lines, %d written, %d lost; want all of %d, and some lost", len(got), written, lost,
			n)
	}
	reported := 0 // in messages of the end
	for _, line := range logged.all() {
		if strings.HasPrefix(line, "level=ERROR") &&
			!strings.Contains(line, "transfers come faster than they can be written") {
			t.Errorf("got %s; want that transfers come too fast", line)
		}
		if _, n, over := strings.Cut(line, "again\" file="+path+" missing="); over {
			n, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			reported += n
		}
	}
	if reported != int(lost) {
		t.Errorf("got %d reported in %q; want %d", reported, logged.all(), lost)
	}
}
