package config

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"ftpgate/internal/core/finding"
)

// Faults is every fault of a file, in the order of their places, as an error. Their text begins with the
// forward that it is about, if any.
type Faults []finding.Finding

const (
	maxFaults    = 1000 // more are counted, not listed: a file like that is no configuration file
	maxFaultText = 400  // bytes; a quoted word may be as long as the file
)

// Error returns the faults, one a line.
func (fs Faults) Error() string {
	return finding.Join(fs, "\n")
}

// shortened returns a text of at most maxFaultText bytes, or little more: the middle of a longer one is left
// out.
func shortened(text string) string {
	if len(text) <= maxFaultText {
		return text
	}
	const half = maxFaultText / 2
	return strings.ToValidUTF8(text[:half], "") + " ... " + strings.ToValidUTF8(text[len(text)-half:], "")
}

// rawFault is a fault before the whole text is read: its place is an offset, and the name of its forward may
// follow.
type rawFault struct {
	at      int
	forward *forwardSection // nil: it is about none
	key     string
	text    string
}

// placedFaults returns the faults as an operator reads them.
func (d *document) placedFaults(file string) Faults {
	d.sortFaults()
	listed := d.faults[:min(len(d.faults), maxFaults)]
	faults := make(Faults, len(listed))
	from, column := 0, 1 // count on from the fault before: a line may be as long as the file
	for i, f := range listed {
		line := d.line(f.at)
		if start := d.lines[line-1]; start > from {
			from, column = start, 1
		}
		column += utf8.RuneCount(d.text[from:f.at])
		from = f.at
		text := f.text
		if f.forward != nil {
			text = f.forward.label() + ": " + text
		}
		faults[i] = finding.Finding{Place: finding.Place{File: file, Line: line, Column: column},
			Key: f.key, Text: text}
	}
	if more := len(d.faults) - len(listed); more > 0 {
		faults = append(faults, finding.Finding{Place: faults[len(faults)-1].Place,
			Text: finding.Plural(more, "fault") + " more than this list has"})
	}
	return faults
}

func (d *document) sortFaults() {
	slices.SortStableFunc(d.faults, func(a, b rawFault) int { return cmp.Compare(a.at, b.at) })
}

// line returns the line of an offset, from 1. The first call indexes the lines: a sound file needs none.
func (d *document) line(at int) int {
	if d.lines == nil {
		d.lines = append(d.lines, 0)
		for i, c := range d.text {
			if c == '\n' {
				d.lines = append(d.lines, i+1)
			}
		}
	}
	return sort.SearchInts(d.lines, at+1)
}

// lineText returns a line's text, with its line break.
func (d *document) lineText(line int) string {
	end := len(d.text)
	if line < len(d.lines) {
		end = d.lines[line]
	}
	return string(d.text[d.lines[line-1]:end])
}
