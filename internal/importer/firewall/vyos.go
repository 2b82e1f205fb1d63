package firewall

import (
	"fmt"
	"slices"
	"strings"

	"ftpgate/internal/importer/rule"
)

// vyosRule is a rule of "nat destination" or "nat source": its settings by their path.
type vyosRule struct {
	kind, number string
	place        rule.Place
	settings     map[string]string
}

// ParseVyOS reads "set" commands, as "show configuration commands" prints them.
func ParseVyOS(text string) *rule.Set {
	s := newSet("VyOS set commands", "commit", "save")
	var rules []*vyosRule
	for i, line := range strings.Split(text, "\n") {
		p := rule.Place{Line: i + 1, Text: strings.TrimSpace(line)}
		words := vyosWords(line)
		switch {
		case len(words) > 5 && words[0] == "set" && words[1] == "nat" && words[3] == "rule",
			len(words) > 4 && words[0] == "set" && words[1] == "nat" && words[3] == "rule":
			rules = vyosSetting(rules, words, p)
		case len(words) == 5 && slices.Equal(words[:4], []string{"set", "system", "conntrack", "modules"}) &&
			words[4] == "ftp":
			addHelper(s, p, rule.Interfaces{}, "21", "delete system conntrack modules ftp")
		}
	}
	for _, r := range rules {
		r.add(s)
	}
	return s
}

// vyosWords splits a line; values may stand in single quotes.
func vyosWords(line string) []string {
	var words []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// vyosSetting adds a setting to its rule.
func vyosSetting(rules []*vyosRule, words []string, p rule.Place) []*vyosRule {
	kind, number := words[2], words[4]
	i := slices.IndexFunc(rules, func(r *vyosRule) bool { return r.kind == kind && r.number == number })
	if i < 0 {
		rules = append(rules, &vyosRule{kind, number, p, map[string]string{}})
		i = len(rules) - 1
	}
	path := words[5:]
	switch {
	case len(path) == 0:
	case len(path) == 1: // "disable", "exclude"
		rules[i].settings[path[0]] = "yes"
	default:
		rules[i].settings[strings.Join(path[:len(path)-1], " ")] = path[len(path)-1]
	}
	return rules
}

func (r *vyosRule) add(s *rule.Set) {
	get := func(key string) string {
		value := r.settings[key]
		delete(r.settings, key)
		return value
	}
	if get("disable") != "" {
		return
	}
	name := get("inbound-interface name") + get("inbound-interface") + get("inbound-interface interface-name")
	if r.kind != "destination" {
		if r.settings["translation address"] != "" {
			addMasquerade(s, r.place, r.settings["source address"], "")
		}
		return
	}
	f := forwarded{place: r.place, protocol: get("protocol"), ports: get("destination port"),
		at: get("destination address"), clients: get("source address"), toAddress: get("translation address"),
		toPorts: get("translation port") + get("translation redirect port"), comment: get("description"),
		deletion: []string{fmt.Sprintf("delete nat destination rule %s", r.number)}}
	f.in, f.gateway = vyosInterface(name), true
	get("log")
	exclude := get("exclude") != ""
	for key, value := range r.settings {
		f.others = append(f.others, key+" "+value)
	}
	slices.Sort(f.others)
	if f.ports == "" && f.protocol == "" && !exclude {
		f.protocol = "all"
	}
	if exclude {
		f.toAddress, f.toPorts = "", ""
	}
	before := len(s.Rules)
	f.add(s)
	if exclude && len(s.Rules) > before {
		s.Rules[before].Action = rule.Accept
	}
}

// vyosInterface reads "eth0", "!eth0" or "eth*".
func vyosInterface(name string) rule.Interfaces {
	name, not := strings.CutPrefix(name, "!")
	if name == "any" {
		return rule.Interfaces{}
	}
	if stem, wild := strings.CutSuffix(name, "+"); wild {
		name = stem + "*"
	}
	return rule.Interfaces{Name: name, Not: not}
}
