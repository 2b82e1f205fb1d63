package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const (
	maxFile     = 400 // lines: what can be read in one go
	maxFunction = 60  // lines: what fits on a screen
	maxLine     = 110 // columns: two files fit beside each other
	tabWidth    = 4   // columns
)

// fault is a breach of a law.
type fault struct {
	of   string // what the exceptions call it: a file, or package.Name
	text string // with its place
}

// law is a rule of the house that holds for every package.
type law struct {
	name   string
	check  func(*pkg) []fault
	except map[string]string // what may break it, and why
}

// laws is the house's rules. An exception that nothing needs any more is an error.
var laws = []law{
	{name: "every package says what it does", check: packageComment},
	{name: "every exported name says what it promises", check: docComments},
	{name: "a file can be read in one go", check: fileLength},
	{name: "a function fits on a screen", check: functionLength, except: map[string]string{
		"ftpclient.TestClientPASV": "a table of cases",
		"flows.TestByteCount":      "a table of cases",
		"sessions.failings":        "a table of cases",
		"system.TestLoadModule":    "a table of cases",
	}},
	{name: "a line needs no scrolling", check: lineWidth, except: tooWide},
	{name: "core is pure", check: pure},
	{name: "nothing happens before main", check: noInit},
	{name: "nothing global changes", check: noMutableGlobals, except: map[string]string{
		"peers.Content": "three MiB are drawn once, for the first test that needs them",
		"leg.buffers": "buffers are lent and come back; a path lives for one transfer and cannot keep " +
			"them",
		"leg.pipes": "as the buffers: a pipe is lent while data is moved",
		"lab.prepareOnce": "two tests of one process may make their labs at once; the namespaces that it " +
			"furnishes are the process's",
	}},
	{name: "nothing sleeps where an event can be awaited", check: noSleep, except: map[string]string{
		"internal/observe/monitor/monitor_test.go": "in a synctest bubble, where a sleep takes no time",
		"internal/ops/status/document_test.go":     "in a synctest bubble, where a sleep takes no time",
	}},
	{name: "a panic says whose bug it is", check: panics, except: map[string]string{
		"rulesettest.Forward": "its input is the tests' own",
	}},
	{name: "an error reads on behind a colon", check: errorTexts},
}

func TestLaws(t *testing.T) {
	packages := load(t)
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) {
			used := map[string]bool{}
			for _, p := range packages {
				for _, f := range l.check(p) {
					if l.except[f.of] == "" {
						t.Error(f.text)
					}
					used[f.of] = true
				}
			}
			for name := range l.except {
				if !used[name] {
					t.Errorf("%s is excepted and keeps the law: take the exception out", name)
				}
			}
		})
	}
}

// packageComment wants one comment that begins as godoc expects it.
func packageComment(p *pkg) []fault {
	var found []string
	for _, f := range p.files {
		if f.ast.Doc == nil {
			continue
		}
		found = append(found, f.name)
		want := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			want = "Command " + p.name() + " "
		}
		if got := f.ast.Doc.Text(); !strings.HasPrefix(got, want) {
			return []fault{{p.dir, fmt.Sprintf("%s: the package comment begins %.20q; want %q", f.name, got,
				want)}}
		}
	}
	if len(found) != 1 {
		return []fault{{p.dir, fmt.Sprintf("%s: got %d package comments %v; want one", p.dir, len(found),
			found)}}
	}
	return nil
}

// docComments wants a comment at every exported name of the code.
func docComments(p *pkg) (faults []fault) {
	for _, f := range p.code() {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && !ofError(d) {
					faults = append(faults, wantDoc(p, d.Name, d.Doc)...)
				}
			case *ast.GenDecl:
				faults = append(faults, groupDocs(p, d)...)
			}
		}
	}
	return faults
}

// exportedReceiver is true of functions, and of methods that another package can call by name.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if generic, ok := t.(*ast.IndexExpr); ok {
		t = generic.X
	}
	name, ok := t.(*ast.Ident)
	return ok && name.IsExported()
}

// ofError reports whether a method is one of errors.Is and its kin, whose contract is in package errors.
func ofError(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Error", "Unwrap", "Is"}, d.Name.Name)
}

// groupDocs takes a comment above a type, and above, behind or at the head of a group of values.
func groupDocs(p *pkg, d *ast.GenDecl) (faults []fault) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			doc := s.Doc
			if doc == nil && !d.Lparen.IsValid() {
				doc = d.Doc
			}
			if s.Name.IsExported() {
				faults = append(faults, wantDoc(p, s.Name, doc)...)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
					faults = append(faults, wantDoc(p, name, nil)...)
				}
			}
		}
	}
	return faults
}

func wantDoc(p *pkg, name *ast.Ident, doc *ast.CommentGroup) []fault {
	of := p.name() + "." + name.Name
	if doc == nil {
		return []fault{{of, fmt.Sprintf("%s: %s has no comment", p.at(name), of)}}
	}
	if words := strings.Fields(doc.Text()); !slices.Contains(words[:min(2, len(words))], name.Name) {
		return []fault{{of, fmt.Sprintf("%s: the comment of %s does not begin with its name", p.at(name),
			of)}}
	}
	return nil
}

func fileLength(p *pkg) (faults []fault) {
	for _, f := range p.files {
		if n := strings.Count(f.text, "\n"); n > maxFile {
			faults = append(faults, fault{f.name, fmt.Sprintf("%s has %d lines; want at most %d", f.name, n,
				maxFile)})
		}
	}
	return faults
}

func functionLength(p *pkg) (faults []fault) {
	for _, f := range p.files {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := p.lines(fn); n > maxFunction {
				faults = append(faults, fault{p.name() + "." + fn.Name.Name,
					fmt.Sprintf("%s: %s has %d lines; want at most %d", p.at(fn), fn.Name.Name, n,
						maxFunction)})
			}
		}
	}
	return faults
}

// lineWidth counts characters, not bytes, in code and comments.
func lineWidth(p *pkg) (faults []fault) {
	for _, f := range p.files {
		number := 0
		for line := range strings.Lines(f.text) {
			number++
			if n := columns(strings.TrimRight(line, "\n")); n > maxLine {
				faults = append(faults, fault{p.dir,
					fmt.Sprintf("%s:%d has %d columns; want at most %d", f.name, number, n, maxLine)})
			}
		}
	}
	return faults
}

// columns is the width of a line; a tab goes to the next multiple of tabWidth.
func columns(line string) (n int) {
	for _, r := range line {
		if r == '\t' {
			n += tabWidth - n%tabWidth
		} else {
			n++
		}
	}
	return n
}

func noInit(p *pkg) (faults []fault) {
	for _, f := range p.files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				faults = append(faults, fault{f.name, fmt.Sprintf("%s: init runs before main can decide "+
					"anything", p.at(fn))})
			}
		}
	}
	return faults
}

func noSleep(p *pkg) (faults []fault) {
	for _, f := range p.files {
		if !slices.Contains(f.imports(), "time") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && isSelector(s, "time", "Sleep") {
				faults = append(faults, fault{f.name, fmt.Sprintf("%s: time.Sleep: wait for the event",
					p.at(s))})
			}
			return true
		})
	}
	return faults
}

func isSelector(s *ast.SelectorExpr, pkg string, names ...string) bool {
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg && slices.Contains(names, s.Sel.Name)
}

// panics wants a message that begins with the package's name.
func panics(p *pkg) (faults []fault) {
	for _, f := range p.code() {
		for _, d := range f.ast.Decls {
			of := p.name()
			if fn, ok := d.(*ast.FuncDecl); ok {
				of += "." + fn.Name.Name
			}
			ast.Inspect(d, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "panic" && len(call.Args) == 1 &&
					!strings.HasPrefix(leadingText(call.Args[0]), p.name()+": ") {
					faults = append(faults, fault{of, fmt.Sprintf("%s: a panic's message begins with %q",
						p.at(call), p.name()+": ")})
				}
				return true
			})
		}
	}
	return faults
}

// leadingText returns the literal that a message begins with, through Sprintf, New and +.
func leadingText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, _ := strconv.Unquote(e.Value)
			return s
		}
	case *ast.BinaryExpr:
		return leadingText(e.X)
	case *ast.CallExpr:
		s, ok := e.Fun.(*ast.SelectorExpr)
		if ok && len(e.Args) > 0 && (isSelector(s, "fmt", "Sprintf", "Errorf", "Sprint") || isSelector(s,
			"errors", "New")) {
			return leadingText(e.Args[0])
		}
	}
	return ""
}

// errorTexts holds messages to what can stand behind "operation: ".
func errorTexts(p *pkg) (faults []fault) {
	for _, f := range p.code() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			s, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !isSelector(s, "fmt", "Errorf") && !isSelector(s, "errors", "New") {
				return true
			}
			if text := leadingText(call); !readsOn(text) {
				faults = append(faults, fault{f.name, fmt.Sprintf("%s: error %q: want lower case, the "+
					"operation, no \"failed to\", no full stop", p.at(call), text)})
			}
			return true
		})
	}
	return faults
}

// readsOn reports whether an error's text can stand behind a colon. Abbreviations keep their capitals.
func readsOn(text string) bool {
	r := []rune(text)
	capital := len(r) > 1 && unicode.IsUpper(r[0]) && unicode.IsLower(r[1])
	return !capital && !strings.HasPrefix(text, "failed to") && !strings.Contains(text, ": failed to") &&
		!strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "\n")
}
