package archtest

import (
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/messages.md anew")

// TestMessages holds docs/messages.md to the code: an operator finds there what he sees in a log, in explain,
// in doctor and at start. `go test ./internal/archtest -run Messages -update` writes it anew.
func TestMessages(t *testing.T) {
	packages := load(t)
	want := messagesPage(packages)
	name := filepath.Join(root, "docs", "messages.md")
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s does not say what the code says: go test ./internal/archtest -run Messages -update",
			name)
	}
	for _, section := range []struct {
		of    string
		found int
		least int
	}{
		{"log messages", len(logMessages(packages)), 40},
		{"verdicts", len(verdicts(packages)), 40},
		{"sums of a session", len(worded(packages, inVerdict)), 6},
		{"findings", len(worded(packages, inFinding)), 60},
		{"answers of the admin API", len(worded(packages, inAnswer)), 10},
		{"refusals", len(refusals(packages)), 60},
	} {
		if section.found < section.least {
			t.Errorf("found %d %s; want at least %d: the search does not know the code any more",
				section.found, section.of, section.least)
		}
	}
}

const messagesHead = `# Messages

Every message that ftpgate logs or prints about sessions, hosts, servers and files. Search this page for a few
words of what you see. "…" stands for a name, an address, a number or the words of the operating system.
The page is made from the code; a test compares them.

`

func messagesPage(packages []*pkg) string {
	var b strings.Builder
	b.WriteString(messagesHead)
	b.WriteString("## Log messages\n\nThe keys are those that the message always has; sessions also have " +
		"forward, session, client and server.\n\n")
	table(&b, []string{"message", "level", "keys", "from"}, logMessages(packages))
	b.WriteString("\n## Verdicts\n\nWhat `ftpgate explain`, `ftpgate sessions` and the transfer log " +
		"say about a session.\n\n")
	table(&b, []string{"code", "sentence", "remedy"}, verdicts(packages))
	b.WriteString("\nThose that sum up a session:\n\n")
	table(&b, []string{"sentence", "remedy", "from"}, worded(packages, inVerdict))
	b.WriteString("\n## Findings\n\nWhat a start, a reload and `ftpgate doctor` say about hosts, servers, " +
		"files and certificates.\n\n")
	table(&b, []string{"sentence", "remedy", "from"}, worded(packages, inFinding))
	b.WriteString("\n## Answers of the admin API\n\nWhat `ftpgate status`, `sessions`, `explain`, `reload` " +
		"and `kill` get in place of an answer, and the log has as `reason` of a refused request.\n\n")
	table(&b, []string{"error", "remedy", "from"}, worded(packages, inAnswer))
	b.WriteString(
		"\n## Refusals\n\nWhat the client reads behind 421, 425, 530 and the like, and the log has " +
			"as `reason` with its `kind`. A verdict above whose sentence is only … has one of these.\n\n")
	table(&b, []string{"reason", "kind", "from"}, oneRow(refusals(packages)))
	return b.String()
}

// oneRow joins rows that differ in their last cell only.
func oneRow(rows [][]string) (joined [][]string) {
	slices.SortFunc(rows, slices.Compare)
	for _, r := range slices.CompactFunc(rows, slices.Equal) {
		last := len(r) - 1
		if k := len(joined); k > 0 && slices.Equal(joined[k-1][:last], r[:last]) {
			joined[k-1][last] += ", " + r[last]
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

func table(b *strings.Builder, head []string, rows [][]string) {
	line := func(cells []string) {
		for i, c := range cells {
			cells[i] = strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(c)
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
	line(slices.Clone(head))
	fmt.Fprintf(b, "|%s\n", strings.Repeat("---|", len(head)))
	slices.SortFunc(rows, slices.Compare)
	for _, r := range slices.CompactFunc(rows, slices.Equal) {
		line(slices.Clone(r))
	}
}

// product are the packages whose messages operators see.
func product(packages []*pkg) (all []*pkg) {
	for _, p := range packages {
		if group(short(module+"/"+p.dir)) >= 0 && !strings.HasPrefix(p.dir, "internal/try") &&
			!strings.HasPrefix(p.dir, "internal/e2e") {
			all = append(all, p)
		}
	}
	return all
}

// verdicts returns each verdict's code, sentence and remedy, of the maps from codes to words.
func verdicts(packages []*pkg) (rows [][]string) {
	for _, p := range packages {
		if p.dir != "internal/core/verdict" {
			continue
		}
		codes := constants(p)
		for _, f := range p.code() {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				kv, ok := n.(*ast.KeyValueExpr)
				if !ok {
					return true
				}
				key, isCode := kv.Key.(*ast.Ident)
				value, isWords := kv.Value.(*ast.CompositeLit)
				if !isCode || !isWords || codes[key.Name] == "" || len(value.Elts) != 2 {
					return true
				}
				rows = append(rows, []string{codes[key.Name], filled(words(p, value.Elts[0])),
					filled(words(p, value.Elts[1]))})
				return false
			})
		}
	}
	return rows
}

// filled returns a template of a verdict (verdict.says) with … for each word in braces. If nothing else is
// left of it, it has the plain text that stands for an unknown word.
func filled(template string) string {
	field := regexp.MustCompile(`\{[^}]*\}`)
	plain := field.ReplaceAllString(template, "…")
	if strings.Trim(plain, "… ") == "" {
		plain = field.ReplaceAllStringFunc(template, func(words string) string {
			_, other, _ := strings.Cut(strings.Trim(words, "{}"), "|")
			if !strings.Contains(other, " ") {
				return "…"
			}
			return other
		})
	}
	return strings.ReplaceAll(plain, "……", "…")
}

// constants returns the package's constants with a literal text, by name.
func constants(p *pkg) map[string]string {
	all := map[string]string{}
	for _, f := range p.code() {
		for _, d := range f.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, value := range v.Values {
					if l, ok := value.(*ast.BasicLit); ok && l.Kind == token.STRING {
						all[v.Names[i].Name] = texts(nil).template(l)
					}
				}
			}
		}
	}
	return all
}

// textsOf returns the texts that a package knows.
func textsOf(p *pkg, packages []*pkg) texts {
	known := texts(constants(p))
	for _, other := range packages {
		for name, text := range constants(other) {
			if ast.IsExported(name) {
				known[other.name()+"."+name] = text
			}
		}
	}
	return known
}

// words returns what a function of a fault may return: a literal, says(template), or a function of the
// package.
func words(p *pkg, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.FuncLit:
		return returned(e.Body)
	case *ast.CallExpr:
		return texts(nil).template(e.Args[0])
	case *ast.Ident:
		for _, f := range p.code() {
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == e.Name && fn.Recv == nil {
					return returned(fn.Body)
				}
			}
		}
	}
	return ""
}

// returned joins the texts that a function returns.
func returned(body *ast.BlockStmt) string {
	var all []string
	ast.Inspect(body, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok && len(r.Results) == 1 {
			if text := texts(nil).template(r.Results[0]); !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
		return true
	})
	return strings.Join(all, " / ")
}

// section is where the page has a sentence.
type section int

const (
	inFinding section = iota
	inVerdict
	inAnswer  // of the admin API
	inNothing // a time line's
)

// sectionOf returns where a sentence belongs, by its package and the type of its literal; "": a call made it.
func sectionOf(own, literal string) section {
	switch {
	case own == "ops/admin", literal == "Error":
		return inAnswer
	case literal == "Verdict":
		return inVerdict
	case literal == "Event":
		return inNothing
	}
	return inFinding
}

// worded returns the sentences of a section with their remedies and packages: of literals with Text and
// Remedy, and of calls of the package's own makers of findings, whose last two arguments those are, or whose
// last are a format and what it has verbs for.
func worded(packages []*pkg, of section) (rows [][]string) {
	for _, p := range product(packages) {
		own := short(module + "/" + p.dir)
		makers, known := findingMakers(p), textsOf(p, packages)
		for _, f := range p.code() {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				text, remedy, literal := ast.Expr(nil), ast.Expr(nil), ""
				switch n := n.(type) {
				case *ast.CompositeLit:
					text, remedy, literal = field(n, "Text"), field(n, "Remedy"), lastName(n.Type)
				case *ast.CallExpr:
					switch maker, k := makers[called(n)], len(n.Args); {
					case maker.worded && k >= 2:
						text, remedy = n.Args[k-2], n.Args[k-1]
					case maker.format > 0 && k > maker.format:
						text = &ast.CallExpr{Fun: sprintf, Args: n.Args[maker.format:]}
					}
				}
				if text == nil || sectionOf(own, literal) != of {
					return true
				}
				row := []string{known.template(text), "", own}
				if remedy != nil {
					row[1] = known.template(remedy)
				}
				if strings.Trim(row[0], "… :,()") != "" {
					rows = append(rows, row)
				}
				return true
			})
		}
	}
	return rows
}

// sprintf is fmt.Sprintf, which makers with a format call.
var sprintf = &ast.SelectorExpr{X: ast.NewIdent("fmt"), Sel: ast.NewIdent("Sprintf")}

// maker is how a function that makes findings gets the sentence.
type maker struct {
	worded bool // its last parameters are text and remedy
	format int  // else the index of the parameter format; 0: it has none
}

// findingMakers returns the functions and methods of a package whose last parameters are text and remedy, or
// level, format and args.
func findingMakers(p *pkg) map[string]maker {
	makers := map[string]maker{}
	for _, f := range p.code() {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			var names []string
			for _, field := range fn.Type.Params.List {
				for _, n := range field.Names {
					names = append(names, n.Name)
				}
			}
			switch k := len(names); {
			case k >= 2 && names[k-2] == "text" && names[k-1] == "remedy":
				makers[fn.Name.Name] = maker{worded: true}
			case k >= 3 && names[k-3] == "level" && names[k-2] == "format":
				makers[fn.Name.Name] = maker{format: k - 2}
			}
		}
	}
	return makers
}

// TestVerdictNames wants each code's constant to say what the code says: CodeLowPort for "low_port".
func TestVerdictNames(t *testing.T) {
	for _, p := range load(t) {
		if p.dir != "internal/core/verdict" {
			continue
		}
		for name, code := range constants(p) {
			own, isCode := strings.CutPrefix(name, "Code")
			if want := strings.ReplaceAll(code, "_", ""); isCode && strings.ToLower(own) != want {
				t.Errorf("%s is %q; want the constant and the code alike", name, code)
			}
		}
	}
}
