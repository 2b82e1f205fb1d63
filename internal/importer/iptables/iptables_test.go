package iptables

import (
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/importer/rule"
)

// A script changes its chains as the kernel would: insertions, deletions by words and by number, flushes.
func TestChanges(t *testing.T) {
	t.Parallel()
	s := Parse(`
		iptables -t nat -A PREROUTING -p tcp --dport 1 -j ACCEPT
		iptables -t nat -A PREROUTING -p tcp --dport 2 -j ACCEPT
		iptables -t nat -I PREROUTING -p tcp --dport 3 -j ACCEPT
		iptables -t nat -I PREROUTING 2 -p tcp --dport 4 -j ACCEPT
		iptables -t nat -D PREROUTING -p tcp --dport 1 -j ACCEPT
		iptables -t nat -D PREROUTING 1
		iptables -t nat -R PREROUTING 2 -p tcp --dport 5 -j ACCEPT
		iptables -A INPUT -p tcp --dport 6 -j ACCEPT
		iptables -F INPUT
		sudo /sbin/ip6tables -w 5 -A INPUT -p tcp --dport=7 -j ACCEPT && true
		ip netns exec gateway iptables -P FORWARD DROP`)
	var got []uint16
	for _, r := range s.Rules {
		got = append(got, r.Match.Ports.Ranges[0].First)
	}
	if want := []uint16{4, 5, 7}; !slices.Equal(got, want) || len(s.Notes) > 0 {
		t.Errorf("got the ports %v, notes %v; want %v", got, s.Notes, want)
	}
	i := slices.IndexFunc(s.Chains, func(c rule.Chain) bool { return c.Chain == "FORWARD" })
	if i < 0 || s.Chains[i].Policy != rule.Drop {
		t.Errorf("got the chains %v; want FORWARD with the policy DROP", s.Chains)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	got, err := splitWords(`-A X -m comment --comment "a \"b\" \\ c" --to \ x ""`)
	want := []string{"-A", "X", "-m", "comment", "--comment", `a "b" \ c`, "--to", " x", ""}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, error %v; want %q", got, err, want)
	}
	if got := quoteAll([]string{"a", "b c", "it's", ""}); got != `a 'b c' 'it'\''s' ''` {
		t.Errorf("got %s", got)
	}
}

// What cannot be read is a note with its line, and no rule.
func TestUnread(t *testing.T) {
	t.Parallel()
	const nat = "iptables -t nat -A PREROUTING "
	for line, reason := range map[string]string{
		nat + "-p tcp --dport $PORT -j DNAT --to-destination 10.0.0.1": "$PORT is not known",
		nat + "-i `wan` -j DNAT --to-destination 10.0.0.1":             "only a shell",
		nat + "-i ${WAN:-eth0} -j DNAT --to-destination 10.0.0.1":      "only a shell",
		nat + "-j DNAT":                 "needs a destination",
		nat + "-j":                      "-j needs a value",
		"iptables -t nat -A":            "-A needs a chain",
		nat + "--dport 21:20 -j ACCEPT": "no range of ports",
		nat + "--dport 21 -j DNAT --to-destination 'a": "by itself",
		"iptables PREROUTING -j ACCEPT":                "an option should",
	} {
		s := Parse("# first\n" + line)
		if len(s.Rules) != 0 || len(s.Notes) != 1 || s.Notes[0].Line != 2 || s.Notes[0].Text != line ||
			!strings.Contains(s.Notes[0].Reason, reason) {
			t.Errorf("%s: got rules %v, notes %+v; want a note with %q", line, s.Rules, s.Notes, reason)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING ! -s 10.0.0.0/8 -p tcp -m tcp --dport 21 -j DNAT " +
		"--to-destination 10.0.0.1:21\nCOMMIT")
	f.Add("A='x y'\niptables $A -I INPUT 3 -j \"$A\"; ipset create a hash:net\nipset add a 10.0.0.0/8")
	f.Add("iptables -A INPUT -m set --match-set a src -s 10.0.0.1-10.0.0.9 --ctstate NEW")
	f.Fuzz(func(t *testing.T, text string) {
		s := Parse(text)
		lines := strings.Count(text, "\n") + 1
		for _, n := range s.Notes {
			if n.Line < 1 || n.Line > lines {
				t.Errorf("a note about line %d of %d", n.Line, lines)
			}
		}
		for _, r := range s.Rules {
			if len(r.Deletion) == 0 {
				t.Errorf("line %d has no deletion", r.Line)
			}
		}
	})
}
