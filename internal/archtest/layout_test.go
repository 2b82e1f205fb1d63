package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// row is what the design says of one package.
type row struct {
	pkg     string   // from the module's root, "internal/" left out
	imports []string // packages of ours that its code imports, all of rows above
	owns    []string // modules that it and no other package imports
	shares  []string // modules that have no owner (shared)
	testing []string // packages of ours and modules that only its tests import
}

// topFolders are the folders of packages beside internal/; all but cmd are modules of their own.
var topFolders = []string{"bench", "cmd", "release"}

// dir is the package's directory.
func (r row) dir() string {
	if first, _, _ := strings.Cut(r.pkg, "/"); slices.Contains(topFolders, first) {
		return r.pkg
	}
	return "internal/" + r.pkg
}

// short is how rows name a package of ours.
func short(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module+"/"), "internal/")
}

func TestLayout(t *testing.T) {
	packages := load(t)
	for _, fault := range slices.Concat(
		checkTable(rows),
		checkRows(rows, packages),
		checkImports(rows, packages, requirements(t)),
		checkModules(rows, requirements(t)),
	) {
		t.Error(fault)
	}
}

// checkTable finds rows that contradict the table's own order.
func checkTable(rows []row) (faults []string) {
	above := map[string]bool{}
	owners := map[string]string{}
	for _, r := range rows {
		if above[r.pkg] {
			faults = append(faults, fmt.Sprintf("package %s has two rows", r.pkg))
		}
		for _, i := range r.imports {
			if !above[i] {
				faults = append(faults, fmt.Sprintf("row %s imports %s, which is no row above it", r.pkg, i))
			}
		}
		for _, m := range r.owns {
			if o, owned := owners[m]; owned {
				faults = append(faults, fmt.Sprintf("module %s is owned by %s and %s", m, o, r.pkg))
			}
			owners[m] = r.pkg
		}
		for _, m := range r.shares {
			if shared[m] == "" {
				faults = append(faults, fmt.Sprintf("row %s shares module %s, and nothing says why it may "+
					"be shared", r.pkg, m))
			}
		}
		above[r.pkg] = true
	}
	return faults
}

// checkRows finds packages without a row and rows without a package.
func checkRows(rows []row, packages []*pkg) (faults []string) {
	for _, p := range packages {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.dir() == p.dir }) {
			faults = append(faults, fmt.Sprintf("package %s has no row in the layout", p.dir))
		}
	}
	for _, r := range rows {
		if !slices.ContainsFunc(packages, func(p *pkg) bool { return r.dir() == p.dir }) {
			faults = append(faults, fmt.Sprintf("row %s has no package", r.pkg))
		}
	}
	return faults
}

// checkImports holds each package's imports to its row.
func checkImports(rows []row, packages []*pkg, required map[string]requirement) (faults []string) {
	for _, r := range rows {
		allowed := slices.Concat(r.imports, r.owns, r.shares)
		used := map[string]bool{}
		for _, p := range packages {
			if p.dir != r.dir() {
				continue
			}
			for _, f := range p.files {
				for _, i := range f.imports() {
					what := importee(i, required)
					used[what] = true
					switch {
					case what == "", slices.Contains(allowed, what):
					case f.test && (what == r.pkg || slices.Contains(r.testing, what)):
					default:
						faults = append(faults, fmt.Sprintf(
							"%s imports %s, which the row of %s does not allow", f.name, i, r.pkg))
					}
				}
			}
		}
		for _, a := range slices.Concat(allowed, r.testing) {
			if !used[a] {
				faults = append(faults, fmt.Sprintf("row %s allows %s, which it does not import: take it "+
					"out of the row", r.pkg, a))
			}
		}
	}
	return faults
}

// importee is what rows call an import: a package of ours, a module, or "" for the standard library.
func importee(importPath string, required map[string]requirement) string {
	if importPath == module || strings.HasPrefix(importPath, module+"/") {
		return short(importPath)
	}
	if first, _, _ := strings.Cut(importPath, "/"); !strings.Contains(first, ".") {
		return ""
	}
	if m := moduleOf(importPath, required); m != "" {
		return m
	}
	return importPath
}

// checkModules finds modules that a go.mod requires and no row names.
func checkModules(rows []row, required map[string]requirement) (faults []string) {
	for m, r := range required {
		if r.indirect {
			continue
		}
		if !slices.ContainsFunc(rows, func(r row) bool {
			return slices.Contains(slices.Concat(r.owns, r.shares, r.testing), m)
		}) {
			faults = append(faults, fmt.Sprintf("module %s is required by go.mod, and no package owns it", m))
		}
	}
	slices.Sort(faults)
	return faults
}
