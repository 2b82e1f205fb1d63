package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the module's directory, seen from this package's.
const root = "../.."

// module is the path that go.mod gives the module.
const module = "ftpgate"

// file is a Go file of the module.
type file struct {
	name string // from the module's root: "internal/dnat/dnat.go"
	test bool
	text string
	ast  *ast.File
}

// imports returns the paths that the file imports.
func (f *file) imports() []string {
	var paths []string
	for _, i := range f.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic("archtest: import " + i.Path.Value) // the parser has let it pass
		}
		paths = append(paths, p)
	}
	return paths
}

// pkg is a directory of the module that has Go files.
type pkg struct {
	dir   string // from the module's root: "internal/dnat"
	files []*file
	fset  *token.FileSet
}

// name is the package's name, which stands in its messages.
func (p *pkg) name() string { return path.Base(p.dir) }

// code returns the files that are part of the program.
func (p *pkg) code() []*file {
	return slices.DeleteFunc(slices.Clone(p.files), func(f *file) bool { return f.test })
}

// at is the place of a node, for a message.
func (p *pkg) at(n ast.Node) string {
	pos := p.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", pos.Filename, pos.Line)
}

// lines is how many lines a node takes.
func (p *pkg) lines(n ast.Node) int {
	return p.fset.Position(n.End()).Line - p.fset.Position(n.Pos()).Line + 1
}

// parse adds a file to the package.
func (p *pkg) parse(name, text string) error {
	tree, err := parser.ParseFile(p.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	p.files = append(p.files, &file{name, strings.HasSuffix(name, "_test.go"), text, tree})
	return nil
}

// uses resolves the identifiers of the package's code. What other packages export is unknown to it
// and left out; what the package declares itself is complete.
func (p *pkg) uses() map[*ast.Ident]types.Object {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	lax := types.Config{Importer: nothing{}, Error: func(error) {}}
	var trees []*ast.File
	for _, f := range p.code() {
		trees = append(trees, f.ast)
	}
	_, _ = lax.Check(p.dir, p.fset, trees, info) // imports are empty: errors are expected
	return info.Uses
}

// nothing imports every package as an empty one.
type nothing struct{}

func (nothing) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

// load reads every package of the repository: those of the product, and those of the tools, which are modules
// of their own.
func load(t *testing.T) []*pkg {
	t.Helper()
	byDir := map[string]*pkg{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && name != root && (base == "testdata" || base[0] == '.' || base[0] == '_') {
			return fs.SkipDir // as the go command does
		}
		if d.IsDir() || !strings.HasSuffix(base, ".go") || base[0] == '.' || base[0] == '_' {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		dir := path.Dir(rel)
		if byDir[dir] == nil {
			byDir[dir] = &pkg{dir: dir, fset: token.NewFileSet()}
		}
		return byDir[dir].parse(rel, string(text))
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []*pkg
	for _, p := range byDir {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	if len(all) < len(rows)/2 {
		t.Fatalf("got %d packages below %s; want the whole module", len(all), root)
	}
	return all
}

// requirements reads the modules that the go.mod files require. A module that is indirect in one of them and
// direct in another is direct.
func requirements(t *testing.T) map[string]requirement {
	t.Helper()
	found := map[string]requirement{}
	for _, name := range []string{"go.mod", "bench/go.mod", "release/go.mod",
		"release/containertest/go.mod"} {
		before := len(found)
		for module, r := range requirementsOf(t, name) {
			if other, known := found[module]; known && !other.indirect {
				r = other
			}
			found[module] = r
		}
		if len(found) == before {
			t.Fatalf("got no requirements of %s that other files have not; want some", name)
		}
	}
	return found
}

// requirementsOf reads the modules that one go.mod requires.
func requirementsOf(t *testing.T, name string) map[string]requirement {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]requirement{}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(words) < 2 || !strings.HasPrefix(words[1], "v") || !strings.Contains(words[0], ".") {
			continue
		}
		found[words[0]] = requirement{indirect: strings.HasSuffix(strings.TrimSpace(line), "// indirect")}
	}
	return found
}

// requirement is what a go.mod says of a module that it requires.
type requirement struct{ indirect bool }

// moduleOf finds the module that an import path belongs to; "" for the standard library and
// for what go.mod does not know.
func moduleOf(importPath string, required map[string]requirement) string {
	for m := importPath; m != "." && m != "/"; m = path.Dir(m) {
		if _, ok := required[m]; ok {
			return m
		}
	}
	return ""
}
