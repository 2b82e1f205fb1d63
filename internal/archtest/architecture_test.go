package archtest

import (
	"fmt"
	"go/doc"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchitecture holds the table of packages in docs/architecture.md to the packages: the first sentence of each
// package's comment, and what it imports of ours. `go test ./internal/archtest -run Architecture -update` writes it
// anew.
func TestArchitecture(t *testing.T) {
	const begin, end = "<!-- packages: made from the code -->\n", "<!-- end of packages -->\n"
	name := filepath.Join(root, "docs", "architecture.md")
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s lacks the lines %q and %q", name, begin, end)
	}
	want := packageTable(load(t))
	if *update {
		if err := os.WriteFile(name, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s does not name the packages as they are: go test ./internal/archtest -run Architecture -update", name)
	}
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
			fmt.Fprintf(&b, "\n**%s**\n\n| package | what it does | imports of ours | libraries of its own |\n|---|---|---|---|\n", title)
		}
		own := ""
		for _, p := range packages {
			if p.dir == r.dir() {
				own = synopsis(p)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.pkg, own, strings.Join(r.imports, ", "), strings.Join(r.owns, ", "))
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
