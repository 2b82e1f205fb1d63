package archtest

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var singlePattern = regexp.MustCompile(`(?m)^SINGLE = ((?:.*\\\n)*.*)$`)

// TestSingle wants no goroutine in the packages that the Makefile's SINGLE lists, nor in their tests: make
// test runs them without the race detector.
func TestSingle(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	list := singlePattern.FindSubmatch(text)
	if list == nil {
		t.Fatal("the Makefile has no SINGLE")
	}
	packages := load(t)
	for _, pattern := range strings.Fields(strings.ReplaceAll(string(list[1]), "\\\n", " ")) {
		found := false
		for _, p := range packages {
			if !matches(pattern, p.dir) {
				continue
			}
			found = true
			for _, place := range goroutines(p) {
				t.Errorf("%s: a goroutine, but the Makefile's SINGLE has %s", place, pattern)
			}
		}
		if !found {
			t.Errorf("the Makefile's SINGLE: no package is %s", pattern)
		}
	}
}

// matches reports whether a pattern of the go command, ./DIR or ./DIR/..., covers a directory.
func matches(pattern, dir string) bool {
	parent, subtree := strings.CutSuffix(strings.TrimPrefix(pattern, "./"), "/...")
	return dir == parent || subtree && strings.HasPrefix(dir, parent+"/")
}

// goroutines returns the places where a package or its tests start a goroutine.
func goroutines(p *pkg) (places []string) {
	for _, f := range p.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				places = append(places, p.at(n))
			case *ast.SelectorExpr:
				if slices.Contains([]string{"Go", "AfterFunc"}, n.Sel.Name) {
					places = append(places, fmt.Sprint(p.at(n), ": ", n.Sel.Name))
				}
			}
			return true
		})
	}
	return places
}
