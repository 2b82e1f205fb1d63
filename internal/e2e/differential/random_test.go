package differential

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/e2e/differential/script"
)

var (
	seed  = flag.Uint64("seed", 1000, "the first seed of TestRandom; 0: another one each time")
	draws = flag.Uint64("pairs", 200, "how many random pairs TestRandom runs")
	kinds = flag.Int("kinds", 10, "how many kinds of differences end the search")
	whole = flag.Bool("whole", false, "do not shorten random pairs that differ")
	save  = flag.String("save", "", "a directory for the scripts of random pairs that differ")
)

// TestRandom runs pairs that were not thought of.
func TestRandom(t *testing.T) {
	first := *seed
	if first == 0 {
		first = newSeed()
	}
	h := &hunt{testbed: newTestbed(t, *bound), kinds: map[string]int{}}
	h.run(t, first, func(n uint64) bool { return n < *draws })
}

// TestSoak runs random pairs for as long as the environment's SOAK says, such as 1h.
func TestSoak(t *testing.T) {
	text := os.Getenv("SOAK")
	if text == "" {
		t.Skip("SOAK is not set: make soak sets it")
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(length)
	h := &hunt{testbed: newTestbed(t, *bound), kinds: map[string]int{}}
	h.run(t, newSeed(), func(uint64) bool { return time.Now().Before(until) })
}

func newSeed() uint64 { return uint64(time.Now().UnixNano()) }

// hunt is a search for random pairs that differ.
type hunt struct {
	*testbed

	mu      sync.Mutex
	drawn   uint64
	kinds   map[string]int // of differences: how often each was met
	invalid int
}

// run runs pairs with the seeds from first on, as long as more says so.
func (h *hunt) run(t *testing.T, first uint64, more func(n uint64) bool) {
	t.Logf("the first seed is %d", first)
	var all sync.WaitGroup
	for range lanes {
		all.Go(func() {
			for {
				n, ok := h.next(more)
				if !ok {
					return
				}
				h.check(t, script.Generate(first+n))
			}
		})
	}
	all.Wait()
	t.Logf("%d pairs, %d invalid", h.drawn, h.invalid)
	for kind, n := range h.kinds {
		t.Logf("%d times: %s", n, kind)
	}
	if uint64(h.invalid) > 1+h.drawn/100 {
		t.Errorf("%d of %d pairs are invalid; want less than 1%%", h.invalid, h.drawn)
	}
}

func (h *hunt) next(more func(n uint64) bool) (n uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.kinds) >= *kinds || !more(h.drawn) {
		return 0, false
	}
	h.drawn++
	return h.drawn - 1, true
}

// check runs one pair, and shortens it when it differs in a way that is new.
func (h *hunt) check(t *testing.T, p script.Pair) {
	f := h.try(t, p)
	if f.invalid != "" {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.invalid++
		t.Logf("%s is invalid, it %s", p.Name, f.invalid)
		return
	}
	kind := f.kind()
	if kind == "" {
		return
	}
	h.mu.Lock()
	h.kinds[kind]++
	again := h.kinds[kind] > 1
	h.mu.Unlock()
	if again {
		return
	}
	small := p
	if !*whole {
		small = h.shrink(t, p, kind)
	}
	t.Errorf("%s\n%s\nthe shortest pair that differs like this:\n%s", p.Name, f, small)
	if *save != "" {
		file := filepath.Join(*save, p.Name+".txt")
		text := strings.ReplaceAll("# "+strings.ReplaceAll(strings.TrimSpace(f.String()), "\n", "\n# ")+"\n",
			"# \n", "")
		if err := os.WriteFile(file, []byte(text+small.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// shrink shortens a pair that differs, for as long as a reader would wait for it. A pair that hangs takes the
// bound each time, so that one is short.
func (h *hunt) shrink(t *testing.T, p script.Pair, kind string) script.Pair {
	t.Helper()
	quick := h.within(min(h.bound, time.Second))
	until := time.Now().Add(time.Minute)
	return script.Shrink(p, func(p script.Pair) bool {
		if time.Now().After(until) {
			return false
		}
		f := quick.try(t, p)
		return f.invalid == "" && f.kind() == kind
	})
}

// kind is what differs, without what is by chance: for each end, what comes directly where its record begins
// to differ, and whether the session hangs there.
func (f finding) kind() string {
	var all []string
	for _, path := range paths {
		if len(f.differs[path]) == 0 {
			continue
		}
		got := f.records[path]
		how := "differs"
		if f.hangs(path) {
			how = "hangs"
		}
		all = append(all, fmt.Sprintf("%s %s: %s, %s", path, how, short(f.direct.Client, got.Client),
			short(f.direct.Server, got.Server)))
	}
	return strings.Join(all, "; ")
}

var numbers = regexp.MustCompile(`\d+ bytes|data \d+`)

// short is the event at which a record begins to differ from the direct one. Of a line it has the code, of a
// step the verb.
func short(direct, got []string) string {
	at := 0
	for at < len(direct) && at < len(got) && direct[at] == got[at] {
		at++
	}
	if at == len(direct) {
		return "all"
	}
	text := numbers.ReplaceAllString(direct[at], "N")
	if line, ok := strings.CutPrefix(text, `got "`); ok {
		return "got " + line[:min(3, len(line))]
	}
	return text
}
