package archtest

import (
	"path"
	"strings"
	"testing"
)

// The modules in folders compile packages of this one, so their go.mod files need its libraries: a library
// that is new here breaks their tests, which are seldom run.
func TestModulesRequireLibraries(t *testing.T) {
	byPath := map[string]*pkg{}
	all := load(t)
	for _, p := range all {
		byPath[path.Join(module, p.dir)] = p
	}
	ours := requirementsOf(t, "go.mod")
	compiled := 0
	for _, nested := range []string{"bench", "release/containertest"} {
		required := requirementsOf(t, nested+"/go.mod")
		seen := map[string]bool{}
		var visit func(importer string, files []*file)
		visit = func(importer string, files []*file) {
			for _, f := range files {
				for _, imported := range f.imports() {
					if p := byPath[imported]; p != nil && !seen[imported] {
						seen[imported] = true
						visit(imported, p.code())
					}
					library := moduleOf(imported, ours)
					if _, ok := required[library]; library != "" && !ok {
						t.Errorf("%s/go.mod: %s is missing, which %s imports: run "+
							"go -C %s mod tidy", nested, library, importer, nested)
					}
				}
			}
		}
		for _, p := range all {
			if p.dir == nested || strings.HasPrefix(p.dir, nested+"/") {
				visit(p.dir, p.files)
			}
		}
		compiled += len(seen)
	}
	if compiled < 40 {
		t.Errorf("got %d packages that modules in folders compile; want more: are they found?", compiled)
	}
}
