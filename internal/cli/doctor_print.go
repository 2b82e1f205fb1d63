package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/servercheck"
)

// heads has the word before a finding of each severity.
var heads = [...]string{finding.Fault: "FAULT", finding.Warning: "WARNING", finding.Info: "note",
	finding.OK: "OK"}

func (c *doctorCommand) print(w io.Writer, forwards []forward.Resolved, found []finding.Finding) error {
	if c.json {
		return printValue(w, struct {
			Findings []finding.Finding `json:"findings"`
			Worst    finding.Severity  `json:"worst"`
		}{append([]finding.Finding{}, found...), finding.Worst(found)})
	}
	return printLines(w, c.lines(terminal.Of(w), forwards, found))
}

// section is the findings about the host, or about one forward.
type section struct {
	title string
	found []finding.Finding // the worst first
}

// groupBySection groups findings by host and forward, and puts the section with the worst one first.
func groupBySection(forwards []forward.Resolved, found []finding.Finding) []section {
	all := []section{{title: "this host"}}
	of := map[string]int{"": 0}
	for _, f := range forwards {
		of[f.Name] = len(all)
		all = append(all, section{title: sectionTitle(f)})
	}
	for _, f := range found {
		w := &all[of[f.Forward]]
		w.found = append(w.found, f)
	}
	for _, w := range all {
		slices.SortStableFunc(w.found, func(a, b finding.Finding) int {
			return cmp.Compare(a.Severity, b.Severity)
		})
	}
	slices.SortStableFunc(all, func(a, b section) int {
		return cmp.Compare(finding.Worst(a.found), finding.Worst(b.found))
	})
	return all
}

func sectionTitle(f forward.Resolved) string {
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

// headWidth is the width of the word before a finding, in cells.
const headWidth = 9

// lines writes findings for people, and a summary at the end.
func (c *doctorCommand) lines(s terminal.Terminal, forwards []forward.Resolved,
	found []finding.Finding) []string {
	var lines []string
	for _, w := range groupBySection(forwards, found) {
		lines = append(lines, s.Wrap("", w.title)...)
		passed := 0
		for _, f := range w.found {
			if f.Severity == finding.OK && !c.all {
				passed++
				continue
			}
			lines = append(lines, s.Labelled("  "+heads[f.Severity], headWidth, f.Text)...)
			if f.Remedy != "" {
				lines = append(lines, s.Wrap(strings.Repeat(" ", headWidth+len(terminal.Gap)), "remedy: "+
					f.Remedy)...)
			}
		}
		if passed > 0 {
			lines = append(lines, s.Labelled("  OK", headWidth,
				finding.Plural(passed, "check")+" passed (--all lists them)")...)
		}
		lines = append(lines, "")
	}
	return append(lines, s.Wrap("", c.summary(found))...)
}

// summary sums up the findings in one line.
func (c *doctorCommand) summary(found []finding.Finding) string {
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
		sum = append(sum, finding.Plural(faults, "fault"))
	case tried:
		sum = append(sum, "nothing is wrong")
	default:
		sum = append(sum, "nothing wrong was found, and not everything was tried")
	}
	if warnings > 0 {
		sum = append(sum, finding.Plural(warnings, "warning"))
	}
	return strings.Join(sum, "; ")
}
