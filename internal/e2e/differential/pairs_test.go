package differential

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/e2e/differential/script"
)

// bound is how long one step may wait. Only a pair that hangs waits as long.
var bound = flag.Duration("bound", 20*time.Second, "how long one step of a pair may wait")

func TestPairs(t *testing.T) {
	pairs := readPairs(t)
	bed := newTestbed(t, *bound)
	for _, p := range pairs {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			f := bed.within(hangBound(p)).try(t, p)
			if f.invalid != "" {
				t.Fatal(f.invalid)
			}
			for _, limit := range f.excused(p.Limits) {
				t.Errorf("%s: it does not differ like this", limit)
			}
			if text := f.String(); text != "" {
				t.Error(text)
			}
		})
	}
}

// hangBound is the bound of a pair that is known to hang through the gateway, and longer than a test should
// take else.
func hangBound(p script.Pair) time.Duration {
	for _, l := range p.Limits {
		if l.Hangs() {
			return min(*bound, 5*time.Second)
		}
	}
	return *bound
}

// readPairs reads testdata/pairs.
func readPairs(t *testing.T) (pairs []script.Pair) {
	t.Helper()
	files, err := filepath.Glob("testdata/pairs/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no pairs", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := script.Parse(strings.TrimSuffix(filepath.Base(file), ".txt"), string(text))
		if err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, p)
	}
	return pairs
}
