// Package nftables reads rules in the syntax of nft: what "nft list ruleset" prints, with -j and -a or
// without; files for "nft -f", and lines of a shell that begin with nft.
//
// JSON becomes the text that nft prints for it, so that one parser understands both. It knows the expressions
// that rules for FTP consist of; another expression is a condition in the rule's own words, and a rule that
// it cannot read becomes a note.
package nftables

import (
	"regexp"
	"slices"
	"strings"

	"ftpgate/internal/importer/rule"
)

// The bounds of what a text may ask for: rules, and elements of sets and maps.
const (
	maxRules    = 50_000
	maxElements = 100_000
)

// object names a set, a map or a helper.
type object struct{ family, table, name string }

// element is an element of a set or a map.
type element struct {
	key   []string // its parts, between the dots
	value []token  // of a map
}

// parser walks through the tokens.
type parser struct {
	set      *rule.Set
	tokens   []token
	next     int
	lines    []string
	handles  map[int]int
	places   []rule.Place // of JSON: where each line of the text comes from
	defines  map[string][]token
	elements map[object][]element
	helpers  map[object]string // their types
	rules    map[rule.ChainKey][]pending
	order    []rule.ChainKey
	chains   map[rule.ChainKey]int // their indexes in Set.Chains
	count    int
}

// pending is a rule whose sets may stand below it.
type pending struct {
	place  rule.Place
	handle int
	tokens []token
}

// Parse reads all lines. It never fails: what it cannot read is a note of the set.
func Parse(text string) *rule.Set {
	p := newParser(shellLines(text))
	p.set.Format = "rules of nft"
	return p.parse()
}

func newParser(text string) *parser {
	p := &parser{set: &rule.Set{}, lines: strings.Split(text, "\n"), defines: map[string][]token{},
		elements: map[object][]element{}, helpers: map[object]string{},
		chains: map[rule.ChainKey]int{}, rules: map[rule.ChainKey][]pending{}}
	p.tokens, p.handles = tokens(text)
	return p
}

var nftCommand = regexp.MustCompile(`^\s*(?:[>$] )?(?:sudo )?(?:/\S*/)?nft\s+(?:-[a-z]+\s+)*(.*)$`)

// shellLines takes the program's name from lines of a shell, and keeps the numbers of the lines.
func shellLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if m := nftCommand.FindStringSubmatch(l); m != nil {
			lines[i] = strings.Trim(m[1], `'"`)
		}
	}
	return strings.Join(lines, "\n")
}

func (p *parser) parse() *rule.Set {
	for p.next < len(p.tokens) {
		p.statement()
	}
	for _, key := range p.order {
		for _, r := range p.rules[key] {
			p.rule(key, r)
		}
	}
	return p.set
}

// place returns where a line of the text comes from.
func (p *parser) place(line int) rule.Place {
	if p.places != nil {
		return p.places[min(line-1, len(p.places)-1)]
	}
	text := p.lines[min(line-1, len(p.lines)-1)]
	text, _, _ = strings.Cut(text, " # handle ")
	return rule.Place{Line: line, Text: strings.TrimSpace(text)}
}

// peek returns the next token, and an end of line behind the last one.
func (p *parser) peek() token {
	if p.next < len(p.tokens) {
		return p.tokens[p.next]
	}
	return token{text: newline, line: len(p.lines)}
}

func (p *parser) take() token {
	t := p.peek()
	p.next++
	return t
}

// is reports whether the next token is a sign or a word outside quotes.
func (p *parser) is(text string) bool { return p.peek().text == text && !p.peek().quoted }

// accept takes the next token if it is text.
func (p *parser) accept(text string) bool {
	if p.is(text) && p.next < len(p.tokens) {
		p.next++
		return true
	}
	return false
}

// rest returns the tokens up to the end of the statement, with the values of defined names: a new line, ";"
// or "}" outside of braces.
func (p *parser) rest() []token {
	var all []token
	for depth := 0; p.next < len(p.tokens); {
		t := p.peek()
		if !t.quoted {
			switch {
			case depth == 0 && (t.text == newline || t.text == ";"):
				p.next++
				return all
			case depth == 0 && t.text == "}":
				return all
			case t.text == "{":
				depth++
			case t.text == "}":
				depth--
			}
		}
		p.next++
		if t.text == newline && !t.quoted {
			continue
		}
		if value, ok := p.defines[strings.TrimPrefix(t.text, "$")]; ok && strings.HasPrefix(t.text, "$") {
			all = append(all, value...)
			continue
		}
		all = append(all, t)
	}
	return all
}

// statement reads what may stand at the top of a file.
func (p *parser) statement() {
	t := p.take()
	switch t.text {
	case newline, ";", "}":
	case "table":
		family, name := p.name()
		if p.accept("{") {
			p.table(family, name)
		}
	case "define", "redefine":
		name := p.take().text
		p.accept("=")
		if value := p.rest(); len(value) <= 256 && len(p.defines) < maxElements {
			p.defines[name] = value
		}
	case "add", "create", "insert", "replace":
		p.add(t)
	default:
		if words := p.rest(); slices.ContainsFunc(append(words, t), func(t token) bool {
			return t.text == "dnat" || t.text == "redirect" || t.text == "include" || t.text == "ftp"
		}) {
			p.set.Unread(p.place(t.line), "nft does not know such a statement here, or reads it from "+
				"another file")
		}
	}
}

// families are nft's words for the families of tables.
var families = []string{"ip", "ip6", "inet", "arp", "bridge", "netdev"}

// name reads "ip nat"; without a family it is ip.
func (p *parser) name() (family, name string) {
	family = "ip"
	if slices.Contains(families, p.peek().text) {
		family = p.take().text
	}
	return family, p.take().text
}

// add reads a command that adds something.
func (p *parser) add(command token) {
	what := p.take()
	if what.text == "ct" {
		p.take()
		what.text = "helper"
	}
	if !slices.Contains([]string{"table", "chain", "rule", "set", "map", "element", "helper"}, what.text) {
		p.next-- // "add inet filter input ...": a rule
		what.text = "rule"
	}
	family, table := p.name()
	if what.text == "table" {
		p.rest()
		return
	}
	name := p.take().text
	switch what.text {
	case "chain":
		p.addChain(rule.ChainKey{Family: family, Table: table, Chain: name})
	case "set", "map", "helper":
		if p.accept("{") {
			p.object(object{family, table, name})
		}
	case "element":
		p.addElements(object{family, table, name}, p.rest())
	case "rule":
		key := rule.ChainKey{Family: family, Table: table, Chain: name}
		for p.is("handle") || p.is("position") || p.is("index") {
			p.next += 2
		}
		p.addRule(key, command.line, command.text == "insert")
	}
}

// table reads the block of a table.
func (p *parser) table(family, name string) {
	for p.next < len(p.tokens) && !p.accept("}") {
		switch t := p.take(); t.text {
		case "chain":
			key := rule.ChainKey{Family: family, Table: name, Chain: p.take().text}
			p.addChain(key)
		case "set", "map":
			o := object{family, name, p.take().text}
			if p.accept("{") {
				p.object(o)
			}
		case "ct":
			kind := p.take().text
			o := object{family, name, p.take().text}
			if p.accept("{") && kind == "helper" {
				p.object(o)
			} else if kind != "helper" {
				p.skipBlock()
			}
		case "{":
			p.skipBlock()
		}
	}
}

// skipBlock skips to behind the brace that closes a block.
func (p *parser) skipBlock() {
	for depth := 1; p.next < len(p.tokens) && depth > 0; {
		switch t := p.take(); {
		case t.quoted:
		case t.text == "{":
			depth++
		case t.text == "}":
			depth--
		}
	}
}

// object reads the block of a set, a map or a helper.
func (p *parser) object(o object) {
	for p.next < len(p.tokens) && !p.accept("}") {
		switch t := p.take(); t.text {
		case "elements":
			p.accept("=")
			p.addElements(o, p.rest())
		case "type":
			if p.peek().quoted || p.is("ftp") {
				p.helpers[o] = p.take().text
			}
			p.rest()
		case newline, ";":
		default:
			p.rest()
		}
	}
}

// addElements reads "{ 192.168.5.2 . 21 : 10.0.0.5 . 21, ... }".
func (p *parser) addElements(o object, list []token) {
	if len(p.elements[o]) < maxElements {
		p.elements[o] = append(p.elements[o], elementsOf(list)...)
	}
}

func elementsOf(list []token) []element {
	var all []element
	for _, part := range splitList(list) {
		e := element{}
		key := part
		if i := slices.IndexFunc(part, func(t token) bool { return t.text == ":" && !t.quoted }); i >= 0 {
			key, e.value = part[:i], part[i+1:]
		}
		for _, t := range key {
			if slices.Contains([]string{"timeout", "expires", "counter", "comment", "limit"}, t.text) &&
				!t.quoted {
				break
			}
			if t.text != "." {
				e.key = append(e.key, t.text)
			}
		}
		if len(e.key) > 0 {
			all = append(all, e)
		}
	}
	return all
}

// splitList splits "{ a, b }" at its commas.
func splitList(list []token) [][]token {
	var all [][]token
	var part []token
	for _, t := range list {
		if t.quoted || !strings.Contains("{},", t.text) {
			part = append(part, t)
			continue
		}
		if len(part) > 0 {
			all = append(all, part)
		}
		part = nil
	}
	if len(part) > 0 {
		all = append(all, part)
	}
	return all
}
