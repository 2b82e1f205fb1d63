package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// groups are the folders below internal/, the lowest first. A package imports packages of its own group and
// of groups before it, never of groups behind it: arrows only go down.
var groups = []string{
	"core",      // pure decisions: values in, values out
	"version",   // which ftpgate this is
	"ftpclient", // an FTP client, for those who try a server
	// the header in which a balancer, or the gateway, names the client
	"proxyprotocol",
	"kernel",    // what talks to Linux
	"observe",   // what happens to sessions, and who shows it
	"gateway",   // desired against observed state
	"dataplane", // data connections
	"control",   // control connections
	"ops",       // the admin socket, systemd
	"diagnose",  // what is wrong with a host, a server
	"config",    // the file
	"importer",  // the file, from rules that a host has
	"daemon",    // the wiring
	"try",       // the laboratory and the demo
	"cli",       // the command line
	"cmd",       // the program
	"e2e",       // tests of the whole
}

// group returns the index in groups of a package as rows name it; -1: it belongs to none. What tests share
// (nfttest, labtest) belongs to none: it stands beside its package, and may use the lab.
func group(pkg string) int {
	if strings.HasSuffix(pkg, "test") {
		return -1
	}
	first, _, _ := strings.Cut(pkg, "/")
	return slices.Index(groups, first)
}

// TestGroups holds the code's imports to the order of the groups. Tests may import what is above them: a lab,
// a real peer.
func TestGroups(t *testing.T) {
	for _, fault := range checkGroups(load(t)) {
		t.Error(fault)
	}
}

func checkGroups(packages []*pkg) (faults []string) {
	for _, p := range packages {
		own := group(short(module + "/" + p.dir))
		if own < 0 {
			continue // for tests only, or a module of its own
		}
		for _, f := range p.code() {
			for _, i := range f.imports() {
				if !strings.HasPrefix(i, module+"/") {
					continue
				}
				if other := group(short(i)); other > own {
					faults = append(faults, fmt.Sprintf("%s: imports %s: %s is above %s", f.name, i,
						groups[other], groups[own]))
				}
			}
		}
	}
	return faults
}

// impure are the packages of the standard library that touch the world. net/netip is made of values only.
var impure = []string{"os", "net", "net/http", "syscall", "log", "log/slog", "os/exec", "os/signal",
	"crypto/tls", "math/rand"}

// pure holds the packages of core to what can be tested with values alone: no I/O, no goroutine, no clock.
func pure(p *pkg) (faults []fault) {
	if !strings.HasPrefix(p.dir, "internal/core/") {
		return nil
	}
	for _, f := range p.code() {
		for _, i := range f.imports() {
			if slices.Contains(impure, i) {
				faults = append(faults, fault{f.name, fmt.Sprintf("%s imports %s: core is pure", f.name, i)})
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				faults = append(faults, fault{f.name, fmt.Sprintf("%s: a goroutine: core is pure", p.at(n))})
			case *ast.SelectorExpr:
				if isSelector(n, "time", "Now", "Since", "Until", "After", "AfterFunc", "NewTimer",
					"NewTicker", "Tick", "Sleep") {
					faults = append(faults, fault{f.name,
						fmt.Sprintf("%s: time.%s: core is passed its clock", p.at(n), n.Sel.Name)})
				}
			}
			return true
		})
	}
	return faults
}

// TestEveryPackageHasTests wants tests of its own for every package with a function, but the program itself
// and what only tests import. A package of types alone does nothing that a test could find wrong.
func TestEveryPackageHasTests(t *testing.T) {
	for _, p := range load(t) {
		if !hasFunction(p.code()) || strings.HasPrefix(p.dir, "cmd/") || strings.HasSuffix(p.dir, "test") ||
			p.dir == "internal/e2e/harness" || p.dir == "internal/e2e/peers" {
			continue
		}
		if len(p.code()) == len(p.files) {
			t.Errorf("package %s has no tests of its own", p.dir)
		}
	}
}

// hasFunction reports whether one of the files declares a function.
func hasFunction(files []*file) bool {
	return slices.ContainsFunc(files, func(f *file) bool {
		return slices.ContainsFunc(f.ast.Decls, func(d ast.Decl) bool {
			_,
				ok := d.(*ast.FuncDecl)
			return ok
		})
	})
}

// TestPackageNames wants each package's name once: a reader sees only the last part of an import's path.
func TestPackageNames(t *testing.T) {
	byName := map[string]string{}
	for _, p := range load(t) {
		name := path.Base(p.dir)
		if strings.HasPrefix(p.dir, "internal/e2e/") {
			continue // tests of what the name says
		}
		if other := byName[name]; other != "" && strings.HasPrefix(p.dir, "internal/") {
			t.Errorf("%s and %s have one name", other, p.dir)
		}
		byName[name] = p.dir
	}
}

// TestGroupsCanFail: each check of this file finds its breach.
func TestGroupsCanFail(t *testing.T) {
	up := snippet(t, "package sample; import _ \"ftpgate/internal/daemon\"", "")
	up.dir = "internal/core/sample"
	if got := checkGroups([]*pkg{up}); len(got) != 1 {
		t.Errorf("core imports daemon: got %q; want one fault", got)
	}
	down := snippet(t, "package sample; import _ \"ftpgate/internal/core/ftp\"",
		"package sample; import _ \"ftpgate/internal/try/lab\"")
	down.dir = "internal/kernel/sample"
	if got := checkGroups([]*pkg{down}); len(got) != 0 {
		t.Errorf("kernel imports core: got %q; want none", got)
	}
	for code, want := range map[string]int{
		"package sample; import _ \"os\"":                                           1,
		"package sample; import _ \"net/netip\"":                                    0,
		"package sample; func f() { go f() }":                                       1,
		"package sample; import \"time\"; var now = time.Now":                       1,
		"package sample; import \"time\"; func f(now time.Time) { _ = now.Add(1) }": 0,
	} {
		p := snippet(t, code, "")
		p.dir = "internal/core/sample"
		if got := pure(p); len(got) != want {
			t.Errorf("%s: got %v; want %d faults", code, got, want)
		}
		p.dir = "internal/kernel/sample"
		if got := pure(p); len(got) != 0 {
			t.Errorf("outside core: %s: got %v; want none", code, got)
		}
	}
}
