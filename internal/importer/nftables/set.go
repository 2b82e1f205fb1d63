package nftables

import (
	"errors"
	"fmt"
	"strings"

	"ftpgate/internal/importer/rule"
)

// elements reads what a field is compared with: a value, a list, a named set. False: the set is not known.
func (b *builder) elements() ([]element, bool) {
	if b.peek(0) == "{" {
		end := b.next
		for end < len(b.words) && b.words[end].text != "}" {
			end++
		}
		list := elementsOf(b.words[b.next:min(end+1, len(b.words))])
		b.next = end + 1
		return list, len(list) > 0
	}
	word := b.peek(0)
	b.next++
	if name, ok := strings.CutPrefix(word, "@"); ok {
		list := b.parser.elements[object{b.key.Family, b.key.Table, name}]
		return list, len(list) > 0
	}
	if word == "" || strings.HasPrefix(word, "$") || strings.ContainsAny(word, "&|<>") {
		return nil, false
	}
	list := []element{{key: []string{word}}}
	for b.peek(0) == "," { // "ct state established,related"
		list = append(list, element{key: []string{b.peek(1)}})
		b.next += 2
	}
	for b.peek(0) == "." { // "ip daddr . tcp dport 192.168.5.2 . 21"
		list[0].key = append(list[0].key, b.peek(1))
		b.next += 2
	}
	return list, true
}

// anyOf adds the condition that the fields are one of the elements.
func (b *builder) anyOf(fields []field, not bool, elements []element, words string) error {
	if len(fields) == 1 {
		var values []string
		for _, e := range elements {
			values = append(values, e.key[0])
		}
		m, err := b.condition(fields[0], not, values, words)
		if err != nil {
			return err
		}
		b.and(m)
		return nil
	}
	if not || len(elements)*len(b.matches) > maxAlternatives {
		b.and(rule.Match{Others: []string{words}})
		return nil
	}
	var all []rule.Match
	for _, e := range elements {
		m, err := b.keyed(fields, e, words)
		if err != nil {
			return err
		}
		for _, before := range b.matches {
			all = append(all, before.And(m))
		}
	}
	b.matches = all
	return nil
}

// keyed returns the condition that the fields are those of an element.
func (b *builder) keyed(fields []field, e element, words string) (rule.Match, error) {
	if len(e.key) != len(fields) {
		return rule.Match{}, fmt.Errorf("an element has %d parts; want %d", len(e.key), len(fields))
	}
	var all rule.Match
	for i, f := range fields {
		if e.key[i] == "*" {
			continue
		}
		m, err := b.condition(f, false, []string{e.key[i]}, words)
		if err != nil {
			return rule.Match{}, err
		}
		all = all.And(m)
	}
	return all, nil
}

// mapped reads "map @servers" and "vmap { 21 : jump ftp }" behind the fields.
func (b *builder) mapped(fields []field, action rule.Action) error {
	if b.peek(0) != "map" && b.peek(0) != "vmap" {
		return fmt.Errorf("the destination is chosen by %q", b.peek(0))
	}
	b.next++
	name, named := strings.CutPrefix(b.peek(0), "@")
	elements, known := b.elements()
	if !known {
		if action == rule.DNAT || action == rule.Redirect {
			return errors.New("the map that it looks into has no elements here")
		}
		return nil
	}
	for _, e := range elements {
		m, err := b.keyed(fields, e, "")
		if err != nil {
			return err
		}
		o := outcome{match: m, action: action}
		if err := b.value(&o, e.value); err != nil {
			return err
		}
		if named {
			o.deletion = fmt.Sprintf("nft delete element %s %s %s { %s }", b.key.Family, b.key.Table, name,
				strings.Join(e.key, " . "))
		}
		b.outcomes = append(b.outcomes, o)
	}
	return nil
}

// value reads the value of an element: a destination, or a verdict.
func (b *builder) value(o *outcome, value []token) error {
	if len(value) == 0 {
		return errors.New("an element of the map has no value")
	}
	if o.action == rule.Other {
		inner := builder{parser: b.parser, key: b.key, words: value, matches: []rule.Match{{}}}
		if err := inner.statement(); err != nil {
			return err
		}
		if len(inner.outcomes) == 1 {
			o.action, o.target = inner.outcomes[0].action, inner.outcomes[0].target
		}
		return nil
	}
	to := value[0].text
	if len(value) > 2 && value[1].text == "." { // "10.0.0.5 . 21"
		if strings.Contains(to, ":") {
			to = "[" + to + "]"
		}
		to += ":" + value[2].text
	} else if !strings.ContainsAny(to, ".:") { // the port of a redirect
		to = ":" + to
	}
	e, err := rule.ParseEndpoint(to)
	o.to = e
	return err
}
