package archtest

import (
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// refusals returns each reason of a refusal, the word of its kind, and its package: the first text after a
// kind among what is passed or returned, Reason beside Kind in a literal, and the words of a data path.
func refusals(packages []*pkg) (rows [][]string) {
	words := refusalWords(packages)
	for _, p := range product(packages) {
		known := textsOf(p, packages)
		for _, f := range p.code() {
			for _, d := range f.ast.Decls {
				r := refusalReader{words, maps.Clone(known), nil}
				if fn, ok := d.(*ast.FuncDecl); ok {
					r.read(fn)
				}
				for _, row := range r.found {
					rows = append(rows, []string{row[0], row[1], short(module + "/" + p.dir)})
				}
			}
		}
	}
	return rows
}

// refusalReader finds the refusals of one function.
type refusalReader struct {
	words map[string]string // of kinds, by their constants
	known texts             // also the function's own variables, as they were assigned last
	found [][2]string       // reason and kind
}

func (r *refusalReader) read(fn *ast.FuncDecl) {
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if name, ok := n.Lhs[0].(*ast.Ident); ok && len(n.Lhs) == 1 {
				r.known[name.Name] = r.known.template(n.Rhs[0])
				if fn.Name.Name == "Reply" && name.Name == "text" {
					r.add("", n.Rhs[0])
				}
			}
			if len(n.Rhs) > 1 {
				r.list(n.Rhs)
			}
		case *ast.ValueSpec:
			if len(n.Values) == 1 {
				r.known[n.Names[0].Name] = r.known.template(n.Values[0])
			}
		case *ast.CallExpr:
			r.list(n.Args)
		case *ast.ReturnStmt:
			r.list(n.Results)
			if fn.Name.Name == "Reply" && len(n.Results) == 2 {
				r.add("", n.Results[1])
			}
		case *ast.CompositeLit:
			if reason := field(n, "Reason"); reason != nil && lastName(n.Type) != "Fault" { // a verdict's
				r.add(lastName(field(n, "Kind")), reason)
			}
			if reason := field(n, "reason"); reason != nil {
				r.add("", reason)
			}
		}
		return true
	})
}

// list finds a kind in a list, and the reason after it.
func (r *refusalReader) list(list []ast.Expr) {
	for i, e := range list {
		kind := lastName(e)
		if r.words[kind] == "" && kind != "NotRefused" {
			continue
		}
		for _, reason := range list[i+1:] {
			if isCode := strings.HasPrefix(lastName(reason), "Code"); !isCode && r.add(kind, reason) {
				return
			}
		}
	}
}

// add adds a reason if it has words, and reports whether it has.
func (r *refusalReader) add(kind string, reason ast.Expr) bool {
	text := verbs(r.known.template(reason))
	if strings.Trim(text, "… ") == "" {
		return false
	}
	r.found = append(r.found, [2]string{text, r.words[kind]})
	return true
}

// refusalWords returns the labels of the kinds of refusals, by their constants.
func refusalWords(packages []*pkg) map[string]string {
	words := map[string]string{}
	for _, p := range packages {
		if p.dir != "internal/core/verdict" {
			continue
		}
		for _, f := range p.code() {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if kv, ok := n.(*ast.KeyValueExpr); ok && strings.HasPrefix(lastName(kv.Key), "Refused") {
					if row, ok := kv.Value.(*ast.CompositeLit); ok {
						words[lastName(kv.Key)] = texts(nil).template(row.Elts[0])
					}
				}
				return true
			})
		}
	}
	return words
}

// lastName returns the name that an expression is or selects; empty: neither.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func TestRefusalsCanFail(t *testing.T) {
	p := snippet(t, `package sample
const full = "too many"
func (s *step) f() Refusal {
	s.refuse(RefusedLine, 500, "%s is no command", verb)
	reason := fmt.Sprintf("idle for %s", limit)
	s.end(refusal.New(verdict.RefusedLine, verdict.CodeIdle, reason))
	return verdict.RefusedLine, full
}
func (e *E) Reply() (code int, text string) {
	switch {
	case e.late:
		text = "too late"
	default:
		text = "no TLS"
	}
	return 425, text
}
func (s *step) g() {
	s.Kind, s.Reason = verdict.RefusedLine, "not here"
	s.err = &Error{reason: "no resumption"}
}
`, "")
	r := refusalReader{map[string]string{"RefusedLine": "line"}, constants(p), nil}
	for _, d := range p.files[0].ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			r.read(fn)
		}
	}
	want := [][2]string{{"… is no command", "line"}, {"idle for …", "line"}, {"too many", "line"},
		{"too late", ""}, {"no TLS", ""}, {"no TLS", ""}, {"not here", "line"}, {"no resumption", ""}}
	if !slices.Equal(r.found, want) {
		t.Errorf("got %q; want %q", r.found, want)
	}
}
