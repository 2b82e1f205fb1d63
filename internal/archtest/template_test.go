package archtest

import (
	"go/ast"
	"strconv"
	"strings"
	"testing"
)

// called returns the name of what is called, without its package or receiver.
func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// field returns the value of a literal's field; nil: it has none of that name.
func field(l *ast.CompositeLit, name string) ast.Expr {
	for _, e := range l.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == name {
				return kv.Value
			}
		}
	}
	return nil
}

// texts are constants with a literal text, by the names that a package has for them: own ones, and
// "package.Name" for those of others.
type texts map[string]string

// template returns a text with "…" for all that the code puts in.
func (t texts) template(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		if text, known := t[e.Name]; known {
			return text
		}
	case *ast.SelectorExpr:
		if from, ok := e.X.(*ast.Ident); ok {
			if text, known := t[from.Name+"."+e.Sel.Name]; known {
				return text
			}
		}
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil {
			return s
		}
	case *ast.ParenExpr:
		return t.template(e.X)
	case *ast.BinaryExpr:
		return strings.ReplaceAll(t.template(e.X)+t.template(e.Y), "……", "…")
	case *ast.CallExpr:
		if s, ok := e.Fun.(*ast.SelectorExpr); ok && isSelector(s, "fmt", "Sprintf", "Errorf") &&
			len(e.Args) > 0 {
			return verbs(t.template(e.Args[0]))
		}
		if s, ok := e.Fun.(*ast.SelectorExpr); ok && isSelector(s, "cmp", "Or") {
			var all []string
			for _, a := range e.Args {
				if text := t.template(a); text != "…" {
					all = append(all, text)
				}
			}
			if len(all) > 0 {
				return strings.Join(all, " / ")
			}
		}
	}
	return "…"
}

// verbs replaces fmt's verbs.
func verbs(format string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		for i++; i < len(format) && strings.IndexByte("+-# 0123456789.[]*", format[i]) >= 0; i++ {
		}
		if i < len(format) && format[i] == '%' {
			b.WriteByte('%')
			continue
		}
		b.WriteString("…")
	}
	return strings.ReplaceAll(b.String(), "……", "…")
}

func TestTemplateCanFail(t *testing.T) {
	p := snippet(t, `package sample
import ("fmt"; "cmp")
const known = "known"
var a = "plain"
var b = "a " + x + ": " + y
var c = fmt.Sprintf("%d%% of %q, %-5s%s", n, s, t, u)
var d = cmp.Or(x, "no answer")
var e = f(x)
var g = known + ": " + other.Known
`, "")
	want := map[string]string{"a": "plain", "b": "a …: …", "c": "…% of …, …", "d": "no answer", "e": "…",
		"g": "known: also", "known": "known"}
	known := texts(constants(p))
	known["other.Known"] = "also"
	for _, d := range p.files[0].ast.Decls {
		g := d.(*ast.GenDecl)
		if v, ok := g.Specs[0].(*ast.ValueSpec); ok {
			if got := known.template(v.Values[0]); got != want[v.Names[0].Name] {
				t.Errorf("%s: got %q; want %q", v.Names[0].Name, got, want[v.Names[0].Name])
			}
		}
	}
}
