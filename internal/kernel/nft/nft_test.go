package nft_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// The text that ftpgate shows is the table that it installs: nft(8) lists the same after it has loaded the
// text, and after Apply.
func TestParity(t *testing.T) {
	labtest.Need(t, "nft")
	for _, c := range rulesettest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			table := c.Table()
			shown, installed := labtest.Host(t), labtest.Host(t)
			file := filepath.Join(t.TempDir(), "table.nft")
			if err := os.WriteFile(file, []byte(table.Text()), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := shown.Output(t.Context(), "nft", "-f", file); err != nil {
				t.Fatalf("nft -f: %v\n%s", err, out)
			}
			nfttest.Apply(t, nfttest.Open(t, installed), table)
			got, want := normalized(t, installed), normalized(t, shown)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%s\nwant\n%s", nfttest.List(t, installed), nfttest.List(t, shown))
			}
		})
	}
}

// The difference between any two cases leads to the same table as a fresh start.
func TestApplyDifference(t *testing.T) {
	labtest.Need(t, "nft")
	cases := rulesettest.Cases()
	fresh := map[string]any{}
	for _, c := range cases {
		h := labtest.Host(t)
		nfttest.Apply(t, nfttest.Open(t, h), c.Table())
		fresh[c.Name] = normalized(t, h)
	}
	for _, from := range cases {
		for _, to := range cases {
			t.Run(from.Name+" to "+to.Name, func(t *testing.T) {
				h := labtest.Host(t)
				c := nfttest.Open(t, h)
				nfttest.Apply(t, c, from.Table())
				nfttest.Apply(t, c, to.Table())
				if got, want := normalized(t, h), fresh[to.Name]; !reflect.DeepEqual(got, want) {
					t.Errorf("got\n%s", nfttest.List(t, h))
				}
			})
		}
	}
}

// Apply sends the difference only: other objects keep their handles, and without a difference it sends
// nothing.
func TestApplySmallChange(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	forwards := rulesettest.Many(3)
	nfttest.Apply(t, c, ruleset.Build("ftpgate", forwards))
	before := handles(t, h)
	nfttest.Apply(t, c, ruleset.Build("ftpgate", forwards))
	forwards[1].Server4 = netip.MustParseAddr("203.0.113.99")
	nfttest.Apply(t, c, ruleset.Build("ftpgate", forwards))
	got := nfttest.List(t, h)
	if !strings.Contains(got, "10.0.0.2 . 2121 : 203.0.113.99 . 21") || strings.Contains(got, "10.128.0.2") {
		t.Errorf("got\n%s\nwant 10.0.0.2 to lead to 203.0.113.99", got)
	}
	if after := handles(t, h); !reflect.DeepEqual(after, before) {
		t.Errorf("got handles %v; want those from before, %v", after, before)
	}
}

// If an administrator empties a set by hand, so that the change does not fit, Apply installs the whole table.
func TestApplyRepairs(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	nfttest.Apply(t, c, ruleset.Build("ftpgate", rulesettest.Many(3)))
	if _, err := h.Output(t.Context(), "nft", "flush", "map", "inet", "ftpgate", "control4"); err != nil {
		t.Fatal(err)
	}
	want := ruleset.Build("ftpgate", rulesettest.Many(2))
	nfttest.Apply(t, c, want)
	if got := elements(t, c, want); got != 2 {
		t.Errorf("got %d listen addresses; want 2", got)
	}
}

// One transaction installs ten thousand forwards, all of them.
func TestApplyTenThousand(t *testing.T) {
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	table := ruleset.Build("ftpgate", rulesettest.Many(10000))
	nfttest.Apply(t, c, table)
	if got := elements(t, c, table); got != 10000 {
		t.Errorf("got %d listen addresses in the kernel; want 10000", got)
	}
}

// Apply and Remove leave other tables alone, and an error changes nothing.
func TestOwnTableOnly(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	for _, cmd := range []string{"add table inet other", "add table ip ftpgate",
		"add table inet ftpgatekeeper"} {
		if _, err := h.Output(t.Context(), "nft", cmd); err != nil {
			t.Fatal(err)
		}
	}
	before := nfttest.List(t, h)
	table := ruleset.Build("ftpgate", rulesettest.Many(1))
	nfttest.Apply(t, c, table)
	for _, name := range []string{"other", "ftpgatekeeper"} {
		if err := c.Apply(table, name); err == nil {
			t.Errorf("table %s as obsolete: got no error", name)
		}
		if err := c.Remove(name); err == nil {
			t.Errorf("remove of table %s: got no error", name)
		}
	}
	broken := table
	broken.Name = "ftpgate-broken"
	broken.Sets = slices.Clone(broken.Sets[1:]) // a rule's map is missing
	err := c.Apply(broken, "ftpgate")
	const refused = `add rule "dnat ip to ip daddr . tcp dport map @control4" to chain prerouting: ` +
		`no such file or directory`
	if err == nil || !strings.Contains(err.Error(), refused) {
		t.Errorf("got error %v; want it to name the rule", err)
	}
	if got := elements(t, c, table); got != 1 {
		t.Errorf("got %d listen addresses after a refused transaction; want 1", got)
	}
	for range 2 { // the second time there is nothing to remove
		if err := c.Remove("ftpgate"); err != nil {
			t.Fatal(err)
		}
	}
	if after := nfttest.List(t, h); after != before {
		t.Errorf("got\n%s\nwant what was there before\n%s", after, before)
	}
}

// Apply removes the tables of other ftpgates that it is told to remove, in the same transaction.
func TestApplyRemovesObsolete(t *testing.T) {
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	for _, name := range []string{"ftpgate", "ftpgate-192.168.5.2-2121"} {
		nfttest.Apply(t, nfttest.Open(t, h), ruleset.Build(name, rulesettest.Many(1)))
	}
	err := c.Apply(ruleset.Build("ftpgate", rulesettest.Many(2)), "ftpgate-192.168.5.2-2121", "ftpgate-gone")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Tables()
	if err != nil || !slices.Equal(got, []string{"ftpgate"}) {
		t.Errorf("got tables %q, error %v; want ftpgate alone", got, err)
	}
}

func TestListens(t *testing.T) {
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	forwards := rulesettest.Cases()[6].Forwards
	nfttest.Apply(t, c, ruleset.Build("ftpgate", forwards))
	got, err := c.Listens("ftpgate")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range forwards {
		if !slices.Contains(got, f.Listen) {
			t.Errorf("listen %s is not among those read back", f.Listen)
		}
	}
	if len(got) != len(forwards) {
		t.Errorf("got %d listen addresses; want %d", len(got), len(forwards))
	}
}

func TestProbeLeavesNothing(t *testing.T) {
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	if err := c.Probe(ruleset.Build("ftpgate", rulesettest.Cases()[6].Forwards)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Tables(); err != nil || len(got) > 0 {
		t.Errorf("got tables %q, error %v; want none", got, err)
	}
}

// A kernel that refuses only the rules that log gets a table without them. Here it refuses one for another
// part of it, since every kernel of a lab can log.
func TestProbeCannotLog(t *testing.T) {
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	table := ruleset.Build("ftpgate", rulesettest.Cases()[6].Forwards)
	unlogged := table.WithoutLog()
	refused := ruleset.Rule{ruleset.In{Version: 4, Set: "nowhere"}, ruleset.Log{}}
	table.Chains = slices.Clone(table.Chains)
	table.Chains[0].Rules = append(slices.Clone(table.Chains[0].Rules), refused)
	for _, step := range []func(ruleset.Table) error{
		c.Probe, func(t ruleset.Table) error { return c.Apply(t) },
		func(t ruleset.Table) error { _, _, err := c.Repair(t); return err },
	} {
		if err := step(table); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.Compare(unlogged); err != nil || len(got) > 0 {
		t.Errorf("got %q, error %v; want the table without rules that log", got, err)
	}
	table.Chains[0].Rules = append(table.Chains[0].Rules, refused[:1])
	if err := c.Probe(table); err == nil {
		t.Error("got no error for a rule without log; want one")
	}
}

func BenchmarkApply10000(b *testing.B) {
	c := nfttest.Open(b, labtest.Host(b))
	table := ruleset.Build("ftpgate", rulesettest.Many(10000))
	for b.Loop() {
		if err := c.Apply(table, "ftpgate"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChangeOneOf10000(b *testing.B) {
	c := nfttest.Open(b, labtest.Host(b))
	forwards := rulesettest.Many(10000)
	tables := [2]ruleset.Table{ruleset.Build("ftpgate", forwards)}
	forwards[5000].Server4 = netip.MustParseAddr("203.0.113.99")
	tables[1] = ruleset.Build("ftpgate", forwards)
	i := 0
	for b.Loop() {
		if err := c.Apply(tables[i%2]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// elements counts the listen addresses that the kernel has.
func elements(t *testing.T, c *nft.Conn, table ruleset.Table) int {
	t.Helper()
	listens, err := c.Listens(table.Name)
	if err != nil {
		t.Fatal(err)
	}
	return len(listens)
}

// normalized returns nft's view of the whole ruleset without what has no meaning: handles, which count
// everything that was there before, and the order of sets, in which they were made.
func normalized(t *testing.T, h *lab.Host) []any {
	t.Helper()
	objects := nfttest.ListJSON(t, h)
	for _, o := range objects {
		strip(o)
	}
	key := func(o any) string {
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	isRule := func(o any) bool { return o.(map[string]any)["rule"] != nil }
	rules := slices.DeleteFunc(slices.Clone(objects), func(o any) bool { return !isRule(o) })
	rest := slices.DeleteFunc(objects, isRule)
	slices.SortFunc(rest, func(a, b any) int { return strings.Compare(key(a), key(b)) })
	// Within a chain the order of rules counts; the order of chains does not.
	slices.SortStableFunc(rules, func(a, b any) int { return strings.Compare(chainOf(a), chainOf(b)) })
	return append(rest, rules...)
}

func chainOf(o any) string {
	return o.(map[string]any)["rule"].(map[string]any)["chain"].(string)
}

// strip removes handles, and sorts the elements of sets.
func strip(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "handle")
		for k, x := range v {
			if elems, ok := x.([]any); ok && k == "elem" {
				slices.SortFunc(elems, func(a, b any) int {
					x, _ := json.Marshal(a)
					y, _ := json.Marshal(b)
					return strings.Compare(string(x), string(y))
				})
			}
			strip(x)
		}
	case []any:
		for _, x := range v {
			strip(x)
		}
	}
}

// handles returns the handles of the table, sets, chains and rules.
func handles(t *testing.T, h *lab.Host) []float64 {
	t.Helper()
	var all []float64
	for _, o := range nfttest.ListJSON(t, h) {
		for _, x := range o.(map[string]any) {
			if handle, ok := x.(map[string]any)["handle"].(float64); ok {
				all = append(all, handle)
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("got no handles")
	}
	return all
}

// A table that another program flushes while it is installed is installed again, and that is reported
// once. If that goes on, there is an error, and no table is left.
func TestApplyDuringFlush(t *testing.T) {
	labtest.Need(t, "nft")
	for _, test := range []struct {
		command  string
		times    int
		reported int
		fails    bool
	}{
		{"flush ruleset", 0, 0, false},
		{"flush ruleset", 2, 1, false},
		{"flush map inet ftpgate control4", 1, 1, false},
		{"delete table inet ftpgate", 100, 1, true},
	} {
		h := labtest.Host(t)
		c := nfttest.Open(t, h)
		left, reported := test.times, 0
		c.BetweenSendAndVerify(func() {
			if left--; left >= 0 {
				nfttest.Run(t, h, test.command)
			}
		})
		c.OnChanged = func(table string, err error) {
			if reported++; table != "ftpgate" || err == nil {
				t.Errorf("%s: got table %s, error %v", test.command, table, err)
			}
		}
		table := ruleset.Build("ftpgate", rulesettest.Many(3))
		err := c.Apply(table)
		if (err != nil) != test.fails || reported != test.reported {
			t.Errorf("%s, %d times: got error %v, reported %d times; want an error %t, %d times",
				test.command, test.times, err, reported, test.fails, test.reported)
		}
		if test.fails {
			if tables, err := c.Tables(); err != nil || len(tables) > 0 {
				t.Errorf("%s: got tables %q, error %v; want none", test.command, tables, err)
			}
		} else if got, err := c.Compare(table); err != nil || len(got) > 0 {
			t.Errorf("%s: got differences %q, error %v; want none", test.command, got, err)
		}
	}
}
