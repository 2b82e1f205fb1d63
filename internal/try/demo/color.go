package demo

import (
	"bytes"
	"io"
	"regexp"
	"slices"
)

// The styles of lines, as terminals know them (ECMA-48, SGR).
const (
	plain  = "\x1b[0m"
	bold   = "\x1b[1m"
	faint  = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
)

// lineStyle is the style of lines that match. Each group of the expression has a style of its own.
type lineStyle struct {
	line   *regexp.Regexp
	groups []string
}

// lineStyles are the styles of the report's lines. The first that matches holds.
var lineStyles = []lineStyle{
	{regexp.MustCompile(`^(Act \d.*|The relay|How it went|===.*|-- .*)$`), []string{bold}},
	{regexp.MustCompile(`^(gateway[#$] .*|---> .*|verdict .*|remedy .*)$`), []string{bold}},
	{regexp.MustCompile(`^(     ~~~.*)$`), []string{yellow}},
	{regexp.MustCompile(`^(!!!!.*|Some steps.*|<--- [45]\d\d .*|---- Data connection failed.*)$`),
		[]string{red}},
	{regexp.MustCompile(`^       (kernel:.*)$`), []string{red}},
	{regexp.MustCompile(`^(All steps.*|       proxy:.*|.* is right|.*bytes are right|.*byte for byte)$`),
		[]string{green}},
	{regexp.MustCompile(`  (stalls|leaks [^,]*, no data|says [^,]*, no data) +(works)$`), []string{red,
		green}},
	{regexp.MustCompile(`  (FAILED)\b`), []string{red}},
	{regexp.MustCompile(`^(----.*)$`), []string{faint}},
}

// styled returns a line, without its end, with the styles of its groups.
func styled(line []byte) []byte {
	for _, s := range lineStyles {
		groups := s.line.FindSubmatchIndex(line)
		if groups == nil {
			continue
		}
		var out []byte
		end := 0
		for i, style := range s.groups {
			from, to := groups[2*i+2], groups[2*i+3]
			out = append(append(out, line[end:from]...), style...)
			out = append(append(out, line[from:to]...), plain...)
			end = to
		}
		return append(out, line[end:]...)
	}
	return slices.Clone(line)
}

// Colored returns a writer that gives the lines of the demo's report colours, for a terminal. A line is
// written when it is complete.
func Colored(out io.Writer) io.Writer { return &colorWriter{out: out} }

type colorWriter struct {
	out  io.Writer
	line []byte // without its end so far
}

// Write implements io.Writer.
func (w *colorWriter) Write(p []byte) (int, error) {
	w.line = append(w.line, p...)
	for {
		line, rest, whole := bytes.Cut(w.line, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		if _, err := w.out.Write(append(styled(line), '\n')); err != nil {
			return 0, err
		}
		w.line = rest
	}
}
