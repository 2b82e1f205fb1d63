package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/servercheck"
)

// levels are in the order in which they are told, with what they are called.
var levels = [...]struct {
	level finding.Severity
	head  string
}{{finding.Fault, "FAULT"}, {finding.Warning, "WARNING"}, {finding.Info, "note"}, {finding.OK, "sound"}}

// rankOf is smaller for what matters more.
func rankOf(l finding.Severity) int {
	for i, known := range levels {
		if known.level == l {
			return i
		}
	}
	return len(levels)
}

// graver orders findings by how much they matter.
func graver(a, b finding.Severity) int { return rankOf(a) - rankOf(b) }

// tell prints what was found.
func (c *consultation) tell(w io.Writer, forwards []forward.Resolved, found []finding.Finding) error {
	if c.json {
		return printJSON(w, func(out io.Writer) error {
			return json.NewEncoder(out).Encode(struct {
				Findings []finding.Finding `json:"findings"`
				Worst    finding.Severity  `json:"worst"`
			}{append([]finding.Finding{}, found...), finding.Worst(found)})
		})
	}
	return printLines(w, c.lines(screenOf(w), forwards, found))
}

// ward is what is said of the host, or of one forward.
type ward struct {
	title string
	found []finding.Finding // the gravest first
}

// wards groups findings, those with the gravest one first.
func wards(forwards []forward.Resolved, found []finding.Finding) []ward {
	all := []ward{{title: "this host"}}
	of := map[string]int{"": 0}
	for _, f := range forwards {
		of[f.Name] = len(all)
		all = append(all, ward{title: wardTitle(f)})
	}
	for _, f := range found {
		w := &all[of[f.Forward]]
		w.found = append(w.found, f)
	}
	for _, w := range all {
		slices.SortStableFunc(w.found, func(a, b finding.Finding) int { return graver(a.Severity, b.Severity) })
	}
	slices.SortStableFunc(all, func(a, b ward) int { return graver(finding.Worst(a.found), finding.Worst(b.found)) })
	return all
}

func wardTitle(f forward.Resolved) string {
	title := fmt.Sprintf("forward %s leads to %s", f.Listen, f.Server)
	if f.Name != f.Listen.String() {
		title = fmt.Sprintf("forward %s: %s leads to %s", f.Name, f.Listen, f.Server)
	}
	var addrs []string
	for _, a := range []netip.Addr{f.Server4, f.Server6} {
		if a.IsValid() && a.String() != f.Server.Host {
			addrs = append(addrs, a.String())
		}
	}
	if len(addrs) > 0 {
		title += " (" + strings.Join(addrs, ", ") + ")"
	}
	return title
}

// headWidth is that of what stands before a finding.
const headWidth = 9

// lines tells findings to people, and at the end what they come to.
func (c *consultation) lines(s screen, forwards []forward.Resolved, found []finding.Finding) []string {
	var lines []string
	for _, w := range wards(forwards, found) {
		lines = append(lines, s.hang("", w.title)...)
		sound := 0
		for _, f := range w.found {
			if f.Severity == finding.OK && !c.all {
				sound++
				continue
			}
			lines = append(lines, s.fact("  "+levels[rankOf(f.Severity)].head, headWidth, f.Text)...)
			if f.Remedy != "" {
				lines = append(lines, s.hang(strings.Repeat(" ", headWidth+len(gap)), "remedy: "+f.Remedy)...)
			}
		}
		if sound > 0 {
			lines = append(lines, s.fact("  sound", headWidth, plural(sound, "thing")+" (--all names them)")...)
		}
		lines = append(lines, "")
	}
	return append(lines, s.hang("", c.sum(found))...)
}

// sum says in one line what the findings come to.
func (c *consultation) sum(found []finding.Finding) string {
	faults, warnings, tried := 0, 0, !c.noTry
	for _, f := range found {
		switch {
		case f.Severity == finding.Fault:
			faults++
		case f.Severity == finding.Warning:
			warnings++
		case f.Code == servercheck.CodeLogin && f.Severity == finding.Info:
			tried = false
		}
		tried = tried && f.Code != servercheck.CodeUnfinished
	}
	var sum []string
	switch {
	case faults > 0:
		sum = append(sum, plural(faults, "fault"))
	case tried:
		sum = append(sum, "nothing is wrong")
	default:
		sum = append(sum, "nothing wrong was found, and not everything was tried")
	}
	if warnings > 0 {
		sum = append(sum, plural(warnings, "warning"))
	}
	return strings.Join(sum, "; ")
}
