package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// noMutableGlobals finds package-level variables of the code that are assigned to after their
// declaration, or that are made to be changed: a lock, a counter, a channel, an empty map.
func noMutableGlobals(p *pkg) (faults []fault) {
	uses := p.uses()
	for _, f := range p.code() {
		for _, d := range f.ast.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				faults = append(faults, stateful(p, g)...)
			}
		}
		report := func(target ast.Expr) {
			if name := global(target, uses); name != "" {
				of := p.name() + "." + name
				faults = append(faults, fault{of, fmt.Sprintf(
					"%s: %s is a package's variable and is changed here", p.at(target), of)})
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, target := range n.Lhs {
					report(target)
				}
			case *ast.RangeStmt:
				report(n.Key)
				report(n.Value)
			case *ast.IncDecStmt:
				report(n.X)
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"delete", "clear", "copy"},
					id.Name) && len(n.Args) > 0 {
					report(n.Args[0])
				}
			}
			return true
		})
	}
	return faults
}

// global returns the name of the package-level variable that an assignment to e would change, of
// this package or of another one; "" where e is local.
func global(e ast.Expr, uses map[*ast.Ident]types.Object) string {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			if v, ok := uses[x].(*types.Var); ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
				return x.Name
			}
			return ""
		case *ast.SelectorExpr:
			if id, ok := x.X.(*ast.Ident); ok {
				if _, imported := uses[id].(*types.PkgName); imported {
					return id.Name + "." + x.Sel.Name
				}
			}
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return ""
		}
	}
}

// stateful finds variables that are of no use unless they change.
func stateful(p *pkg, g *ast.GenDecl) (faults []fault) {
	for _, s := range g.Specs {
		spec := s.(*ast.ValueSpec)
		changes := func(e ast.Node) (found bool) {
			ast.Inspect(e, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncLit:
					return false // what it makes is its own
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") {
						found = true
					}
				case *ast.CallExpr:
					if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "make" || id.Name == "new") {
						found = true
					}
				}
				return true
			})
			return found
		}
		parts := slices.Clone(spec.Values)
		if spec.Type != nil {
			parts = append(parts, spec.Type)
		}
		if !slices.ContainsFunc(parts, func(e ast.Expr) bool { return changes(e) }) {
			continue
		}
		for _, name := range spec.Names {
			of := p.name() + "." + name.Name
			faults = append(faults, fault{of, fmt.Sprintf(
				"%s: %s is made to be changed by the whole process", p.at(name), of)})
		}
	}
	return faults
}
