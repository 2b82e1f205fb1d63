package firewall

import (
	"net/netip"
	"regexp"
	"strings"

	"ftpgate/internal/importer/rule"
)

// ShorewallLine finds a line of Shorewall's files rules, conntrack or snat that is about FTP or a
// translation.
var ShorewallLine = regexp.MustCompile(`(?m)^\s*(?:(?:DNAT-?|REDIRECT-?)(?::\S+)?|FTP[(/]\w+-?\)?(?::\S+)?|` +
	`CT:helper:\S+|MASQUERADE|SNAT\(\S+\))[ \t]+\S`)

var (
	shorewallMacro  = regexp.MustCompile(`^(\w+)[(/](\w+-?)\)?(?::\S+)?$`)
	shorewallHelper = regexp.MustCompile(`^CT:helper:(\w+)`)
)

// ParseShorewall reads lines of Shorewall's files.
func ParseShorewall(text string) *rule.Set {
	s := newSet("Shorewall", "shorewall check && shorewall reload")
	for i, line := range strings.Split(text, "\n") {
		content, _, _ := strings.Cut(line, "#")
		columns := strings.Fields(content)
		if len(columns) < 2 {
			continue
		}
		for len(columns) < 7 {
			columns = append(columns, "-")
		}
		shorewallRule(s, rule.Place{Line: i + 1, Text: strings.TrimSpace(content)}, columns)
	}
	return s
}

// shorewallRule reads a line: ACTION SOURCE DEST PROTO DPORT SPORT ORIGDEST.
func shorewallRule(s *rule.Set, p rule.Place, columns []string) {
	for i, c := range columns {
		if c == "-" {
			columns[i] = ""
		}
	}
	action, protocol, ports := columns[0], columns[3], columns[4]
	if m := shorewallMacro.FindStringSubmatch(action); m != nil && m[1] == "FTP" {
		action, protocol = m[2], "tcp"
		if ports == "" {
			ports = "21"
		}
		if strings.HasPrefix(action, "DNAT") { // the macro attaches the helper, too
			addHelper(s, p, rule.Interfaces{}, ports, removeLine(p, "/etc/shorewall/rules"))
		}
	} else {
		action, _, _ = strings.Cut(action, ":")
	}
	if m := shorewallHelper.FindStringSubmatch(columns[0]); m != nil {
		if m[1] == "ftp" {
			addHelper(s, p, rule.Interfaces{}, ports, removeLine(p, "/etc/shorewall/conntrack"))
		}
		return
	}
	f := forwarded{place: p, protocol: protocol, ports: ports, at: columns[6],
		deletion: []string{removeLine(p, "/etc/shorewall/rules")}, gateway: true}
	zone, hosts, _ := strings.Cut(columns[1], ":")
	if zone != "all" && zone != "any" && zone != "" {
		f.in = rule.Zone(zone)
	}
	f.clients = hosts
	if name, rest, _ := strings.Cut(hosts, ":"); name != "" && !strings.HasPrefix(hosts, "[") &&
		!isAddresses(name) {
		f.in, f.clients = rule.Interfaces{Name: name}, rest
	}
	switch strings.TrimSuffix(action, "-") {
	case "DNAT":
		_, to, _ := strings.Cut(columns[2], ":")
		f.toAddress, f.toPorts = shorewallServer(to)
		f.add(s)
	case "REDIRECT":
		f.gateway = columns[6] != ""
		f.toPorts = columns[2]
		f.add(s)
	case "MASQUERADE":
		addMasquerade(s, p, columns[1], "")
	}
	if strings.HasPrefix(action, "SNAT(") {
		addMasquerade(s, p, columns[1], "")
	}
}

// isAddresses reports whether a word is a list of addresses, and no interface.
func isAddresses(s string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(s, "!"), ",")
	first, _, _ = strings.Cut(first, "/")
	first, _, _ = strings.Cut(first, "-")
	_, err := netip.ParseAddr(first)
	return err == nil
}

// shorewallServer splits "10.0.0.5:21" and "[2001:db8::5]:21".
func shorewallServer(s string) (address, port string) {
	if inside, ok := strings.CutPrefix(s, "["); ok {
		address, port, _ = strings.Cut(inside, "]")
		return address, strings.TrimPrefix(port, ":")
	}
	address, port, _ = strings.Cut(s, ":")
	return address, port
}
