package nftables

import (
	"fmt"
	"slices"
	"strconv"

	"ftpgate/internal/importer/rule"
)

// addChain reads the block of a chain, if there is one.
func (p *parser) addChain(key rule.ChainKey) {
	c := rule.Chain{ChainKey: key, Policy: rule.Accept}
	if !p.accept("{") {
		p.knowChain(c)
		return
	}
	for p.next < len(p.tokens) && !p.accept("}") {
		line := p.peek().line
		switch t := p.peek(); {
		case t.text == newline || t.text == ";":
			p.next++
		case t.text == "type" && !t.quoted:
			p.base(&c, p.rest())
		case t.text == "policy" && !t.quoted:
			if words := p.rest(); len(words) > 1 && words[1].text == "drop" {
				c.Policy = rule.Drop
			}
		case t.text == "comment" || t.text == "flags" || t.text == "device" || t.text == "devices":
			p.rest()
		default:
			p.addRule(key, line, false)
		}
	}
	p.knowChain(c)
}

func (p *parser) knowChain(c rule.Chain) {
	if i, known := p.chains[c.ChainKey]; known {
		if c.Hook != "" {
			p.set.Chains[i] = c
		}
		return
	}
	p.chains[c.ChainKey] = len(p.set.Chains)
	p.set.Chains = append(p.set.Chains, c)
}

// base reads "type nat hook prerouting priority dstnat + 5".
func (p *parser) base(c *rule.Chain, words []token) {
	names := map[string]int{"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50,
		"srcnat": 100}
	sign := 0
	for i, t := range words {
		switch {
		case i > 0 && words[i-1].text == "type":
			c.Type = t.text
		case i > 0 && words[i-1].text == "hook":
			c.Hook = rule.Hook(t.text)
		case i > 0 && words[i-1].text == "priority":
			n, err := strconv.Atoi(t.text)
			if err != nil {
				n = names[t.text]
			}
			c.Priority = n
		case t.text == "+":
			sign = 1
		case t.text == "-":
			sign = -1
		case sign != 0:
			n, _ := strconv.Atoi(t.text)
			c.Priority += sign * n
			sign = 0
		}
	}
}

// addRule reads a rule up to its end.
func (p *parser) addRule(key rule.ChainKey, line int, first bool) {
	words := p.rest()
	if len(words) == 0 {
		if p.is("}") { // of no block
			p.next++
		}
		return
	}
	if p.count++; p.count > maxRules {
		if p.count == maxRules+1 {
			p.set.Unread(p.place(line), fmt.Sprintf("from here on nothing was read: there are more than %d "+
				"rules",
				maxRules))
		}
		return
	}
	if _, known := p.rules[key]; !known {
		p.order = append(p.order, key)
	}
	r := pending{p.place(line), p.handles[words[len(words)-1].line], words}
	if first {
		p.rules[key] = slices.Insert(p.rules[key], 0, r)
	} else {
		p.rules[key] = append(p.rules[key], r)
	}
}
