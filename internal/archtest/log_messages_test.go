package archtest

import (
	"go/ast"
	"strings"
)

// logLevels are the methods that log, and the level of each.
var logLevels = map[string]string{"Debug": "debug", "Info": "info", "Warn": "warn", "Error": "error"}

// logMessages returns each log message: its text, level, keys and package.
func logMessages(packages []*pkg) (rows [][]string) {
	for _, p := range product(packages) {
		known := textsOf(p, packages)
		for _, f := range p.code() {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				s, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !isLogger(s.X) {
					return true
				}
				level, args := logLevels[s.Sel.Name], call.Args
				if level != "" && len(args) > 0 {
					if text := known.template(args[0]); text != "…" {
						rows = append(rows, []string{text, level, keys(args[1:]), short(module + "/" +
							p.dir)})
					}
				}
				return true
			})
			rows = append(rows, sessionMessages(p, f, known)...)
		}
	}
	return rows
}

// sessionMessages finds s.log(slog.LevelX, "message", slog.String("key", ...)...), by which sessions log,
// with a level that is chosen between info and warn, too; and the literals by which others log later.
func sessionMessages(p *pkg, f *file, known texts) (rows [][]string) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		var args []ast.Expr
		chosen := false // by what is called, which is a method log
		switch n := n.(type) {
		case *ast.CallExpr:
			args, chosen = n.Args, called(n) == "log"
		case *ast.CompositeLit:
			args = n.Elts
		}
		for i := 0; i+1 < len(args); i++ {
			level := levelOf(args[i], chosen)
			if text := known.template(args[i+1]); level != "" && text != "…" {
				rows = append(rows, []string{text, level, keys(args[i+2:]), short(module + "/" + p.dir)})
			}
		}
		return true
	})
	return rows
}

// levelOf returns the level that an expression is, as people read it; "": it is none. chosen: it may be a
// variable.
func levelOf(e ast.Expr, chosen bool) string {
	switch e := e.(type) {
	case *ast.Ident:
		if chosen && e.Name == "level" {
			return "info or warn"
		}
	case *ast.SelectorExpr:
		if isSelector(e, "slog", "LevelDebug", "LevelInfo", "LevelWarn", "LevelError") {
			return strings.ToLower(strings.TrimPrefix(e.Sel.Name, "Level"))
		}
	}
	return ""
}

// isLogger reports whether an expression is called like a logger: log, x.log, x.Log.
func isLogger(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "log" || e.Name == "logger"
	case *ast.SelectorExpr:
		return e.Sel.Name == "log" || e.Sel.Name == "Log"
	}
	return false
}

// keys returns the keys of a log call, as they are written.
func keys(args []ast.Expr) string {
	var all []string
	for _, a := range args {
		switch a := a.(type) {
		case *ast.BasicLit:
			if k := texts(nil).template(a); strings.Trim(k, "abcdefghijklmnopqrstuvwxyz_0123456789") == "" &&
				k != "" {
				all = append(all, k)
			}
		case *ast.CallExpr:
			if s, ok := a.Fun.(*ast.SelectorExpr); ok && isSelector(s, "slog", "String", "Int", "Any",
				"Duration", "Bool") && len(a.Args) > 0 {
				all = append(all, texts(nil).template(a.Args[0]))
			}
		}
	}
	return strings.Join(all, ", ")
}
