package ruleset_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestTextGolden(t *testing.T) {
	for _, c := range rulesettest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			got := c.Table().Text()
			file := filepath.Join("testdata", c.Name+".nft")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// A forward leads to the server's address of the client's family. A family without an address is not
// published.
func TestBuildFamilies(t *testing.T) {
	f := rulesettest.Forward("main", ":2121", "ftp.example.com", forward.TrackingKernel)
	f.Server6 = netip.MustParseAddr("2001:db8::21")
	text := ruleset.Build("ftpgate", []forward.Resolved{f}).Text()
	if strings.Contains(text, "control4") || !strings.Contains(text, "control6_any") {
		t.Errorf("got\n%s\nwant only IPv6 published", text)
	}
}

// Forwards may share a server and its passive ports. Interval sets refuse overlaps.
func TestBuildMergesOverlaps(t *testing.T) {
	a := rulesettest.Forward("a", ":2121", "203.0.113.21", forward.TrackingNone)
	a.Listen.Interface, a.ServerPorts = "lan0", forward.PortRange{First: 50000, Last: 50100}
	b := a
	b.Name, b.Listen.Interface, b.ServerPorts = "b", "lan1", forward.PortRange{First: 50050, Last: 50200}
	c := a
	c.Name, c.Listen.Interface, c.ServerPorts = "c", "lan2", forward.PortRange{First: 60000, Last: 65535}
	table := ruleset.Build("ftpgate", []forward.Resolved{c, b, a})
	i := slices.IndexFunc(table.Sets, func(s ruleset.Set) bool { return s.Name == "masquerade4_any_ports" })
	if i < 0 {
		t.Fatal("got no set masquerade4_any_ports")
	}
	var got []string
	for _, e := range table.Sets[i].Elements {
		got = append(got, table.Sets[i].ElementText(e))
	}
	want := []string{"203.0.113.21 . 50000-50200", "203.0.113.21 . 60000-65535"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}

// A table is empty if no forward needs the kernel.
func TestEmpty(t *testing.T) {
	for _, c := range rulesettest.Cases() {
		want := c.Name == "empty" || c.Name == "relay"
		if got := c.Table().Empty(); got != want {
			t.Errorf("%s: got %t; want %t", c.Name, got, want)
		}
	}
}

// The order of the forwards makes no difference.
func TestBuildIsOrderless(t *testing.T) {
	forwards := rulesettest.Cases()[6].Forwards
	want := ruleset.Build("ftpgate", forwards).Text()
	slices.Reverse(forwards)
	if got := ruleset.Build("ftpgate", forwards).Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Ten thousand forwards are elements. They have as many rules as one forward.
func TestRulesDoNotGrow(t *testing.T) {
	one := ruleset.Build("ftpgate", rulesettest.Many(1))
	many := ruleset.Build("ftpgate", rulesettest.Many(10000))
	for i, c := range one.Chains {
		if got, want := len(many.Chains[i].Rules), len(c.Rules); got != want {
			t.Errorf("chain %s: got %d rules; want %d", c.Name, got, want)
		}
	}
	elements := 0
	for _, s := range many.Sets {
		elements += len(s.Elements)
	}
	if got, want := elements, 10000*5; got != want {
		t.Errorf("got %d elements; want %d", got, want)
	}
}

func BenchmarkBuild10000(b *testing.B) {
	forwards := rulesettest.Many(10000)
	b.ReportAllocs()
	for b.Loop() {
		ruleset.Build("ftpgate", forwards)
	}
}
