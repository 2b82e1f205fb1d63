package firewall

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ftpgate/internal/importer/rule"
)

// section is a section of OpenWrt's /etc/config/firewall.
type section struct {
	kind    string
	name    string // as uci names it: "@redirect[0]"
	place   rule.Place
	options map[string][]string
}

// get returns an option, with white space between the values of a list.
func (s *section) get(name string) string { return strings.Join(s.options[name], " ") }

var (
	uciSection = regexp.MustCompile(`^\s*config\s+'?(\w+)'?(?:\s+['"]?([\w-]+)['"]?)?\s*$`)
	uciOption  = regexp.MustCompile(`^\s*(?:option|list)\s+['"]?(\w+)['"]?\s+['"]?(.*?)['"]?\s*$`)
	uciShow    = regexp.MustCompile(`^firewall\.(@\w+\[\d+\]|\w+)(?:\.(\w+))?=(.*)$`)
	uciQuoted  = regexp.MustCompile(`'([^']*)'`)
)

// ParseUCI reads /etc/config/firewall of OpenWrt, or what "uci show firewall" prints.
func ParseUCI(text string) *rule.Set {
	s := newSet("OpenWrt firewall", "uci commit firewall", "service firewall restart")
	var sections []*section
	counts := map[string]int{}
	byName := map[string]*section{}
	for i, line := range strings.Split(text, "\n") {
		p := rule.Place{Line: i + 1, Text: strings.TrimSpace(line)}
		if m := uciSection.FindStringSubmatch(line); m != nil {
			name := m[2]
			if name == "" {
				name = fmt.Sprintf("@%s[%d]", m[1], counts[m[1]])
			}
			counts[m[1]]++
			sections = append(sections, &section{m[1], name, p, map[string][]string{}})
		} else if m := uciOption.FindStringSubmatch(line); m != nil && len(sections) > 0 {
			o := sections[len(sections)-1].options
			o[m[1]] = append(o[m[1]], m[2])
		} else if m := uciShow.FindStringSubmatch(line); m != nil {
			switch of := byName[m[1]]; {
			case m[2] == "":
				byName[m[1]] = &section{strings.Trim(m[3], "'"), m[1], p, map[string][]string{}}
				sections = append(sections, byName[m[1]])
			case of != nil:
				of.options[m[2]] = uciValues(m[3])
			}
		} else if strings.HasPrefix(p.Text, "option") || strings.HasPrefix(p.Text, "config") {
			s.Unread(p, "OpenWrt has no such line")
		}
	}
	for _, of := range sections {
		of.add(s, sections)
	}
	return s
}

// uciValues reads the value that "uci show" prints: "'a' 'b'".
func uciValues(s string) []string {
	var values []string
	for _, m := range uciQuoted.FindAllStringSubmatch(s, -1) {
		values = append(values, m[1])
	}
	if values == nil {
		values = []string{s}
	}
	return values
}

// add adds what a section asks for.
func (s *section) add(set *rule.Set, all []*section) {
	if s.get("enabled") == "0" {
		return
	}
	deletion := "uci delete firewall." + s.name
	switch s.kind {
	case "redirect":
		if target := s.get("target"); target != "" && target != "DNAT" {
			return
		}
		f := forwarded{place: s.place, protocol: s.get("proto"), ports: s.get("src_dport"),
			at:      s.get("src_dip"),
			clients: s.get("src_ip"), toAddress: s.get("dest_ip"), toPorts: s.get("dest_port"),
			comment: s.get("name"), deletion: []string{deletion}, gateway: true}
		f.in = interfaceOf(s.get("src"), all)
		for _, condition := range []string{"src_mac", "src_port", "ipset", "extra", "limit", "start_time",
			"weekdays"} {
			if value := s.get(condition); value != "" {
				f.others = append(f.others, condition+" "+value)
			}
		}
		f.add(set)
	case "zone":
		in := interfaceOf(s.get("name"), all)
		if slices.Contains(s.options["helper"], "ftp") {
			addHelper(set, s.place, in, "21", fmt.Sprintf("uci del_list firewall.%s.helper=ftp", s.name))
		}
		if s.get("masq") == "1" {
			addMasquerade(set, s.place, s.get("masq_src"), "")
		}
	case "rule":
		if s.get("target") == "HELPER" && s.get("set_helper") == "ftp" {
			in := interfaceOf(s.get("src"), all)
			addHelper(set, s.place, in, s.get("dest_port"), deletion)
		}
	}
}

// interfaceOf returns the interface of a zone if the text names one.
func interfaceOf(zone string, all []*section) rule.Interfaces {
	for _, s := range all {
		if devices := s.options["device"]; s.kind == "zone" && s.get("name") == zone && len(devices) == 1 &&
			!strings.Contains(devices[0], " ") {
			return rule.Interfaces{Name: strings.Replace(devices[0], "+", "*", 1)}
		}
	}
	if zone == "" || zone == "*" {
		return rule.Interfaces{}
	}
	return rule.Zone(zone)
}
