package nftables

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ftpgate/internal/importer/rule"
)

// maxAlternatives bounds the rules that one rule stands for, if it looks into sets and maps.
const maxAlternatives = 10_000

// builder reads one rule.
type builder struct {
	parser *parser
	key    rule.ChainKey
	words  []token
	next   int
	// matches are alternatives: the rule is for packets that meet one of them. One for each element of a set
	// with several parts.
	matches  []rule.Match
	outcomes []outcome // what becomes of the packets; several with a map
	comment  string
}

// outcome is what a rule does with some of its packets.
type outcome struct {
	match    rule.Match // beside those of the rule
	action   rule.Action
	target   string
	to       rule.Endpoint
	helper   string
	deletion string // of the element of a map; empty: that of the rule
}

// errXtables is about a rule that nft shows without its content.
var errXtables = errors.New("nft does not show what this rule of iptables says: import the output of " +
	"iptables-save and ip6tables-save instead")

// rule adds what a rule means to the set.
func (p *parser) rule(key rule.ChainKey, r pending) {
	b := &builder{parser: p, key: key, words: r.tokens, matches: []rule.Match{{}}}
	if err := b.read(); err != nil {
		p.set.Unread(r.place, err.Error())
		return
	}
	if len(b.outcomes) == 0 {
		b.outcomes = []outcome{{}}
	}
	if len(b.matches)*len(b.outcomes)+len(p.set.Rules) > maxRules+maxAlternatives {
		p.set.Unread(r.place, "its sets and maps have too many elements")
		return
	}
	chain := strings.Join([]string{key.Family, key.Table, key.Chain}, " ")
	deletion := fmt.Sprintf("nft delete rule %s handle %d", chain, r.handle)
	if r.handle == 0 {
		deletion = fmt.Sprintf("nft delete rule %s handle N   # nft -a list chain %s shows the N of: %s",
			chain, chain,
			r.place.Text)
	}
	for _, m := range b.matches {
		for _, o := range b.outcomes {
			one := rule.Rule{Place: r.place, Chain: key, Match: m.And(o.match), Action: o.action,
				Target: o.target, To: o.to, Helper: o.helper, Comment: b.comment,
				Deletion: []string{deletion}}
			if o.deletion != "" {
				one.Deletion = []string{o.deletion}
			}
			p.set.Rules = append(p.set.Rules, one)
		}
	}
}

// peek returns a word ahead; empty: there is none.
func (b *builder) peek(ahead int) string {
	if b.next+ahead < len(b.words) {
		return b.words[b.next+ahead].text
	}
	return ""
}

// and adds conditions to all alternatives.
func (b *builder) and(m rule.Match) {
	for i := range b.matches {
		b.matches[i] = b.matches[i].And(m)
	}
}

func (b *builder) read() error {
	for b.next < len(b.words) {
		start := b.next
		if err := b.statement(); err != nil {
			return err
		}
		if b.next == start {
			return fmt.Errorf("the word %q is not understood", b.peek(0))
		}
	}
	return nil
}

// statement reads a condition or a statement.
func (b *builder) statement() error {
	word := b.peek(0)
	verdicts := map[string]rule.Action{"accept": rule.Accept, "drop": rule.Drop, "return": rule.Return,
		"reject": rule.Drop, "queue": rule.Accept}
	if action, ok := verdicts[word]; ok {
		b.next = len(b.words) // behind it are its own options, and a comment
		b.outcomes = []outcome{{action: action}}
		return nil
	}
	switch word {
	case "jump", "goto":
		action := map[string]rule.Action{"jump": rule.Jump, "goto": rule.Goto}[word]
		b.outcomes = []outcome{{action: action, target: b.peek(1)}}
		b.next += 2
	case "counter":
		b.next++
		for b.peek(0) == "packets" || b.peek(0) == "bytes" || b.peek(0) == "name" {
			b.next += 2
		}
	case "comment":
		b.comment = b.peek(1)
		b.next += 2
	case "continue", "notrack", "random", "fully-random", "persistent":
		b.next++
	case "log":
		b.next++
		for slices.Contains([]string{"prefix", "level", "group", "snaplen", "queue-threshold", "flags"},
			b.peek(0)) {
			b.next += 2
		}
	case "masquerade":
		b.outcomes = []outcome{{action: rule.Masquerade}}
		b.next = len(b.words)
	case "snat":
		b.outcomes = []outcome{{action: rule.SNAT}}
		b.next = len(b.words)
	case "redirect", "dnat":
		return b.translation(word)
	case "xt":
		return errXtables
	default:
		return b.expression()
	}
	return nil
}

// translation reads "dnat ip to 10.0.0.5:21" and "redirect to :2121".
func (b *builder) translation(word string) error {
	action := map[string]rule.Action{"dnat": rule.DNAT, "redirect": rule.Redirect}[word]
	b.next++
	to := slices.IndexFunc(b.words[b.next:], func(t token) bool { return t.text == "to" && !t.quoted })
	switch {
	case to >= 0:
		b.next += to + 1
	case action == rule.Redirect:
		b.outcomes = []outcome{{action: action}}
		return nil
	case b.peek(0) == "ip" || b.peek(0) == "ip6":
		b.next++
	}
	start := b.next
	if fields, err := b.fields(); err != nil {
		return err
	} else if len(fields) > 0 {
		return b.mapped(fields, action)
	}
	b.next = start
	where := b.peek(0)
	b.next++
	if b.peek(0) == ":" { // "10.0.0.5 : 21"
		where += ":" + b.peek(1)
		b.next += 2
	}
	e, err := rule.ParseEndpoint(where)
	if err == nil && action == rule.DNAT && !e.First.IsValid() && e.Ports.IsEmpty() {
		err = errors.New("dnat has no destination")
	}
	if err != nil {
		return err
	}
	b.outcomes = []outcome{{action: action, to: e}}
	return nil
}

// fields reads one field, or several with dots between them; none: the words are something else.
func (b *builder) fields() ([]field, error) {
	var all []field
	for {
		f, ok := b.field()
		if !ok {
			if len(all) > 0 {
				return nil, fmt.Errorf("the word %q is no field", b.peek(0))
			}
			return nil, nil
		}
		all = append(all, f)
		if b.peek(0) != "." {
			return all, nil
		}
		b.next++
	}
}

// expression reads a field with its values, or with a map of verdicts.
func (b *builder) expression() error {
	start := b.next
	fields, err := b.fields()
	if err != nil {
		return err
	}
	if len(fields) == 0 {
		return b.unknown()
	}
	if b.peek(0) == "vmap" {
		return b.mapped(fields, rule.Other)
	}
	if b.peek(0) == "set" { // "ct helper set", "meta mark set"
		b.next++
		if b.words[start].text == "ct" && b.words[start+1].text == "helper" {
			o := object{b.key.Family, b.key.Table, b.peek(0)}
			b.outcomes = []outcome{{action: rule.Helper, helper: b.parser.helpers[o]}}
			if b.parser.helpers[o] == "" {
				return fmt.Errorf("it attaches the helper %q, which is not declared here", b.peek(0))
			}
		}
		b.next++
		return nil
	}
	not := b.peek(0) == "!="
	if slices.Contains([]string{"!=", "==", "eq", "="}, b.peek(0)) {
		b.next++
	}
	elements, known := b.elements()
	words := b.text(start)
	if !known {
		b.and(rule.Match{Others: []string{words}})
		return nil
	}
	return b.anyOf(fields, not, elements, words)
}

// text returns the words from start on, as they stand in the rule.
func (b *builder) text(start int) string {
	var words []string
	for _, t := range b.words[start:min(b.next, len(b.words))] {
		words = append(words, t.text)
	}
	return strings.Join(words, " ")
}

// unknown keeps a statement that means nothing here as a condition, up to one that does.
func (b *builder) unknown() error {
	start := b.next
	ends := []string{"accept", "drop", "return", "reject", "jump", "goto", "counter", "comment", "dnat",
		"redirect",
		"masquerade", "snat", "log"}
	for b.next++; b.next < len(b.words); b.next++ {
		if w := b.peek(0); slices.Contains(ends, w) || slices.Contains(headers, w) || oneWord[w] != "" {
			break
		}
	}
	b.and(rule.Match{Others: []string{b.text(start)}})
	return nil
}
