package archtest

import (
	"go/token"
	"slices"
	"strings"
	"testing"
)

// snippet makes a package of one file of code, and perhaps one of tests.
func snippet(t *testing.T, code, test string) *pkg {
	t.Helper()
	p := &pkg{dir: "internal/sample", fset: token.NewFileSet()}
	for name, text := range map[string]string{"internal/sample/sample.go": code,
		"internal/sample/sample_test.go": test} {
		if text == "" {
			continue
		}
		if err := p.parse(name, text); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// TestLawsCanFail: each law finds its breach, and lets the like that is allowed pass.
func TestLawsCanFail(t *testing.T) {
	for _, tt := range []struct {
		name  string
		check func(*pkg) []fault
		code  string
		want  int // faults
	}{
		{"no package comment", packageComment, "package sample", 1},
		{"package comment with another beginning", packageComment, "// It samples.\npackage sample", 1},
		{"package comment", packageComment, "// Package sample samples.\npackage sample", 0},
		{"no comments", docComments, "package sample; func F() {}; type T int; func (T) M() {}; const C = " +
			"1; var V = 1", 5},
		{"comment without the name", docComments, "package sample\n// makes.\nfunc F() {}", 1},
		{"not exported", docComments,
			"package sample; func f() {}; type t int; func (t) M() {}; type E int; ", 1},
		{"comments", docComments, "package sample\n// F makes.\nfunc F() {}\n// A T is.\ntype T int\nfunc " +
			"(*T) Error() string { return \"\" }\nconst (\n\tC = 1 // unit\n)", 0},
		{"long file", fileLength, "package sample" + strings.Repeat("\n", maxFile+1), 1},
		{"file", fileLength, "package sample" + strings.Repeat("\n", maxFile), 0},
		{"long function", functionLength, "package sample\nfunc f() {" + strings.Repeat("\n", maxFunction) +
			"}", 1},
		{"function", functionLength, "package sample\nfunc f() {" + strings.Repeat("\n", maxFunction-1) +
			"}", 0},
		{"init", noInit, "package sample; func init() {}", 1},
		{"method init", noInit, "package sample; type t int; func (t) init() {}", 0},
		{"sleep", noSleep, "package sample; import \"time\"; func f() { time.Sleep(time.Second) }", 1},
		{"sleep handed on", noSleep, "package sample; import \"time\"; var wait = time.Sleep", 1},
		{"other Sleep", noSleep, "package sample; type c int; func (c) Sleep() {}; func f(time c) { " +
			"time.Sleep() }", 0},
		{"panic with an error", panics, "package sample; func f(err error) { panic(err) }", 1},
		{"panic with another name", panics, "package sample; func f() { panic(\"simple: no\") }", 1},
		{"panic", panics, "package sample; import (\"errors\"; \"fmt\"); func f(s string) { " +
			"panic(\"sample: no\"); panic(fmt.Sprintf(\"sample: %s\", s)); panic(\"sample: \" + s); " +
			"panic(errors.New(\"sample: no\")) }", 0},
		{"failed to", errorTexts, "package sample; import \"fmt\"; var e = fmt.Errorf(\"failed to open: " +
			"%w\", nil)", 1},
		{"read: failed to", errorTexts, "package sample; import \"errors\"; var e = errors.New(\"read: " +
			"failed to open\")", 1},
		{"capital", errorTexts, "package sample; import \"errors\"; var e = errors.New(\"Open it\")", 1},
		{"full stop", errorTexts, "package sample; import \"errors\"; var e = errors.New(\"open it.\")", 1},
		{"error", errorTexts, "package sample; import \"errors\"; var e, a = errors.New(\"open it\"), " +
			"errors.New(\"IPv6 is off\")", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.check(snippet(t, tt.code, "")); len(got) != tt.want {
				t.Errorf("got faults %q; want %d", got, tt.want)
			}
		})
	}
}

// TestGlobalsCanFail: code that changes a package's variable, and code that only seems to.
func TestGlobalsCanFail(t *testing.T) {
	const head = `package sample
import ("sync"; "sync/atomic"; "errors"; "ftpgate/internal/dnat")
type thing struct { n int; m map[string]int }
var ErrGone = errors.New("gone")
var names = []string{"a", "b"}
var one = thing{}
var table = map[string]int{"a": 1}
var count int
`
	for _, tt := range []struct {
		code string
		want []string
	}{
		{"func f() { ErrGone = nil }", []string{"sample.ErrGone"}},
		{"func f() { names = append(names, \"c\") }", []string{"sample.names"}},
		{"func f() { names[0] = \"c\" }", []string{"sample.names"}},
		{"func f() { (one).m[\"x\"] = 1 }", []string{"sample.one"}},
		{"func f() { count++ }", []string{"sample.count"}},
		{"func f() { x := 1; x, count = count, 2; _ = x }", []string{"sample.count"}},
		{"func f() { delete(table, \"a\"); clear(names); copy(names[1:], names) }", []string{"sample.table",
			"sample.names", "sample.names"}},
		{"func f() { dnat.AllPorts.First = 2 }", []string{"sample.dnat.AllPorts"}},
		{"func f() { for count = range names { } }", []string{"sample.count"}},
		{"func f() { _ = func() { count = 1 } }", []string{"sample.count"}},
		{"var mu sync.Mutex", []string{"sample.mu"}},
		{"var n atomic.Int64", []string{"sample.n"}},
		{"var once = sync.OnceValue(func() int { return 1 })", []string{"sample.once"}},
		{"var seen = make(map[string]bool)", []string{"sample.seen"}},
		{"var p = new(int)", []string{"sample.p"}},
		{"func f(count int, one thing) { count++; one.n = 1; names := names[:1]; names[0] = \"\" }", nil},
		{"func f() string { t := &table; _ = t; return names[0] }", nil},
		{"var make2 = func() map[string]int { return make(map[string]int) }", nil},
		{"func f() { for i, n := range names { _, _ = i, n } }", nil},
	} {
		var got []string
		for _, f := range noMutableGlobals(snippet(t, head+tt.code, "")) {
			got = append(got, f.of)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q; want %q", tt.code, got, tt.want)
		}
	}
}

// TestLayoutCanFail: what contradicts the table is found.
func TestLayoutCanFail(t *testing.T) {
	required := map[string]requirement{"example.org/lib/v2": {}, "example.org/other": {},
		"example.org/deep": {indirect: true}}
	const clean = "package sample; import (_ \"fmt\"; _ \"ftpgate/internal/dnat\"; _ " +
		"\"example.org/lib/v2/part\")"
	above := row{pkg: "dnat"}
	sound := row{pkg: "sample", imports: []string{"dnat"}, owns: []string{"example.org/lib/v2"}}
	for _, tt := range []struct {
		name       string
		rows       []row
		code, test string
		want       string // in one of the faults; "" for no fault
	}{
		{"sound", []row{above, sound}, clean, "", ""},
		{"row below", []row{sound, above}, clean, "", "row sample imports dnat, which is no row above it"},
		{"two rows", []row{above, sound, sound}, clean, "", "two rows"},
		{"two owners", []row{above, {pkg: "lab", owns: sound.owns}, sound}, clean, "",
			"owned by lab and sample"},
		{"package of ours", []row{above, sound}, clean + "\nimport _ \"ftpgate/internal/nft\"", "",
			"sample.go imports ftpgate/internal/nft"},
		{"module of another", []row{above, sound}, clean + "\nimport _ \"example.org/other\"", "",
			"sample.go imports example.org/other"},
		{"module that no package requires", []row{above, sound}, clean + "\nimport _ \"example.org/third\"",
			"",
			"sample.go imports example.org/third"},
		{"test imports", []row{above, sound}, clean, "package sample; import _ \"example.org/other\"",
			"sample_test.go imports example.org/other"},
		{"test imports its package", []row{above, sound}, clean,
			"package sample_test; import _ \"ftpgate/internal/sample\"", ""},
		{"nothing used", []row{above, sound}, "package sample; import _ \"ftpgate/internal/dnat\"", "",
			"allows example.org/lib/v2, which it does not import"},
		{"unshared", []row{above, {pkg: "sample", imports: sound.imports, shares: sound.owns}}, clean, "",
			"nothing says why it may be shared"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := snippet(t, tt.code, tt.test)
			got := checkTable(tt.rows)
			got = append(got, checkImports([]row{tt.rows[len(tt.rows)-1]}, []*pkg{p}, required)...)
			found := slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, tt.want) })
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q; want none", got)
			case tt.want != "" && !found:
				t.Errorf("got %q; want one with %q", got, tt.want)
			}
		})
	}
	if got := checkModules([]row{sound}, required); len(got) != 1 || !strings.Contains(got[0],
		"example.org/other") {
		t.Errorf("got %q; want example.org/other to have no owner", got)
	}
	packages := []*pkg{{dir: "internal/dnat"}, {dir: "cmd/tool"}}
	if got, want := checkRows([]row{above, sound}, packages), 2; len(got) != want {
		t.Errorf("got %q; want cmd/tool without a row and sample without a package", got)
	}
}
