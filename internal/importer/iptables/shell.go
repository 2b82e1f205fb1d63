package iptables

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"ftpgate/internal/importer/rule"
)

// concerns finds lines of a script that a gateway for FTP may depend on.
var concerns = regexp.MustCompile(`iptables|ip6tables|(nf|ip)_(conntrack|nat)|\bipset\b|` +
	`\s-[AID] |PREROUTING|DNAT|^\s*(export |readonly |declare )?[A-Za-z_][A-Za-z0-9_]*=|` +
	`^\s*(create|add) \S+ `)

// ours finds the lines among them that must not be lost without a word.
var ours = regexp.MustCompile(`iptables|ip6tables|(nf|ip)_(conntrack|nat)_ftp|PREROUTING|DNAT`)

// shell reads a line of a script, by itself: prose, loops and functions around it are no concern.
func (p *parser) shell(line string) {
	if !concerns.MatchString(line) {
		return
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(line), "")
	if err != nil {
		if ours.MatchString(line) && strings.Contains(line, " -") {
			p.set.Unread(p.place, "this line of a script cannot be read by itself")
		}
		return
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok {
			p.call(call, line)
		}
		if d, ok := n.(*syntax.DeclClause); ok {
			p.assign(d.Args)
		}
		return true
	})
}

// assign keeps the variables that are set to plain text.
func (p *parser) assign(assigns []*syntax.Assign) {
	for _, a := range assigns {
		if a.Name == nil {
			continue
		}
		delete(p.vars, a.Name.Value)
		if value, err := p.text(a.Value); err == nil && !a.Append && len(p.vars) < maxRules {
			p.vars[a.Name.Value] = value
		}
	}
}

// text returns a word without its quotes, with the values of variables.
func (p *parser) text(w *syntax.Word) (string, error) {
	if w == nil {
		return "", nil
	}
	return p.parts(w.Parts)
}

// maxText bounds what variables with variables inside may grow to.
const maxText = 4096

func (p *parser) parts(parts []syntax.WordPart) (string, error) {
	var b strings.Builder
	for _, part := range parts {
		text := ""
		var err error
		switch part := part.(type) {
		case *syntax.Lit:
			text = unescape(part.Value)
		case *syntax.SglQuoted:
			text = part.Value
		case *syntax.DblQuoted:
			text, err = p.parts(part.Parts)
		case *syntax.ParamExp:
			text, err = p.variable(part)
		default:
			err = fmt.Errorf("it contains a command or a pattern that only a shell can carry out")
		}
		if err != nil {
			return "", err
		}
		if b.WriteString(text); b.Len() > maxText {
			return "", fmt.Errorf("a word is too long")
		}
	}
	return b.String(), nil
}

// unescape takes the backslashes out of a word.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func (p *parser) variable(e *syntax.ParamExp) (string, error) {
	if e.Param == nil {
		return "", fmt.Errorf("it contains an expansion that only a shell can carry out")
	}
	simple := syntax.ParamExp{Param: e.Param, Short: e.Short, Dollar: e.Dollar, Rbrace: e.Rbrace}
	if e.Excl || e.Length || e.Width || e.Index != nil || e.Slice != nil || e.Repl != nil || e.Exp != nil ||
		e.Names != simple.Names {
		return "", fmt.Errorf("it contains an expansion that only a shell can carry out")
	}
	value, known := p.vars[e.Param.Value]
	if !known {
		return "", fmt.Errorf("the value of $%s is not known here", e.Param.Value)
	}
	return value, nil
}

// call reads one command with its arguments.
func (p *parser) call(c *syntax.CallExpr, line string) {
	if len(c.Args) == 0 {
		p.assign(c.Assigns)
		return
	}
	var words []string
	for _, w := range c.Args {
		text, err := p.text(w)
		if err != nil {
			if ours.MatchString(line) || strings.Contains(line, " -j ") {
				p.set.Unread(p.place, err.Error())
			}
			return
		}
		if _, variable := w.Parts[0].(*syntax.ParamExp); variable {
			words = append(words, strings.Fields(text)...) // as a shell splits what stands outside of quotes
		} else {
			words = append(words, text)
		}
	}
	words = skipPrefixes(words)
	if len(words) == 0 {
		return
	}
	name := path.Base(words[0])
	switch family := programFamily(name); {
	case strings.HasSuffix(name, "-save"), strings.HasSuffix(name, "-restore"):
	case family != "":
		p.script = true
		p.command(words[0], family, words[1:])
	case name == "modprobe" || name == "insmod" || name == "options" || name == "install" || len(words) == 1:
		p.module(words)
	case name == "ipset" && len(words) > 1:
		p.ipset(words[1:])
	case name == "create" || name == "add":
		p.ipset(words)
	case strings.Contains(line, "nf_conntrack_helper"):
		p.helperSwitch(line)
	}
}

// skipPrefixes returns a command without what only says who runs it, and where.
func skipPrefixes(words []string) []string {
	for len(words) > 1 {
		switch {
		case words[0] == "sudo" || words[0] == "doas" || words[0] == "exec":
			words = words[1:]
		case len(words) > 4 && slices.Equal(words[:3], []string{"ip", "netns", "exec"}):
			words = words[4:]
		default:
			return words
		}
	}
	return words
}

// module reads "modprobe nf_conntrack_ftp ports=21,2121" and its like.
func (p *parser) module(words []string) {
	m := rule.Module{Place: p.place}
	found := false
	for _, w := range words {
		switch name := strings.TrimSuffix(path.Base(w), ".ko"); name {
		case "nf_conntrack_ftp", "nf_nat_ftp", "ip_conntrack_ftp", "ip_nat_ftp":
			found = true
		}
		list, ok := strings.CutPrefix(w, "ports=")
		for port := range strings.SplitSeq(list, ",") {
			if n, err := rule.ParsePort(port); ok && err == nil {
				m.Ports = append(m.Ports, n)
			}
		}
	}
	if found {
		p.script = p.script || p.table == "" && len(p.order) == 0
		m.Deletion = []string{fmt.Sprintf("remove this line, line %d: %s", p.place.Line, p.place.Text)}
		p.set.Modules = append(p.set.Modules, m)
	}
}

// helperSwitch reads the line that lets helpers attach themselves.
func (p *parser) helperSwitch(line string) {
	if on := regexp.MustCompile(`nf_conntrack_helper\s*=\s*1|echo\s+"?1"?\s*>`); !on.MatchString(line) {
		return
	}
	p.set.Modules = append(p.set.Modules, rule.Module{Place: p.place,
		Deletion: []string{fmt.Sprintf("remove this line, line %d: %s", p.place.Line, p.place.Text)}})
}

// ipset reads "create NAME hash:ip" and "add NAME 192.168.5.0/24".
func (p *parser) ipset(words []string) {
	if len(words) < 3 {
		return
	}
	name, value := words[1], words[2]
	switch words[0] {
	case "create", "-N":
		if value == "hash:ip" || value == "hash:net" || value == "iphash" || value == "nethash" {
			p.ipsets[name] = nil
		}
	case "add", "-A":
		members, known := p.ipsets[name]
		prefixes, err := rule.ParsePrefixes(value)
		switch {
		case known && err == nil && len(words) == 3 && len(members) < maxRules:
			p.ipsets[name] = append(members, prefixes...)
		case known:
			delete(p.ipsets, name) // it has members that are not known: a rule with it is not understood
		}
	}
}
