package differential

import (
	"regexp"
	"strings"
	"testing"

	"ftpgate/internal/e2e/differential/script"
	"ftpgate/internal/e2e/harness"
)

// limitsRow is a row of the table of differences in docs/limits.md: it begins with its name.
var limitsRow = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|.*\\|.*\\|$")

// limitsRows returns the names of the rows.
func limitsRows(text string) (names []string) {
	for _, m := range limitsRow.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// TestLimits wants a pair for every row of the table, and a row for every limit that a pair names: nothing is
// excused that does not happen.
func TestLimits(t *testing.T) {
	rows := limitsRows(harness.ReadFile(t, "../../../docs/limits.md"))
	if len(rows) == 0 {
		t.Fatal("docs/limits.md: got no table of differences; want one")
	}
	used := map[string]bool{}
	for _, p := range readPairs(t) {
		for _, l := range p.Limits {
			used[l.Row] = true
		}
	}
	for _, name := range rows {
		if !used[name] {
			t.Errorf("docs/limits.md: no pair needs the row %q", name)
		}
		delete(used, name)
	}
	for name := range used {
		t.Errorf("pairs name the row %q; docs/limits.md has no such row", name)
	}
}

// TestLimitsRows checks that a table is read.
func TestLimitsRows(t *testing.T) {
	const text = "| row | what differs | why |\n|---|---|---|\n| `a-b` | x | y |\n| `c` | x |\n| `d2` | x " +
		"`z` | y |\n"
	if got := strings.Join(limitsRows(text), " "); got != "a-b d2" {
		t.Errorf("got %q; want %q", got, "a-b d2")
	}
}

// excused takes the differences out that a pair's limits explain, and returns the limits that explain
// nothing although they must.
func (f finding) excused(limits []script.Limit) (idle []string) {
	for _, path := range paths {
		used, named := false, false
		for _, l := range limits {
			if l.Paths != "" && l.Paths != path {
				continue
			}
			named = true
			for _, d := range f.differs[path] {
				used = used || d.Side == l.Side && strings.HasPrefix(d.Got, l.Text)
			}
			used = used || l.Hangs() && f.hangs(path)
			if !used && !l.May {
				idle = append(idle, path+": "+l.String())
			}
		}
		if named && used {
			delete(f.differs, path)
		}
	}
	return idle
}

// hangs reports whether a path's session waits for what never comes.
func (f finding) hangs(path string) bool {
	return strings.HasSuffix(f.records[path].Failure, "timed out")
}
