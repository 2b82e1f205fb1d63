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
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// What is shown is what is installed: the text, loaded by nft(8), and the same table, applied
// through netlink, are the same to nft(8).
func TestParity(t *testing.T) {
	labtest.Need(t, "nft")
	for _, c := range rulesettest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			table := ruleset.Build("ftpgate", c.Forwards)
			shown, installed := labtest.Host(t), labtest.Host(t)
			file := filepath.Join(t.TempDir(), "table.nft")
			if err := os.WriteFile(file, []byte(table.Text()), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := shown.Output(t.Context(), "nft", "-f", file); err != nil {
				t.Fatalf("nft -f: %v\n%s", err, out)
			}
			apply(t, open(t, installed), table)
			got, want := list(t, installed), list(t, shown)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%s\nwant\n%s", dump(t, installed), dump(t, shown))
			}
		})
	}
}

// From every case to every other: the difference leads to the same table as a fresh start.
func TestApplyDifference(t *testing.T) {
	labtest.Need(t, "nft")
	cases := rulesettest.Cases()
	fresh := map[string]any{}
	for _, c := range cases {
		h := labtest.Host(t)
		apply(t, open(t, h), ruleset.Build("ftpgate", c.Forwards))
		fresh[c.Name] = list(t, h)
	}
	for _, from := range cases {
		for _, to := range cases {
			t.Run(from.Name+" to "+to.Name, func(t *testing.T) {
				h := labtest.Host(t)
				c := open(t, h)
				apply(t, c, ruleset.Build("ftpgate", from.Forwards))
				apply(t, c, ruleset.Build("ftpgate", to.Forwards))
				if got, want := list(t, h), fresh[to.Name]; !reflect.DeepEqual(got, want) {
					t.Errorf("got\n%s", dump(t, h))
				}
			})
		}
	}
}

// A change costs what differs: the elements beside it keep their place, and nothing is sent
// where nothing differs.
func TestApplySmallChange(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c := open(t, h)
	forwards := rulesettest.Many(3)
	apply(t, c, ruleset.Build("ftpgate", forwards))
	before := handles(t, h)
	apply(t, c, ruleset.Build("ftpgate", forwards))
	forwards[1].Server4 = netip.MustParseAddr("203.0.113.99")
	apply(t, c, ruleset.Build("ftpgate", forwards))
	if got := dump(t, h); !strings.Contains(got, "10.0.0.2 . 2121 : 203.0.113.99 . 21") || strings.Contains(got, "10.128.0.2") {
		t.Errorf("got\n%s\nwant 10.0.0.2 to lead to 203.0.113.99", got)
	}
	if after := handles(t, h); !reflect.DeepEqual(after, before) {
		t.Errorf("got handles %v; want those from before, %v: the table was built anew", after, before)
	}
}

// Somebody has emptied a set by hand: the change does not fit and the table is made whole.
func TestApplyRepairs(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c := open(t, h)
	apply(t, c, ruleset.Build("ftpgate", rulesettest.Many(3)))
	if _, err := h.Output(t.Context(), "nft", "flush", "map", "inet", "ftpgate", "control4"); err != nil {
		t.Fatal(err)
	}
	want := ruleset.Build("ftpgate", rulesettest.Many(2))
	apply(t, c, want)
	if got := elements(t, c, want); got != 2 {
		t.Errorf("got %d listen addresses; want 2", got)
	}
}

// Ten thousand forwards arrive complete, in one transaction.
func TestApplyTenThousand(t *testing.T) {
	h := labtest.Host(t)
	c := open(t, h)
	table := ruleset.Build("ftpgate", rulesettest.Many(10000))
	apply(t, c, table)
	if got := elements(t, c, table); got != 10000 {
		t.Errorf("got %d listen addresses in the kernel; want 10000", got)
	}
}

// Other tables are not touched, and an error leaves everything as it was.
func TestOwnTableOnly(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c := open(t, h)
	for _, cmd := range []string{"add table inet other", "add table ip ftpgate", "add table inet ftpgatekeeper"} {
		if _, err := h.Output(t.Context(), "nft", cmd); err != nil {
			t.Fatal(err)
		}
	}
	before := dump(t, h)
	table := ruleset.Build("ftpgate", rulesettest.Many(1))
	apply(t, c, table)
	for _, name := range []string{"other", "ftpgatekeeper"} {
		if err := c.Apply(table, name); err == nil {
			t.Errorf("sweep of table %s: got no error", name)
		}
		if err := c.Remove(name); err == nil {
			t.Errorf("remove of table %s: got no error", name)
		}
	}
	broken := table
	broken.Name = "ftpgate-broken"
	broken.Sets = slices.Clone(broken.Sets[1:]) // a rule's map is missing
	err := c.Apply(broken, "ftpgate")
	if err == nil || !strings.Contains(err.Error(), `add rule "dnat ip to ip daddr . tcp dport map @control4" to chain prerouting: no such file or directory`) {
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
	if after := dump(t, h); after != before {
		t.Errorf("got\n%s\nwant what was there before\n%s", after, before)
	}
}

func TestSweep(t *testing.T) {
	h := labtest.Host(t)
	c := open(t, h)
	for _, name := range []string{"ftpgate", "ftpgate-192.168.5.2-2121"} {
		apply(t, open(t, h), ruleset.Build(name, rulesettest.Many(1)))
	}
	if err := c.Apply(ruleset.Build("ftpgate", rulesettest.Many(2)), "ftpgate-192.168.5.2-2121", "ftpgate-gone"); err != nil {
		t.Fatal(err)
	}
	got, err := c.Tables()
	if err != nil || !slices.Equal(got, []string{"ftpgate"}) {
		t.Errorf("got tables %q, error %v; want ftpgate alone", got, err)
	}
}

func TestListens(t *testing.T) {
	h := labtest.Host(t)
	c := open(t, h)
	forwards := rulesettest.Cases()[6].Forwards
	apply(t, c, ruleset.Build("ftpgate", forwards))
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
	c := open(t, h)
	if err := c.Probe(ruleset.Build("ftpgate", rulesettest.Cases()[6].Forwards)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Tables(); err != nil || len(got) > 0 {
		t.Errorf("got tables %q, error %v; want none", got, err)
	}
}

func TestRefusingForwardChains(t *testing.T) {
	labtest.Need(t, "nft")
	tests := []struct {
		name, rules string
		want        []nft.ForwardChain
	}{
		{"policy drop", "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }",
			[]nft.ForwardChain{{"ip", "filter", "FORWARD", ""}}},
		{"docker", "table ip filter { chain DOCKER-USER { }; chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }; }",
			[]nft.ForwardChain{{"ip", "filter", "FORWARD", "docker"}}},
		{"ufw", "table ip filter { chain ufw-reject-forward { }; chain FORWARD { type filter hook forward priority 0; policy drop; }; }",
			[]nft.ForwardChain{{"ip", "filter", "FORWARD", "ufw"}}},
		{"reject at the end", "table inet fw { chain f { type filter hook forward priority 10; ct state established accept; counter reject; }; }",
			[]nft.ForwardChain{{"inet", "fw", "f", ""}}},
		{"firewalld accepts what is translated", "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; ct status dnat accept; reject; }; }", nil},
		{"accepts before", "table inet fw { chain f { type filter hook forward priority 0; policy drop; accept; }; }", nil},
		{"conditional drop", "table inet fw { chain f { type filter hook forward priority 0; ip saddr 10.0.0.1 drop; }; }", nil},
		{"input is not forward", "table inet fw { chain i { type filter hook input priority 0; policy drop; }; }", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := labtest.Host(t)
			if out, err := h.Output(t.Context(), "nft", tt.rules); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got, err := open(t, h).RefusingForwardChains()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
}

func BenchmarkApply10000(b *testing.B) {
	labtest.New(b) // says why where the kernel refuses
	c := openHere(b)
	table := ruleset.Build("ftpgate", rulesettest.Many(10000))
	for b.Loop() {
		if err := c.Apply(table, "ftpgate"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChangeOneOf10000(b *testing.B) {
	labtest.New(b)
	c := openHere(b)
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

func openHere(b *testing.B) *nft.Conn {
	c, err := nft.Open()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

func open(t *testing.T, h *lab.Host) *nft.Conn {
	t.Helper()
	var c *nft.Conn
	if err := h.Do(func() (err error) { c, err = nft.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func apply(t *testing.T, c *nft.Conn, table ruleset.Table) {
	t.Helper()
	if err := c.Apply(table); err != nil {
		t.Fatal(err)
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

func dump(t *testing.T, h *lab.Host) string {
	t.Helper()
	out, err := h.Output(t.Context(), "nft", "list", "ruleset")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// list returns nft's view of the whole ruleset without handles, which count what came before;
// the order of sets is the order in which they were made and has no meaning.
func list(t *testing.T, h *lab.Host) []any {
	t.Helper()
	objects := listJSON(t, h)
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
	rules := slices.DeleteFunc(slices.Clone(objects), func(o any) bool { return o.(map[string]any)["rule"] == nil })
	rest := slices.DeleteFunc(objects, func(o any) bool { return o.(map[string]any)["rule"] != nil })
	slices.SortFunc(rest, func(a, b any) int { return strings.Compare(key(a), key(b)) })
	// Within a chain the order of rules counts; the order of chains does not.
	slices.SortStableFunc(rules, func(a, b any) int { return strings.Compare(chainOf(a), chainOf(b)) })
	return append(rest, rules...)
}

func chainOf(o any) string {
	return o.(map[string]any)["rule"].(map[string]any)["chain"].(string)
}

func listJSON(t *testing.T, h *lab.Host) []any {
	t.Helper()
	out, err := h.Output(t.Context(), "nft", "-j", "list", "ruleset")
	if err != nil {
		t.Fatal(err)
	}
	var ruleset struct{ Nftables []any }
	if err := json.Unmarshal(out, &ruleset); err != nil {
		t.Fatal(err)
	}
	return ruleset.Nftables
}

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

// handles returns the handles of table, sets, chains and rules.
func handles(t *testing.T, h *lab.Host) []float64 {
	t.Helper()
	var all []float64
	for _, o := range listJSON(t, h) {
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
