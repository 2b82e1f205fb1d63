package nft_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/try/lab/labtest"
)

// The kernel lists every table as it was installed: Compare finds no difference, or it would be repaired for
// ever.
func TestCompareSame(t *testing.T) {
	c := nfttest.Open(t, labtest.Host(t))
	for _, test := range rulesettest.Cases() {
		table := test.Table()
		if table.Empty() {
			continue
		}
		nfttest.Apply(t, c, table)
		if got, err := c.Compare(table); err != nil || len(got) > 0 {
			t.Errorf("%s: got differences %q, error %v; want none", test.Name, got, err)
		}
	}
}

// What another program does to a table is found, and repaired: nft(8) lists the same as before, and pinholes
// stay where their map does.
func TestRepair(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	table := ruleset.Build("ftpgate", rulesettest.Cases()[8].Forwards)
	nfttest.Apply(t, c, table)
	const pinhole = `{ 192.168.5.1 . 192.168.5.2 . 50000 : 203.0.113.21 . 40000 }`
	want := normalized(t, h)
	nfttest.Run(t, h, "add element inet ftpgate pinhole4 "+pinhole)
	for _, test := range []struct {
		command     string
		differences []string
		replaced    bool
	}{
		{command: "list ruleset"},
		{"flush ruleset", []string{"missing table inet ftpgate"}, true},
		{"delete table inet ftpgate", []string{"missing table inet ftpgate"}, true},
		{"delete element inet ftpgate control4 { 192.168.5.2 . 2122 }",
			[]string{"missing element 192.168.5.2 . 2122 : 203.0.113.7 . 21 of map control4"}, false},
		{"flush map inet ftpgate control4; flush set inet ftpgate helper4",
			[]string{"missing 2 elements of map control4",
				"missing element 192.168.5.2 . 2122 of set helper4"}, false},
		{"add element inet ftpgate control4 { 192.168.5.2 . 22 : 203.0.113.7 . 22 }",
			[]string{"added elements of map control4"}, true},
		{"flush chain inet ftpgate forward",
			[]string{`missing rule "tcp flags fin,syn,rst ct packets != 1 ct status dnat ` +
				`ct original proto-dst >= 1024 log group 38770" of chain forward`}, false},
		{"flush chain inet ftpgate forward; delete chain inet ftpgate forward",
			[]string{"missing chain forward"}, false},
		{"flush chain inet ftpgate helper; delete chain inet ftpgate helper; " +
			"delete ct helper inet ftpgate ftp", []string{"missing ct helper ftp", "missing chain helper"},
			false},
		{"add rule inet ftpgate forward drop", []string{"added rules of chain forward"}, true},
		{"add chain inet ftpgate more; add set inet ftpgate much { type ipv4_addr; }",
			[]string{"added chain more", "added set much"}, true},
		{"delete table inet ftpgate; add table inet ftpgate; add chain inet ftpgate prerouting; " +
			"add map inet ftpgate pinhole4 { type ipv4_addr : ipv4_addr; }", nil, true},
	} {
		nfttest.Run(t, h, test.command)
		got, _, err := c.Repair(table)
		if err != nil || test.differences != nil && !reflect.DeepEqual(got, test.differences) {
			t.Errorf("%s: got differences %q, error %v; want %q", test.command, got, err, test.differences)
		}
		if strings.Contains(nfttest.List(t, h), "192.168.5.1 . 192.168.5.2 . 50000") == test.replaced {
			t.Errorf("%s: got the table replaced %t; want %t", test.command, !test.replaced, test.replaced)
		}
		nfttest.Run(t, h, "flush map inet ftpgate pinhole4")
		if got := normalized(t, h); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%s", test.command, nfttest.List(t, h))
		}
		nfttest.Run(t, h, "add element inet ftpgate pinhole4 "+pinhole)
	}
}

// The table that keeps connections translated survives what removes all others, belongs to no other program,
// and ends with the connection.
func TestKeepNAT(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	c, other := nfttest.Open(t, h), nfttest.Open(t, h)
	c.KeepNAT = true
	table := ruleset.Build("ftpgate", rulesettest.Many(1))
	nfttest.Apply(t, c, table)
	nfttest.Run(t, h, "flush ruleset")
	if got := nfttest.List(t, h); strings.Count(got, "table") != 1 || !strings.Contains(got,
		"ct status dnat") {
		t.Errorf("got after flush ruleset\n%s\nwant the table that keeps NAT alone", got)
	}
	if _, err := h.Output(t.Context(), "nft", "delete table inet keep-nat-ftpgate"); err == nil {
		t.Error("nft(8) could delete the table that keeps NAT")
	}
	if _, _, err := c.Repair(table); err != nil {
		t.Fatal(err)
	}
	if got, err := other.Tables(); err != nil || !slices.Equal(got, []string{"ftpgate"}) {
		t.Errorf("got tables %q, error %v; want ftpgate alone", got, err)
	}
	if err := c.Remove("ftpgate"); err != nil || nfttest.List(t, h) != "" {
		t.Errorf("got after Remove\n%s\nerror %v; want nothing", nfttest.List(t, h), err)
	}
	nfttest.Apply(t, c, table)
	c.Close()
	if got := nfttest.List(t, h); strings.Contains(got, "keep-nat-ftpgate") {
		t.Errorf("got after Close\n%s", got)
	}
}
