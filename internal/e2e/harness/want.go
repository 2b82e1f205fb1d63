package harness

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// PollInterval is the time between two attempts where the kernel has no event to wait for.
const PollInterval = 10 * time.Millisecond

// LastLines keeps the end of a long transcript.
func LastLines(text string) string {
	lines := slices.Collect(strings.Lines(text))
	return strings.Join(lines[max(0, len(lines)-60):], "")
}

// WantContains expects every text of want in got.
func WantContains(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("got\n%s\nwant %q in it", got, w)
		}
	}
}

// Await polls until a condition holds that no event announces.
func Await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(Timeout)
	retry := time.NewTicker(PollInterval)
	defer retry.Stop()
	for !holds() {
		select {
		case <-retry.C:
		case <-deadline:
			t.Fatalf("within %s: want %s", Timeout, what)
		}
	}
}
