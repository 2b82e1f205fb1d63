package transferlog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestRotation: nothing is lost or doubled, in neither file, while they are rotated under load.
func TestRotation(t *testing.T) {
	const sessions, each = 8, 400
	dir := t.TempDir()
	s := Settings{Transfers: filepath.Join(dir, "t.json"), Xferlog: filepath.Join(dir, "xferlog")}
	l := mustOpen(t, s)
	var load sync.WaitGroup
	for i := range sessions {
		load.Go(func() {
			for j := range each {
				l.Add(named(i*each + j))
			}
		})
	}
	done := make(chan struct{})
	go func() { load.Wait(); close(done) }()
	rotations := 0
	for running := true; running || rotations < 20; rotations++ {
		for _, path := range []string{s.Transfers, s.Xferlog} {
			if err := os.Rename(path, fmt.Sprintf("%s.%d", path, rotations)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			running = false
		default:
		}
	}
	l.Add(named(sessions * each)) // after Reopen: into the newest
	mustClose(t, l)
	for _, path := range []string{s.Transfers, s.Xferlog} {
		checkRotated(t, path, rotations, sessions*each+1)
	}
}

// checkRotated wants n transfers in a log and what it was renamed to, each once, and the last one last.
func checkRotated(t *testing.T, path string, rotations, n int) {
	seen, last := map[string]int{}, ""
	for i := range rotations + 1 {
		name := fmt.Sprintf("%s.%d", path, i)
		if i == rotations {
			name = path
		}
		for _, file := range filesOf(t, read(t, name)) {
			seen[file]++
			last = file
		}
	}
	for i := range n {
		if k := seen[fmt.Sprintf("/f%d", i)]; k != 1 {
			t.Errorf("%s: got /f%d %d times; want once", filepath.Base(path), i, k)
		}
	}
	if want := fmt.Sprintf("/f%d", n-1); last != want {
		t.Errorf("got %s as the last; want %s", last, want)
	}
}

// filesOf returns the names in a log of either format.
func filesOf(t testing.TB, text string) []string {
	if strings.HasPrefix(text, "{") {
		return names(t, text)
	}
	var found []string
	for line := range strings.Lines(text) {
		m := xferlogRow.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("got line %q; want xferlog", line)
		}
		found = append(found, m[6])
	}
	return found
}
