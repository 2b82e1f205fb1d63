package script

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wants is what a verb is followed by.
type wants int

const (
	wantsNothing wants = iota
	wantsText
	wantsCount
	wantsTime
	wantsName
	wantsSource // "", "other" or "port 20"
	wantsPlace  // "" or "other"
)

// verbs are what an end can do.
var verbs = map[string]wants{
	"send": wantsText, "raw": wantsText, "urgent": wantsText, "expect": wantsText,
	"readable": wantsNothing, "end": wantsNothing,
	"half": wantsNothing, "close": wantsNothing, "reset": wantsNothing,
	"listen": wantsPlace, "unlisten": wantsNothing, "present": wantsNothing, "accept": wantsNothing,
	"dial": wantsSource, "refused": wantsSource,
	"data write": wantsCount, "data read": wantsCount, "data end": wantsNothing, "data half": wantsNothing,
	"data close": wantsNothing, "data reset": wantsNothing,
	"signal": wantsName, "wait": wantsName, "pause": wantsTime,
}

// fragments are what many pairs have: "do NAME", with what stands behind it in place of %.
var fragments = map[string]string{
	"greet": "S send 220 ready\nC expect 220",
	"login": "S send 220 ready\nC expect 220\n" +
		"C send USER demo\nS expect USER demo\nS send 331 and the password\nC expect 331\n" +
		"C send PASS secret\nS expect PASS secret\nS send 230 welcome\nC expect 230",
	"pasv": "C send PASV\nS expect PASV\nS listen\n" +
		"S send 227 Entering Passive Mode ({hostport})\nC expect 227",
	"epsv": "C send EPSV\nS expect EPSV\nS listen\n" +
		"S send 229 Entering Extended Passive Mode (|||{port}|)\nC expect 229",
	"port": "C listen\nC send PORT {hostport}\nS expect PORT\nS send 200 PORT command successful\nC " +
		"expect 200",
	"eprt": "C listen\nC send EPRT {eprt}\nS expect EPRT\nS send 200 EPRT command successful\nC expect 200",
	"quit": "C send QUIT\nS expect QUIT\nS send 221 bye\nS close\nC expect 221\nC end\nC close",
}

// Parse reads a pair. An error names the line.
func Parse(name, text string) (Pair, error) {
	p := Pair{Name: name}
	var block Block
	endBlock := func() {
		if len(block) > 0 {
			p.Blocks = append(p.Blocks, block)
			block = nil
		}
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		kind, rest, _ := strings.Cut(line, " ")
		var err error
		switch kind {
		case "":
			endBlock()
		case "#":
			p.About = append(p.About, rest)
		case "limit":
			var l Limit
			l, err = parseLimit(rest)
			p.Limits = append(p.Limits, l)
		case "ipv6":
			p.IPv6 = true
		case "do":
			var steps Block
			steps, err = fragment(rest)
			block = append(block, steps...)
		default:
			var s Step
			s, err = parseStep(line)
			block = append(block, s)
		}
		if err != nil {
			return Pair{}, fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
	endBlock()
	return p, checkSignals(p)
}

// fragment returns the steps of a fragment, or of "say COMMAND => REPLY".
func fragment(what string) (Block, error) {
	text, ok := fragments[what]
	if said, found := strings.CutPrefix(what, "say "); found {
		command, reply, ok := strings.Cut(said, " => ")
		if !ok {
			return nil, fmt.Errorf("do %s: want COMMAND => REPLY", what)
		}
		return Say(command, reply), nil
	}
	if !ok {
		return nil, fmt.Errorf("no fragment %q", what)
	}
	return mustParse(text), nil
}

// Do returns the steps of a fragment. An unknown one is the caller's bug.
func Do(what string) Block {
	b, err := fragment(what)
	if err != nil {
		panic(fmt.Sprint("script: ", err))
	}
	return b
}

// Say is one command and its reply. The texts are as a script has them.
func Say(command, reply string) Block {
	return Block{
		{Side: Client, Verb: "send", Text: command},
		{Side: Server, Verb: "expect", Text: command},
		{Side: Server, Verb: "send", Text: reply},
		{Side: Client, Verb: "expect", Text: reply},
	}
}

// Steps reads steps, a line each. A fault in them is the caller's bug.
func Steps(text string) Block { return mustParse(text) }

func mustParse(text string) (b Block) {
	for line := range strings.Lines(text) {
		s, err := parseStep(strings.TrimSuffix(line, "\n"))
		if err != nil {
			panic(fmt.Sprint("script: ", err))
		}
		b = append(b, s)
	}
	return b
}

func parseLimit(text string) (l Limit, err error) {
	row, rest, _ := strings.Cut(text, " ")
	rest, l.May = strings.CutPrefix(rest, "may ")
	fields := append([]string{row}, strings.SplitN(rest, " ", 2)...)
	if len(fields) == 3 && (fields[1] == "kernel" || fields[1] == "relay") {
		l.Paths = fields[1]
		fields = append(fields[:1], strings.SplitN(fields[2], " ", 2)...)
	}
	if len(fields) < 3 || fields[1] != "C" && fields[1] != "S" {
		return l, fmt.Errorf("limit %s: want ROW [may] [kernel|relay] C|S TEXT", text)
	}
	l.Row, l.Side, l.Text = fields[0], Side(fields[1][0]), fields[2]
	return l, nil
}

func parseStep(line string) (s Step, err error) {
	side, rest, _ := strings.Cut(line, " ")
	if side != "C" && side != "S" {
		return s, fmt.Errorf("%q: want C or S in front", line)
	}
	verb, arg, _ := strings.Cut(rest, " ")
	s = Step{Side: Side(side[0]), Verb: verb}
	if number, ok := strings.CutPrefix(verb, "data"); ok {
		what, count, _ := strings.Cut(arg, " ")
		s.Verb, arg = "data "+what, count
		if number != "" {
			if s.Data, err = strconv.Atoi(number); err != nil || s.Data < 1 {
				return s, fmt.Errorf("%q: want the number of a data connection, from 1", line)
			}
		}
	}
	want, ok := verbs[s.Verb]
	if !ok {
		return s, fmt.Errorf("%q: no such verb", line)
	}
	if err := s.setArgument(want, arg); err != nil {
		return s, fmt.Errorf("%q: %w", line, err)
	}
	return s, nil
}

func (s *Step) setArgument(want wants, arg string) (err error) {
	valid := true
	switch want {
	case wantsNothing:
		valid = arg == ""
	case wantsText:
		_, err = Expand(arg, netip.AddrPort{})
		s.Text = arg
	case wantsCount:
		s.Count, err = strconv.Atoi(arg)
		valid = s.Count >= 0
	case wantsTime:
		s.Time, err = time.ParseDuration(arg)
	case wantsName:
		s.Text, valid = arg, arg != ""
	case wantsSource:
		s.Text, valid = arg, slices.Contains([]string{"", "other", "port 20"}, arg)
	case wantsPlace:
		s.Text, valid = arg, arg == "" || arg == "other"
	}
	if err == nil && !valid {
		err = fmt.Errorf("%s does not take %q", s.Verb, arg)
	}
	return err
}

// checkSignals finds waits for a signal that neither side gives.
func checkSignals(p Pair) error {
	signals := p.Signals()
	for _, b := range p.Blocks {
		for _, s := range b {
			if s.Verb == "wait" && !slices.Contains(signals, s.Text) {
				return fmt.Errorf("%s: neither side signals %q", p.Name, s.Text)
			}
		}
	}
	return nil
}

// Signals returns the names that are signalled.
func (p Pair) Signals() (names []string) {
	for _, b := range p.Blocks {
		for _, s := range b {
			if s.Verb == "signal" {
				names = append(names, s.Text)
			}
		}
	}
	return names
}
