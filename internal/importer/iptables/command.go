package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ftpgate/internal/importer/rule"
)

// command is one command of iptables.
type command struct {
	operation string // "append", "insert", "delete", "replace", "new", "policy", "flush"; empty: another
	table     string // empty: not named
	chain     string
	number    int // of a rule in its chain; 0: none
	policy    string
	rule      rule.Rule
	spec      []string // the words of the rule itself
}

// operations are the commands with the names of iptables(8).
var operations = map[string]string{
	"-A": "append", "--append": "append", "-I": "insert", "--insert": "insert", "-D": "delete",
	"--delete": "delete", "-R": "replace", "--replace": "replace", "-N": "new", "--new-chain": "new",
	"-P": "policy", "--policy": "policy", "-F": "flush", "--flush": "flush",
	"-X": "other", "--delete-chain": "other", "-Z": "other", "--zero": "other", "-L": "other",
	"--list": "other", "-S": "other", "--list-rules": "other", "-C": "other", "--check": "other",
	"-E": "other", "--rename-chain": "other",
}

// arguments walks through the words of a command.
type arguments struct {
	words []string
	next  int
	not   bool // a "!" stands before the option
}

// value returns the next word, and an error if there is none.
func (a *arguments) value(option string) (string, error) {
	if a.next >= len(a.words) {
		return "", fmt.Errorf("%s needs a value", option)
	}
	a.next++
	v := a.words[a.next-1]
	if v == "!" && !a.not { // "-s ! 10.0.0.0/8", as old scripts have it
		a.not = true
		return a.value(option)
	}
	return v, nil
}

// values returns the words up to the next option.
func (a *arguments) values() []string {
	first := a.next
	for a.next < len(a.words) && a.words[a.next] != "!" && !isOption(a.words[a.next]) {
		a.next++
	}
	return a.words[first:a.next]
}

// isOption tells an option from a value such as a negative number.
func isOption(w string) bool {
	return len(w) > 1 && w[0] == '-' && (w[1] < '0' || w[1] > '9')
}

// parseCommand reads the words behind "iptables".
func parseCommand(words []string, family string, ipsets map[string][]netip.Prefix) (*command, error) {
	c := &command{}
	p := ruleParser{command: c, arguments: arguments{words: words}, family: family, ipsets: ipsets}
	for p.next < len(words) {
		p.not = false
		option := words[p.next]
		p.next++
		start := p.next - 1
		if option == "!" && p.next < len(words) {
			p.not = true
			option = words[p.next]
			p.next++
		}
		name, joined, ok := strings.Cut(option, "=")
		if ok && strings.HasPrefix(name, "--") { // --dport=21
			p.words = slices.Insert(slices.Clone(p.words), p.next, joined)
			words, option = p.words, name
		}
		general, err := p.general(option)
		if err != nil {
			return nil, err
		}
		if general {
			continue
		}
		if err := p.option(option); err != nil {
			return nil, err
		}
		c.spec = append(c.spec, words[start:p.next]...)
	}
	if c.operation == "" {
		return nil, fmt.Errorf("it has no command such as -A")
	}
	p.finish()
	if to := c.rule.To; c.rule.Action == rule.DNAT && !to.First.IsValid() && to.Ports.IsEmpty() {
		return nil, fmt.Errorf("DNAT needs a destination")
	}
	return c, nil
}

// ruleParser reads options.
type ruleParser struct {
	arguments
	command *command
	family  string
	ipsets  map[string][]netip.Prefix
	target  string // of -j
	helper  string // of --helper
}

// general reads what is not part of a rule; false: the option is.
func (p *ruleParser) general(option string) (bool, error) {
	c := p.command
	if operation := operations[option]; operation != "" {
		c.operation = operation
		chain := p.values()
		if len(chain) > 0 {
			c.chain = chain[0]
		}
		if len(chain) > 1 {
			c.number, _ = strconv.Atoi(chain[1])
			c.policy = chain[1]
		}
		if c.chain == "" && operation != "flush" && operation != "other" {
			return true, fmt.Errorf("%s needs a chain", option)
		}
		if operation == "insert" && c.number == 0 {
			c.number = 1
		}
		return true, nil
	}
	switch option {
	case "-t", "--table":
		table, err := p.value(option)
		c.table = table
		return true, err
	case "-w", "--wait", "-W", "--wait-interval", "-c", "--set-counters":
		p.values()
		return true, nil
	case "-n", "--numeric", "-v", "--verbose", "-4", "--ipv4", "-6", "--ipv6", "--line-numbers":
		return true, nil
	}
	return false, nil
}

// finish sets what depends on several options.
func (p *ruleParser) finish() {
	r := &p.command.rule
	if p.target == "CT" && p.helper != "" {
		r.Action, r.Helper = rule.Helper, p.helper
	} else if p.helper != "" {
		r.Match.Others = append(r.Match.Others, "-m helper --helper "+p.helper)
	}
}

// setTarget reads the value of -j.
func (p *ruleParser) setTarget(target string, jump rule.Action) {
	r := &p.command.rule
	p.target = target
	actions := map[string]rule.Action{
		"ACCEPT": rule.Accept, "DROP": rule.Drop, "REJECT": rule.Drop, "RETURN": rule.Return,
		"DNAT": rule.DNAT, "SNAT": rule.SNAT, "MASQUERADE": rule.Masquerade, "REDIRECT": rule.Redirect,
	}
	others := []string{"CT", "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "TCPMSS", "NOTRACK", "TPROXY",
		"QUEUE",
		"NFQUEUE", "NETMAP", "SET", "TOS", "DSCP", "CLASSIFY", "TRACE", "SECMARK", "CONNSECMARK", "TTL", "HL",
		"AUDIT", "CHECKSUM", "TEE", "SYNPROXY", "RATEEST", "IDLETIMER", "LED"}
	action, known := actions[target]
	switch {
	case known:
		r.Action = action
	case slices.Contains(others, target):
		r.Action = rule.Other
	default:
		r.Action, r.Target = jump, target
	}
}
