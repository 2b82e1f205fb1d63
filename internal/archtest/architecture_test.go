package archtest

import (
	"fmt"
	"go/doc"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchitecture holds the tables of docs/architecture.md to the packages: the first sentence of each
// package's comment and what it imports of ours, and what the comment says about locks. `go test
// ./internal/archtest -run Architecture -update` writes them anew.
func TestArchitecture(t *testing.T) {
	name := filepath.Join(root, "docs", "architecture.md")
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	packages, want := load(t), string(page)
	for of, table := range map[string]string{"packages": packageTable(packages),
		"locks": lockTable(packages)} {
		begin, end := "<!-- "+of+": made from the code -->\n", "<!-- end of "+of+" -->\n"
		before, rest, ok := strings.Cut(want, begin)
		_, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("%s lacks the lines %q and %q", name, begin, end)
		}
		want = before + begin + table + end + after
	}
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(page) != want {
		t.Errorf("%s does not name the packages as they are: go test ./internal/archtest -run "+
			"Architecture -update", name)
	}
}

// lockTable has what the comments of packages say about their locks, in the order of the rows.
func lockTable(packages []*pkg) string {
	var b strings.Builder
	fmt.Fprint(&b, "\n| package | its locks, the first one first |\n|---|---|\n")
	for _, r := range rows {
		for _, p := range packages {
			if text := locks(p); p.dir == r.dir() && text != "" {
				fmt.Fprintf(&b, "| %s | %s |\n", r.pkg, text)
			}
		}
	}
	return b.String() + "\n"
}

// locks returns the paragraph of the package's comment that begins with "Locks:".
func locks(p *pkg) string {
	for _, f := range p.files {
		if f.ast.Doc != nil {
			_, text, found := strings.Cut(f.ast.Doc.Text(), "\nLocks: ")
			if text, _, _ = strings.Cut(text, "\n\n"); found {
				return strings.Join(strings.Fields(text), " ")
			}
		}
	}
	return ""
}

// packageTable has a table of packages for each group, in the order of the rows.
func packageTable(packages []*pkg) string {
	var b strings.Builder
	last := -2
	for _, r := range rows {
		if g := group(r.pkg); g != last {
			last = g
			title := "for tests, and tools"
			if g >= 0 {
				title = groups[g]
			}
			fmt.Fprintf(&b, "\n**%s**\n\n| package | what it does | imports of ours | libraries of its "+
				"own |\n|---|---|---|---|\n", title)
		}
		own := ""
		for _, p := range packages {
			if p.dir == r.dir() {
				own = synopsis(p)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.pkg, own, strings.Join(r.imports, ", "),
			strings.Join(r.owns, ", "))
	}
	return strings.TrimPrefix(b.String(), "\n") + "\n"
}

// synopsis returns the first sentence of the package's comment, without "Package name".
func synopsis(p *pkg) string {
	for _, f := range p.files {
		if f.ast.Doc != nil {
			text := new(doc.Package).Synopsis(f.ast.Doc.Text())
			text = strings.TrimPrefix(text, "Package "+p.name()+" ")
			return strings.TrimSuffix(strings.TrimPrefix(text, "Command "+p.name()+" "), ".")
		}
	}
	return ""
}
