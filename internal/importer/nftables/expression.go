package nftables

import (
	"net/netip"
	"slices"

	"ftpgate/internal/importer/rule"
)

// field is what an expression looks at, such as "tcp dport".
type field string

// The fields that rules for FTP look at.
const (
	inInterface  field = "iifname"
	outInterface field = "oifname"
	protocol     field = "l4proto"
	source       field = "saddr"
	destination  field = "daddr"
	dport        field = "dport"
	sport        field = "sport"
	state        field = "ct state"
	status       field = "ct status"
	local        field = "fib daddr type"
	nfproto      field = "nfproto"
	other        field = "" // one that means nothing here
)

// twoWords are the fields of two words; a field of tcp also asks for the protocol.
var twoWords = map[string]field{
	"ip saddr": source, "ip daddr": destination, "ip6 saddr": source, "ip6 daddr": destination,
	"tcp dport": dport, "tcp sport": sport, "udp dport": dport, "udp sport": sport, "th dport": dport,
	"th sport": sport, "meta l4proto": protocol, "ip protocol": protocol, "ip6 nexthdr": protocol,
	"meta iifname": inInterface, "meta iif": inInterface, "meta oifname": outInterface,
	"meta oif": outInterface,
	"ct state": state, "ct status": status, "meta nfproto": nfproto,
}

// oneWord are the fields of one word.
var oneWord = map[string]field{
	"iifname": inInterface, "iif": inInterface, "oifname": outInterface, "oif": outInterface,
}

// headers are the first words of fields with a second one.
var headers = []string{"ip", "ip6", "tcp", "udp", "th", "meta", "ct", "ether", "icmp", "icmpv6", "sctp",
	"dccp",
	"udplite", "esp", "ah", "rt", "vlan", "arp", "socket", "osf", "ipsec", "igmp", "gre"}

// field reads a field; false: the words are none. What it asks of the protocol goes into the match.
func (b *builder) field() (field, bool) {
	word := b.peek(0)
	if f, ok := oneWord[word]; ok {
		b.next++
		return f, true
	}
	if word == "fib" {
		for b.next < len(b.words) && !slices.Contains([]string{"type", "oif", "oifname"}, b.peek(0)) {
			b.next++
		}
		b.next++
		return local, true
	}
	if !slices.Contains(headers, word) || b.next+1 >= len(b.words) {
		return other, false
	}
	name := word + " " + b.peek(1)
	b.next += 2
	if word == "tcp" || word == "udp" {
		b.and(rule.Match{Protocol: word})
	}
	if word == "ct" && (b.peek(0) == "saddr" || b.peek(0) == "daddr" || b.peek(0) == "ip" ||
		b.peek(0) == "ip6") {
		b.next++
	}
	return twoWords[name], true
}

// condition returns the match of a field and its values. A field that means nothing here becomes a condition
// in the rule's own words.
func (b *builder) condition(f field, not bool, values []string, words string) (rule.Match, error) {
	var m rule.Match
	var err error
	switch f {
	case inInterface, outInterface:
		i := rule.Interfaces{Name: values[0], Not: not}
		if len(values) != 1 {
			m.Others = append(m.Others, words)
			break
		}
		if f == inInterface {
			m.In = i
		} else {
			m.Out = i
		}
	case protocol:
		m, err = protocolMatch(not, values, words)
	case source:
		m.Source, err = b.addresses(not, values)
	case destination:
		m.Destination, err = b.addresses(not, values)
	case dport:
		m.Ports, err = ports(not, values)
	case sport:
		m.SourcePorts, err = ports(not, values)
	case state:
		if slices.Contains(values, "new") == not {
			m.Established = true
		}
	case status:
		if slices.Contains(values, "dnat") && !not {
			m.Translated = true
		} else {
			m.Others = append(m.Others, words)
		}
	case local:
		if slices.Equal(values, []string{"local"}) && !not {
			m.LocalAddress = true
		} else {
			m.Others = append(m.Others, words)
		}
	case nfproto:
	default:
		m.Others = append(m.Others, words)
	}
	return m, err
}

func protocolMatch(not bool, values []string, words string) (m rule.Match, err error) {
	names := map[string]string{"6": "tcp", "17": "udp"}
	for i, v := range values {
		if name := names[v]; name != "" {
			values[i] = name
		}
	}
	switch {
	case !not && slices.Contains(values, "tcp"):
		m.Protocol = "tcp" // the others are no concern of FTP's
	case not && slices.Contains(values, "tcp"):
		m.Protocol = "not tcp"
	case !not:
		m.Protocol = values[0]
	}
	return m, nil
}

// addresses reads addresses, prefixes and ranges.
func (b *builder) addresses(not bool, values []string) (rule.Addresses, error) {
	var all []netip.Prefix
	for _, v := range values {
		prefixes, err := rule.ParsePrefixes(v)
		if err != nil {
			return rule.Addresses{}, err
		}
		all = append(all, prefixes...)
	}
	if not {
		return rule.Except(all...), nil
	}
	return rule.Only(all...), nil
}

func ports(not bool, values []string) (rule.Ports, error) {
	var all []rule.PortRange
	for _, v := range values {
		r, err := rule.ParsePorts(v, "-")
		if err != nil {
			return rule.Ports{}, err
		}
		all = append(all, r)
	}
	if not {
		return rule.ExceptPorts(all...), nil
	}
	return rule.OnlyPorts(all...), nil
}
