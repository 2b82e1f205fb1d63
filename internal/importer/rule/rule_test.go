package rule

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func prefixes(s string) (all []netip.Prefix) {
	for _, p := range strings.Fields(s) {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func TestExcept(t *testing.T) {
	t.Parallel()
	for without, want := range map[string]string{
		"128.0.0.0/1":             "0.0.0.0/1",
		"0.0.0.0/1 128.0.0.0/2":   "192.0.0.0/2",
		"0.0.0.0/0":               "",
		"8000::/1":                "::/1",
		"128.0.0.0/1 8000::/1":    "0.0.0.0/1 ::/1",
		"10.0.0.0/30 10.0.0.0/29": strings.TrimSpace(text(Except(prefixes("10.0.0.0/29")...))),
	} {
		if got := text(Except(prefixes(without)...)); got != want {
			t.Errorf("without %s: got %q; want %q", without, got, want)
		}
	}
	ten := Except(prefixes("10.0.0.0/8")...)
	for addr, want := range map[string]bool{"10.1.2.3": false, "9.255.255.255": true, "11.0.0.0": true} {
		if got := ten.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s outside of 10.0.0.0/8: got %t; want %t", addr, got, want)
		}
	}
}

func text(a Addresses) string {
	var all []string
	for _, p := range a.Prefixes {
		all = append(all, p.String())
	}
	return strings.Join(all, " ")
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for span, want := range map[string]string{
		"10.0.0.10-10.0.0.13":     "10.0.0.10/31 10.0.0.12/31",
		"0.0.0.0-255.255.255.255": "0.0.0.0/0",
		"10.0.0.1-10.0.0.1":       "10.0.0.1/32",
		"2001:db8::-2001:db8::7":  "2001:db8::/125",
		"10.0.0.2-10.0.0.1":       "no",
		"10.0.0.2-2001:db8::":     "no",
	} {
		first, last, _ := strings.Cut(span, "-")
		got, err := Span(netip.MustParseAddr(first), netip.MustParseAddr(last))
		if s := text(Only(got...)); err == nil && s != want || (err != nil) != (want == "no") {
			t.Errorf("%s: got %q, error %v; want %q", span, s, err, want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"10.0.0.1":                     "10.0.0.1 10.0.0.1 0-0",
		"10.0.0.1:21":                  "10.0.0.1 10.0.0.1 21-21",
		"10.0.0.1-10.0.0.9:2000-2100":  "10.0.0.1 10.0.0.9 2000-2100",
		"10.0.0.1:2000-2100/3000":      "10.0.0.1 10.0.0.1 2000-2100",
		"[2001:db8::1]:21":             "2001:db8::1 2001:db8::1 21-21",
		"[2001:db8::1-2001:db8::2]:21": "2001:db8::1 2001:db8::2 21-21",
		"2001:db8::1":                  "2001:db8::1 2001:db8::1 0-0",
		":2121":                        "invalid IP invalid IP 2121-2121",
		"[2001:db8::1":                 "no",
		"10.0.0.1:0":                   "no",
		"10.0.0.1:21x":                 "no",
		"host:21":                      "no",
	} {
		e, err := ParseEndpoint(s)
		got := fmt.Sprintf("%v %v %d-%d", e.First, e.Last, e.Ports.First, e.Ports.Last)
		if err == nil && got != want || (err != nil) != (want == "no") {
			t.Errorf("%s: got %q, error %v; want %q", s, got, err, want)
		}
	}
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"10.0.0.0/255.0.0.0": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "192.0.2.1": "192.0.2.1/32",
		"10.0.0.0/255.0.255.0": "no", "10.0.0.0/33": "no", "a.example": "no", "0.0.0.0/0.0.0.0": "0.0.0.0/0",
	} {
		got, err := ParsePrefixes(s)
		if got := text(Only(got...)); err == nil && got != want || (err != nil) != (want == "no") {
			t.Errorf("%s: got %q, error %v; want %q", s, got, err, want)
		}
	}
}

func TestInterfaces(t *testing.T) {
	t.Parallel()
	any, eth0, eth, notEth0, lan0 := Interfaces{}, Interfaces{Name: "eth0"}, Interfaces{Name: "eth*"},
		Interfaces{Name: "eth0", Not: true}, Interfaces{Name: "lan0"}
	for _, tt := range []struct {
		a, b, want Interfaces
		never      bool
	}{
		{a: any, b: eth0, want: eth0},
		{a: eth0, b: any, want: eth0},
		{a: eth, b: eth0, want: eth0},
		{a: eth0, b: eth, want: eth0},
		{a: eth0, b: lan0, never: true},
		{a: notEth0, b: eth0, never: true},
		{a: notEth0, b: lan0, want: lan0},
		{a: lan0, b: notEth0, want: lan0},
	} {
		got := Match{In: tt.a}.And(Match{In: tt.b})
		if got.Never() != tt.never || !tt.never && got.In != tt.want {
			t.Errorf("%v and %v: got %v, never %t; want %v, %t", tt.a, tt.b, got.In, got.Never(), tt.want,
				tt.never)
		}
		if covers := (Match{In: tt.a}).Covers(got); !tt.never && !covers {
			t.Errorf("%v does not cover %v", tt.a, got.In)
		}
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	rest := ExceptPorts(PortRange{21, 21}, PortRange{1024, 65535})
	if want := []PortRange{{1, 20}, {22, 1023}}; !slices.Equal(rest.Ranges, want) {
		t.Errorf("got %v; want %v", rest.Ranges, want)
	}
	m := Match{Protocol: "tcp", Ports: OnlyPorts(PortRange{20, 21})}
	if !(Match{}).Covers(m) || !(Match{Ports: OnlyPorts(PortRange{1, 100})}).Covers(m) ||
		(Match{Ports: OnlyPorts(PortRange{21, 100})}).Covers(m) || (Match{Others: []string{"x"}}).Covers(m) ||
		(Match{Protocol: "udp"}).Covers(m) || !m.And(Match{Protocol: "udp"}).Never() {
		t.Error("Covers and And do not follow the ports and the protocol")
	}
}

// Jumps lead to a rule with the conditions of each of them, and a loop ends.
func TestPaths(t *testing.T) {
	t.Parallel()
	chain := func(name string) ChainKey { return ChainKey{"ip", "nat", name} }
	s := &Set{
		Chains: []Chain{{ChainKey: chain("PREROUTING"), Hook: Prerouting}, {ChainKey: chain("a")},
			{ChainKey: chain("unused")}},
		Rules: []Rule{
			{Chain: chain("PREROUTING"), Match: Match{Protocol: "tcp"}, Action: Jump, Target: "a"},
			{Chain: chain("a"), Match: Match{Ports: OnlyPorts(PortRange{21, 21})}, Action: DNAT},
			{Chain: chain("a"), Match: Match{Protocol: "udp"}, Action: DNAT},
			{Chain: chain("unused"), Action: DNAT},
		},
	}
	paths, note := s.Paths()
	if len(paths) != 1 || note != nil || paths[0].Path.Protocol != "tcp" ||
		!paths[0].Path.Ports.Contains(21) ||
		paths[0].Base.Hook != Prerouting {
		t.Errorf("got %+v, note %v; want one path, of tcp to port 21", paths, note)
	}
	s.Rules = append(s.Rules, Rule{Chain: chain("a"), Action: Jump, Target: "a"},
		Rule{Chain: chain("a"), Action: Jump, Target: "a"})
	if _, note := s.Paths(); note == nil {
		t.Error("a loop of jumps: got no note")
	}
}
