package firewall

import (
	"fmt"
	"strings"
	"testing"

	"ftpgate/internal/importer/rule"
)

// The four programs' words for the same: port 2121 of eth0 leads to port 21 of a server, for one network.
func TestSameForward(t *testing.T) {
	t.Parallel()
	zone := func(text string) *rule.Set {
		s, err := ParseZone(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, s := range map[string]*rule.Set{
		"zone file": zone(`<zone><rule><source address="192.0.2.0/24"/><forward-port port="2121" ` +
			`protocol="tcp" to-port="21" to-addr="10.0.0.5"/></rule><interface name="eth0"/></zone>`),
		"list-all": ParseFirewalld("public\n  interfaces: eth0\n  rich rules: \n\trule family=\"ipv4\" " +
			"source address=" +
			"\"192.0.2.0/24\" forward-port port=\"2121\" protocol=\"tcp\" to-port=\"21\" " +
			"to-addr=\"10.0.0.5\"\n"),
		"Shorewall": ParseShorewall("DNAT net:eth0:192.0.2.0/24 loc:10.0.0.5:21 tcp 2121"),
		"VyOS": ParseVyOS("set nat destination rule 1 inbound-interface name 'eth0'\n" +
			"set nat destination rule 1 protocol 'tcp'\nset nat destination rule 1 source address " +
			"192.0.2.0/24\n" +
			"set nat destination rule 1 destination port 2121\nset nat destination rule 1 translation " +
			"address 10.0.0.5\n" +
			"set nat destination rule 1 translation port 21\n"),
		"OpenWrt": ParseUCI("config zone\n\toption name 'wan'\n\toption device 'eth0'\nconfig " +
			"redirect\n\toption src 'wan'\n" +
			"\toption src_ip '192.0.2.0/24'\n\toption src_dport '2121'\n\toption dest_ip " +
			"'10.0.0.5'\n\toption dest_port 21\n" +
			"\tlist proto 'tcp'\n"),
	} {
		if len(s.Rules) != 1 || len(s.Notes) != 0 {
			t.Errorf("%s: got rules %+v, notes %+v; want one rule", name, s.Rules, s.Notes)
			continue
		}
		r := s.Rules[0]
		got := fmt.Sprint(r.Match.In.Name, r.Match.Protocol, r.Match.Source.Prefixes, r.Match.Ports.Ranges,
			r.To.First,
			r.To.Ports)
		if want := "eth0tcp[192.0.2.0/24] [{2121 2121}] 10.0.0.5 {21 21}"; got != want ||
			r.Action != rule.DNAT {
			t.Errorf("%s: got %s; want %s", name, got, want)
		}
	}
}

// What cannot be read is a note with its line.
func TestUnread(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*rule.Set{
		"Shorewall": ParseShorewall("\nDNAT net loc:10.0.0.5 tcp 21x"),
		"VyOS":      ParseVyOS("\nset nat destination rule 1 destination port '21x'"),
		"OpenWrt":   ParseUCI("\nconfig redirect\n\toption src_dport '21x'\n\toption dest_ip 10.0.0.5"),
		"firewalld": ParseFirewalld("\nfirewall-cmd --add-forward-port=port=21x:proto=tcp:toaddr=10.0.0.5"),
		"options":   ParseUCI("\noptional x"),
	} {
		if len(s.Rules) != 0 || len(s.Notes) != 1 || s.Notes[0].Line != 2 {
			t.Errorf("%s: got rules %+v, notes %+v; want one note about line 2", name, s.Rules, s.Notes)
		}
	}
	if _, err := ParseZone("<zone>\n<rule></zone>"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v; want an error with the line", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("public\n  forward-ports: port=21:proto=tcp:toport=21:toaddr=10.0.0.5\n")
	f.Add("FTP(DNAT) net loc:[2001:db8::5]:21 tcp 21 - !10.0.0.1")
	f.Add("set nat destination rule 1 exclude\nset nat destination rule 1 destination port '!21'")
	f.Add("config redirect x\n\toption src_dport " +
		"'21'\nfirewall.@redirect[0]=redirect\nfirewall.@redirect[0].src='wan'")
	f.Add("<zone><short>a</short><service name=\"ftp\"/></zone>")
	f.Fuzz(func(_ *testing.T, text string) {
		ParseFirewalld(text)
		ParseShorewall(text)
		ParseVyOS(text)
		ParseUCI(text)
		_, _ = ParseZone(text) // text that is not XML is an error
	})
}
