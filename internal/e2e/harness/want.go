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

// Await polls until a condition holds that no event announces. It polls less and less often: a test that
// waits must not keep the others from working.
func Await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	awaitFor(t, Timeout, what, holds)
}

// awaitFor is Await with a time of its own.
func awaitFor(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(limit)
	interval := PollInterval
	for !holds() {
		select {
		case <-time.After(interval):
			interval = min(2*interval, 10*PollInterval)
		case <-deadline:
			t.Fatalf("within %s: want %s", limit, what)
		}
	}
}
