package transferlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// childEnv makes this test binary one of the processes below.
const childEnv = "FTPGATE_TRANSFERLOG_CHILD"

func TestMain(m *testing.M) {
	mode := os.Getenv(childEnv)
	if mode == "" {
		os.Exit(m.Run())
	}
	if err := child(mode, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child is a process that logs transfers to a file.
func child(mode, path string) error {
	if mode == "tmpfs" {
		return childTmpfs(path)
	}
	if mode == "limit" {
		return childLimit(path)
	}
	l, err := Open(Settings{Transfers: path, Log: (&logLines{}).logger()})
	if err != nil {
		return err
	}
	for i := 0; mode == "forever" || i < 2000; i++ {
		x := named(i)
		x.Session = mode
		if mode == "forever" {
			x.Verdict = strings.Repeat("long ", 10_000) // so that it may be killed within a line
			fmt.Println(i)
		}
		l.Add(x)
	}
	return l.Close(context.Background())
}

// childLimit logs to a file that may not grow, and then may.
func childLimit(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	tight := limit
	tight.Cur = 10_000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &tight); err != nil {
		return err
	}
	return fill(path, func() error { return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit) })
}

// childTmpfs logs to a disk that is full, and then is not.
func childTmpfs(dir string) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		return err
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 40<<10), 0o600); err != nil {
		return err
	}
	path := filepath.Join(dir, "t.json")
	if err := fill(path, func() error { return os.Remove(filler) }); err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// idle waits until nothing waits to be written.
func idle(l *Log) {
	for busy := true; busy; runtime.Gosched() {
		l.mu.Lock()
		busy = l.unwritten > 0
		l.mu.Unlock()
	}
}

// fill logs transfers until there is no room, and some more when there is. It says on standard error what
// the log tells, and what it has counted.
func fill(path string, makeRoom func() error) error {
	var logged logLines
	l, err := Open(Settings{Transfers: path, Log: logged.logger()})
	if err != nil {
		return err
	}
	for i := range 100 {
		l.Add(named(i))
	}
	idle(l)
	if err := makeRoom(); err != nil {
		return err
	}
	for i := range 10 {
		l.Add(named(100 + i))
	}
	if err := l.Close(context.Background()); err != nil {
		return err
	}
	written, lost := l.Counts()
	fmt.Fprintf(os.Stderr, "%s\n%d %d\n", strings.Join(logged.all(), "\n"), written, lost)
	return nil
}

// command is this test binary as a child.
func command(t *testing.T, mode, path string) (cmd *exec.Cmd, out, faults *bytes.Buffer) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	out, faults = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, faults
	return cmd, out, faults
}

// TestStdout checks that "-" is standard output.
func TestStdout(t *testing.T) {
	cmd, out, faults := command(t, "a", Stdout)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, faults)
	}
	if got := names(t, out.String()); len(got) != 2000 {
		t.Errorf("got %d lines; want 2000", len(got))
	}
}

// TestTwoProcesses checks that the lines of two processes do not mix.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.json")
	a, _, faultsA := command(t, "a", path)
	b, _, faultsB := command(t, "b", path)
	if err := errors.Join(a.Start(), b.Start()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Wait(), b.Wait()); err != nil {
		t.Fatalf("%v: %s%s", err, faultsA, faultsB)
	}
	seen := map[string]int{}
	for _, name := range names(t, read(t, path)) {
		seen[name]++
	}
	for name, n := range seen {
		if n != 2 {
			t.Errorf("got %s %d times; want twice", name, n)
		}
	}
	if len(seen) != 2000 {
		t.Errorf("got %d names; want 2000", len(seen))
	}
}

// TestKilled checks that of a killed process at most the last line is partial, and that the next process
// starts on a new line.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.json")
	cmd, _, faults := command(t, "forever", path)
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	added := bufio.NewScanner(out)
	for added.Scan() && added.Text() != "1000" {
	}
	cmd.Process.Kill() // fails if it has ended, which Wait reports
	if err := cmd.Wait(); err == nil ||
		cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("got %v: %s; want it killed", err, faults)
	}
	before := read(t, path)
	l := mustOpen(t, Settings{Transfers: path})
	l.Add(named(-1))
	mustClose(t, l)

	whole := before[:strings.LastIndexByte(before, '\n')+1]
	seen := names(t, whole)
	for i, name := range seen {
		if i > 0 && numberOf(t, seen[i-1]) >= numberOf(t, name) {
			t.Fatalf("got %s after %s; want each once, in order", name, seen[i-1])
		}
	}
	after := strings.TrimPrefix(read(t, path), before)
	if whole != before {
		if !strings.HasPrefix(after, "\n") {
			t.Errorf("got %q after a line that was cut off; want a new line", after)
		}
		after = after[1:]
	}
	if got := names(t, after); len(got) != 1 || got[0] != "/f-1" {
		t.Errorf("got %q; want only the line of the second process", got)
	}
	t.Logf("%d whole lines of 1000 and more; the last one was cut off: %t", len(seen), whole != before)
}

func numberOf(t *testing.T, name string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(name, "/f%d", &n); err != nil {
		t.Fatalf("got name %q: %v", name, err)
	}
	return n
}

// TestNoRoom checks that a partial line is completed when there is room again, and that lines lost in between
// are counted.
func TestNoRoom(t *testing.T) {
	t.Run("limit", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "t.json")
		cmd, _, faults := command(t, "limit", path)
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %s", err, faults)
		}
		checkNoRoom(t, read(t, path), faults.String(), "file too large")
	})
	t.Run("tmpfs", func(t *testing.T) {
		cmd, out, faults := command(t, "tmpfs", t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		err := cmd.Start()
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
			t.Skipf("this host gives no process a user namespace: %v", err)
		}
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			t.Fatalf("%v: %s", err, faults)
		}
		checkNoRoom(t, out.String(), faults.String(), "no space left on device")
	})
}

func checkNoRoom(t *testing.T, text, said, why string) {
	t.Helper()
	got := names(t, text) // so no line is cut off
	var written, lost int
	rows := strings.Split(strings.TrimSpace(said), "\n")
	if _, err := fmt.Sscan(rows[len(rows)-1], &written, &lost); err != nil {
		t.Fatalf("got %s: %v", said, err)
	}
	if written != len(got) || written+lost != 110 || lost == 0 || lost > 90 {
		t.Errorf("got %d lines, %d written, %d lost; want all of 110, and some lost", len(got), written, lost)
	}
	for i, name := range got {
		if n := numberOf(t, name); i < written-10 && n != i || i >= written-10 && n != 110-written+i {
			t.Errorf("got line %d with %s; want the first ones, and the last ten", i, name)
		}
	}
	if !strings.Contains(said, why) || !strings.Contains(said, `remedy="make room on its disk"`) ||
		!strings.Contains(said, "again") {
		t.Errorf("got %s; want that transfers are missing, and that it is over", said)
	}
}
