package nftables

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/importer/rule"
)

const table = `table ip t {
	ct helper ftp { type "ftp" protocol tcp; }
	set s { type ipv4_addr; elements = { 10.0.0.1, 10.0.0.2 comment "x" }; }
	map m { type inet_service : ipv4_addr . inet_service; elements = { 21 : 10.0.0.5 . 2121 }; }
	chain c {
		type nat hook prerouting priority dstnat - 5; policy drop;
		%s # handle 9
	}
}`

// one returns the rules that a statement becomes.
func one(t *testing.T, statement string) []rule.Rule {
	t.Helper()
	s := Parse(fmt.Sprintf(table, statement))
	if len(s.Notes) > 0 {
		t.Fatalf("%s: got notes %+v", statement, s.Notes)
	}
	c, ok := s.Base(rule.ChainKey{Family: "ip", Table: "t", Chain: "c"})
	if !ok || c.Hook != rule.Prerouting || c.Priority != -105 || c.Policy != rule.Drop || c.Type != "nat" {
		t.Fatalf("got the chain %+v", c)
	}
	return s.Rules
}

var actions = map[rule.Action]string{rule.Accept: "accept", rule.Drop: "drop", rule.Jump: "jump",
	rule.DNAT:     "dnat",
	rule.Redirect: "redirect", rule.Masquerade: "masquerade", rule.Helper: "helper"}

func TestStatements(t *testing.T) {
	t.Parallel()
	for statement, want := range map[string]string{
		`iifname "lan0" tcp dport 21 dnat to 10.0.0.5:2121`: "lan0 tcp [] [{21 21}] dnat 10.0.0.5 2121",
		`ip saddr @s tcp dport { 20-21, 2121 } counter redirect to :21`: "tcp [10.0.0.1/32 10.0.0.2/32] " +
			"[{20 21} {2121 2121}] redirect none 21",
		`dnat ip to tcp dport map @m`: "tcp [] [{21 21}] dnat 10.0.0.5 2121 nft delete element ip t m { 21 " +
			"}",
		`dnat to tcp dport map { 21 : 10.0.0.5 . 2121 }`:              "tcp [] [{21 21}] dnat 10.0.0.5 2121",
		`ct state new tcp dport 21 ct helper set "ftp"`:               "tcp [] [{21 21}] helper none 0",
		`meta l4proto { tcp, udp } th dport 21 log accept`:            "tcp [] [{21 21}] accept none 0",
		`oifname "wan0" masquerade random`:                            " [] [] masquerade none 0",
		`tcp dport vmap { 21 : jump other }`:                          "tcp [] [{21 21}] jump none 0",
		`ip daddr . tcp dport { 1.1.1.1 . 21 } dnat to 10.0.0.5:2121`: "tcp [] [{21 21}] dnat 10.0.0.5 2121",
		`fib daddr type local tcp dport 21 dnat to 10.0.0.5 : 2121`:   "tcp [] [{21 21}] dnat 10.0.0.5 2121",
		`tcp flags syn / fin,syn,rst,ack limit rate 5/minute drop`:    "tcp [] [] drop none 0",
	} {
		all := one(t, statement)
		if len(all) != 1 {
			t.Errorf("%s: got %d rules; want one", statement, len(all))
			continue
		}
		r := all[0]
		to := "none"
		if r.To.First.IsValid() {
			to = r.To.First.String()
		}
		got := strings.TrimPrefix(fmt.Sprintf("%s %s %v %v %s %s %d %s", r.Match.In.Name, r.Match.Protocol,
			r.Match.Source.Prefixes, r.Match.Ports.Ranges, actions[r.Action], to, r.To.Ports.First,
			strings.Join(r.Deletion, ";")), " ")
		if strings.TrimSpace(strings.TrimSuffix(got,
			" nft delete rule ip t c handle 9")) != strings.TrimSpace(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", statement, got, want)
		}
	}
}

// A condition without a meaning here stays, in the rule's own words.
func TestOtherConditions(t *testing.T) {
	t.Parallel()
	for statement, want := range map[string]string{
		`meta mark 0x1 tcp dport 21 accept`:     "meta mark 0x1",
		`ip saddr @unknown tcp dport 21 accept`: "ip saddr @unknown",
		`ether saddr 00:11:22:33:44:55 accept`:  "ether saddr 00:11:22:33:44:55",
		`iifname { "a", "b" } accept`:           "iifname { a , b }",
		`limit rate over 5/minute accept`:       "limit rate over 5/minute",
	} {
		if r := one(t, statement)[0]; !slices.Equal(r.Match.Others, []string{want}) ||
			r.Action != rule.Accept {
			t.Errorf("%s: got %q, action %d; want %q", statement, r.Match.Others, r.Action, want)
		}
	}
}

func TestUnread(t *testing.T) {
	t.Parallel()
	for statement, want := range map[string]string{
		`tcp dport 21 dnat to 10.0.0.5.6`:               "no destination",
		`tcp dport 210000 accept`:                       "no port",
		`ct helper set "sip"`:                           "not declared",
		`dnat to numgen inc mod 2 map { 0 : 10.0.0.5 }`: "no destination",
		`tcp dport 21 xt target "DNAT"`:                 "iptables-save",
		`dnat to tcp dport map @unknown`:                "no elements",
		`ip saddr 10.0.0.300 accept`:                    "no address",
	} {
		s := Parse(fmt.Sprintf(table, statement))
		if len(s.Rules) != 0 || len(s.Notes) != 1 || s.Notes[0].Line != 7 || s.Notes[0].Text != statement ||
			!strings.Contains(s.Notes[0].Reason, want) {
			t.Errorf("%s: got rules %+v, notes %+v; want a note with %q", statement, s.Rules, s.Notes, want)
		}
	}
}

func TestJSONErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"nftables": [{"rule": 5}]}`: "rule: json", `{}`: `no "nftables"`,
		`{"nftables": [`: "unexpected end",
		`{"nftables": [{"chain": {"prio": "x"}}]}`: "chain: json",
	} {
		if _, err := ParseJSON(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v; want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fmt.Sprintf(table, `iifname "lan0" tcp dport { 21, 2121 } dnat to 10.0.0.5:21`))
	f.Add("define A = { 1, $A }\nadd rule ip t c tcp dport $A vmap { 21 : jump x }")
	f.Add("table inet t { chain c { type filter hook input priority 0 + 5; } } }")
	f.Fuzz(func(t *testing.T, text string) {
		s := Parse(text)
		lines := strings.Count(text, "\n") + 1
		for _, n := range s.Notes {
			if n.Line < 1 || n.Line > lines {
				t.Errorf("a note about line %d of %d", n.Line, lines)
			}
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	f.Add(`{"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c", "type": "nat",
		"hook": "prerouting", "prio": -100, "policy": "accept"}}, {"rule": {"family": "ip", "table": "t",
		"chain": "c", "handle": 4, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "tcp",
		"field": "dport"}}, "right": {"set": [21, {"range": [2121, 2122]}]}}},
		{"dnat": {"addr": "10.0.0.5", "port": 21}}]}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseJSON(text); (s == nil) == (err == nil) {
			t.Errorf("got %v, error %v; want one of them", s, err)
		}
	})
}
