// Package firewall reads the configuration of programs that make rules for a packet filter, as far as it
// concerns FTP: forwarded ports, translations of addresses, and helpers of firewalld, Shorewall, VyOS and
// OpenWrt.
//
// The rules of package rule stand for what those programs make of it: a zone becomes an interface where the
// text says which, and else stays a name.
package firewall

import (
	"fmt"
	"net/netip"
	"strings"

	"ftpgate/internal/importer/rule"
)

// The chains that stand for those of the program.
var (
	destinations = rule.ChainKey{Family: "ip", Table: "nat", Chain: "PREROUTING"}
	sources      = rule.ChainKey{Family: "ip", Table: "nat", Chain: "POSTROUTING"}
	helpers      = rule.ChainKey{Family: "ip", Table: "raw", Chain: "PREROUTING"}
)

// newSet returns a set with these chains.
func newSet(format string, after ...string) *rule.Set {
	return &rule.Set{Format: format, After: after, Chains: []rule.Chain{
		{ChainKey: helpers, Hook: rule.Prerouting, Type: "raw", Priority: -300, Policy: rule.Accept},
		{ChainKey: destinations, Hook: rule.Prerouting, Type: "nat", Priority: -100, Policy: rule.Accept},
		{ChainKey: sources, Hook: rule.Postrouting, Type: "nat", Priority: 100, Policy: rule.Accept},
	}}
}

// forwarded is a forwarded port in the words of a program.
type forwarded struct {
	place              rule.Place
	protocol           string // "tcp", "udp"; empty or several words: tcp among them
	ports              string // those that clients dial; empty: all
	at, clients        string // addresses; empty: all
	toAddress, toPorts string
	in                 rule.Interfaces
	comment            string
	others             []string
	deletion           []string
	gateway            bool // clients dial an address of the gateway
}

// add adds the rule, or a note if it cannot be read.
func (f forwarded) add(s *rule.Set) {
	r := rule.Rule{Place: f.place, Chain: destinations, Action: rule.DNAT, Comment: f.comment,
		Deletion: f.deletion, Match: rule.Match{Protocol: "tcp", In: f.in, Others: f.others,
			LocalAddress: f.gateway}}
	if words := strings.FieldsFunc(f.protocol, isBetween); len(words) == 1 && words[0] != "all" &&
		words[0] != "tcp_udp" && words[0] != "tcpudp" {
		r.Match.Protocol = words[0]
	}
	err := f.read(&r)
	if err != nil {
		s.Unread(f.place, err.Error())
		return
	}
	s.Rules = append(s.Rules, r)
}

func (f forwarded) read(r *rule.Rule) (err error) {
	if r.Match.Ports, err = portsOf(f.ports); err != nil {
		return err
	}
	if r.Match.Destination, err = addressesOf(f.at); err != nil {
		return err
	}
	if r.Match.Source, err = addressesOf(f.clients); err != nil {
		return err
	}
	to := f.toAddress
	if strings.Contains(to, ":") && !strings.HasPrefix(to, "[") {
		to = "[" + to + "]"
	}
	if f.toPorts != "" {
		to += ":" + strings.ReplaceAll(f.toPorts, ":", "-")
	}
	if to == "" {
		r.Action = rule.Redirect
		return nil
	}
	if r.To, err = rule.ParseEndpoint(to); err != nil {
		return err
	}
	if !r.To.First.IsValid() {
		r.Action = rule.Redirect
	}
	return nil
}

func isBetween(r rune) bool { return r == ' ' || r == ',' || r == '\t' }

// portsOf reads ports with commas or white space between, ranges with ":" or "-", and "!" before all.
func portsOf(s string) (rule.Ports, error) {
	s, not := strings.CutPrefix(s, "!")
	var all []rule.PortRange
	for _, word := range strings.FieldsFunc(s, isBetween) {
		r, err := rule.ParsePorts(strings.ReplaceAll(word, ":", "-"), "-")
		if err != nil {
			return rule.Ports{}, err
		}
		all = append(all, r)
	}
	switch {
	case len(all) == 0:
		return rule.Ports{}, nil
	case not:
		return rule.ExceptPorts(all...), nil
	}
	return rule.OnlyPorts(all...), nil
}

// addressesOf reads addresses and prefixes in the same way.
func addressesOf(s string) (rule.Addresses, error) {
	s, not := strings.CutPrefix(s, "!")
	var all []netip.Prefix
	for _, word := range strings.FieldsFunc(s, isBetween) {
		p, err := rule.ParsePrefixes(word)
		if err != nil {
			return rule.Addresses{}, err
		}
		all = append(all, p...)
	}
	switch {
	case len(all) == 0:
		return rule.Addresses{}, nil
	case not:
		return rule.Except(all...), nil
	}
	return rule.Only(all...), nil
}

// addHelper adds the kernel's ftp helper at ports.
func addHelper(s *rule.Set, p rule.Place, in rule.Interfaces, ports string, deletion ...string) {
	at, err := portsOf(ports)
	if err != nil {
		s.Unread(p, err.Error())
		return
	}
	s.Rules = append(s.Rules, rule.Rule{Place: p, Chain: helpers, Action: rule.Helper, Helper: "ftp",
		Match: rule.Match{Protocol: "tcp", In: in, Ports: at}, Deletion: deletion})
}

// addMasquerade adds a translation of clients' addresses.
func addMasquerade(s *rule.Set, p rule.Place, clients, out string) {
	from, err := addressesOf(clients)
	if err != nil {
		s.Unread(p, err.Error())
		return
	}
	s.Rules = append(s.Rules, rule.Rule{Place: p, Chain: sources, Action: rule.Masquerade,
		Match: rule.Match{Source: from, Out: rule.Interfaces{Name: out}}})
}

// removeLine is what to do with a line of a file.
func removeLine(p rule.Place, file string) string {
	return fmt.Sprintf("remove line %d of %s: %s", p.Line, file, p.Text)
}
