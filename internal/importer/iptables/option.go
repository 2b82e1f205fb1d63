package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/importer/rule"
)

// option reads one option of a rule with its values. An option that it does not know becomes a condition in
// the rule's own words.
func (p *ruleParser) option(option string) error {
	r := &p.command.rule
	switch option {
	case "-m", "--match":
		_, err := p.value(option)
		return err
	case "--random", "--random-fully", "--persistent", "--syn", "--notrack":
		return nil
	case "--tcp-flags":
		if flags := p.values(); !slices.Equal(flags, []string{"FIN,SYN,RST,ACK", "SYN"}) {
			p.other(option, flags)
		}
		return nil
	case "-p", "--protocol", "--proto", "-s", "--source", "--src", "-d", "--destination", "--dst", "-i",
		"--in-interface", "-o", "--out-interface", "-j", "--jump", "-g", "--goto", "--dport",
		"--destination-port", "--dports", "--destination-ports", "--sport", "--source-port", "--sports",
		"--source-ports", "--state", "--ctstate", "--ctstatus", "--comment", "--dst-type", "--helper",
		"--to-destination", "--to-ports", "--to-port", "--to-source", "--to", "--dst-range", "--src-range":
		value, err := p.value(option)
		if err != nil {
			return err
		}
		return p.known(r, option, value)
	case "--match-set":
		return p.matchSet(r)
	}
	if !strings.HasPrefix(option, "-") {
		return fmt.Errorf("the word %q stands where an option should", option)
	}
	p.other(option, p.values())
	return nil
}

// other keeps a condition that has no meaning here. An option of a target is none.
func (p *ruleParser) other(option string, values []string) {
	if p.target != "" && p.target != "CT" && p.command.rule.Action != rule.Jump {
		return
	}
	words := append([]string{option}, values...)
	if p.not {
		words = append([]string{"!"}, words...)
	}
	m := &p.command.rule.Match
	m.Others = append(m.Others, strings.Join(words, " "))
}

// known reads an option with one value.
func (p *ruleParser) known(r *rule.Rule, option, value string) (err error) {
	m := &r.Match
	switch option {
	case "-p", "--protocol", "--proto":
		return p.protocol(m, option, value)
	case "-s", "--source", "--src", "--src-range":
		return p.addresses(&m.Source, option, value)
	case "-d", "--destination", "--dst", "--dst-range":
		return p.addresses(&m.Destination, option, value)
	case "-i", "--in-interface":
		m.In = p.interfaces(value)
	case "-o", "--out-interface":
		m.Out = p.interfaces(value)
	case "-j", "--jump":
		p.setTarget(value, rule.Jump)
	case "-g", "--goto":
		p.setTarget(value, rule.Goto)
	case "--dport", "--destination-port", "--dports", "--destination-ports":
		m.Ports, err = p.ports(value)
	case "--sport", "--source-port", "--sports", "--source-ports":
		m.SourcePorts, err = p.ports(value)
	case "--state", "--ctstate":
		p.state(m, option, value)
	case "--ctstatus":
		p.other(option, []string{value})
	case "--comment":
		r.Comment = value
	case "--dst-type":
		if value == "LOCAL" && !p.not {
			m.LocalAddress = true
		} else {
			p.other(option, []string{value})
		}
	case "--helper":
		p.helper = value
	case "--to-destination":
		r.To, err = rule.ParseEndpoint(value)
	case "--to-ports", "--to-port":
		r.To.Ports, err = rule.ParsePorts(value, "-")
	case "--to": // iptables takes the beginning of an option for the whole
		switch r.Action {
		case rule.DNAT:
			r.To, err = rule.ParseEndpoint(value)
		case rule.Redirect:
			r.To.Ports, err = rule.ParsePorts(value, "-")
		}
	case "--to-source":
		// Whom the server sees is ftpgate's decision.
	}
	return err
}

func (p *ruleParser) protocol(m *rule.Match, option, value string) error {
	value = strings.ToLower(value)
	switch value {
	case "6":
		value = "tcp"
	case "17":
		value = "udp"
	case "all", "0":
		value = ""
	}
	if p.not {
		if value == "tcp" {
			m.Protocol = "not tcp"
			return nil
		}
		p.other(option, []string{value})
		return nil
	}
	m.Protocol = value
	return nil
}

// state reads connection states. A translation sees only the first packet of a connection, so that NEW
// changes nothing; a filter that lets only established ones through decides nothing about new ones.
func (p *ruleParser) state(m *rule.Match, option, value string) {
	states := strings.Split(strings.ToUpper(value), ",")
	if slices.Contains(states, "DNAT") && !p.not {
		m.Translated = len(states) == 1
		return
	}
	if isNew := slices.Contains(states, "NEW"); isNew == p.not {
		m.Established = true
	}
	if slices.Contains(states, "SNAT") || slices.Contains(states, "UNTRACKED") && len(states) == 1 {
		p.other(option, []string{value})
	}
}

func (p *ruleParser) interfaces(value string) rule.Interfaces {
	if stem, wild := strings.CutSuffix(value, "+"); wild {
		value = stem + "*"
	}
	return rule.Interfaces{Name: value, Not: p.not}
}

// addresses reads "10.0.0.0/8,192.168.5.1", "10.0.0.0/255.0.0.0" or a range. A name is a condition that only
// the old rule can mean: iptables resolves it once.
func (p *ruleParser) addresses(to *rule.Addresses, option, value string) error {
	var all []netip.Prefix
	for part := range strings.SplitSeq(value, ",") {
		prefixes, err := rule.ParsePrefixes(part)
		if err != nil {
			if strings.ContainsAny(part, "/:") || part == "" {
				return err
			}
			p.other(option, []string{value})
			return nil
		}
		all = append(all, prefixes...)
	}
	if p.not {
		*to = to.And(rule.Except(all...))
	} else {
		*to = to.And(rule.Only(all...))
	}
	if slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Bits() == 0 }) && !p.not {
		*to = rule.Addresses{} // 0.0.0.0/0
	}
	return nil
}

// ports reads "21", "50000:50100", "ftp", or a list of these.
func (p *ruleParser) ports(value string) (rule.Ports, error) {
	var ranges []rule.PortRange
	for part := range strings.SplitSeq(value, ",") {
		r, err := rule.ParsePorts(part, ":")
		if err != nil {
			return rule.Ports{}, err
		}
		ranges = append(ranges, r)
	}
	if p.not {
		return rule.ExceptPorts(ranges...), nil
	}
	return rule.OnlyPorts(ranges...), nil
}

// matchSet reads "--match-set NAME src" of a set whose addresses are known.
func (p *ruleParser) matchSet(r *rule.Rule) error {
	values := p.values()
	if len(values) != 2 {
		return fmt.Errorf("--match-set needs a set and its directions")
	}
	members, known := p.ipsets[values[0]]
	condition := rule.Only(members...)
	if p.not {
		condition = rule.Except(members...)
	}
	switch {
	case !known || values[1] != "src" && values[1] != "dst":
		p.other("--match-set", values)
	case values[1] == "src":
		r.Match.Source = r.Match.Source.And(condition)
	default:
		r.Match.Destination = r.Match.Destination.And(condition)
	}
	return nil
}
