package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen is where a command prints.
type screen struct {
	width, height int // in cells; 0: it is no terminal, and lines are as long as they are
}

// Of a terminal that does not know its size.
const (
	usualWidth  = 80
	usualHeight = 24
)

func screenOf(w io.Writer) screen {
	f, ok := w.(*os.File)
	if !ok {
		return screen{}
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return screen{}
	case size.Col == 0 || size.Row == 0:
		return screen{usualWidth, usualHeight}
	}
	return screen{int(size.Col), int(size.Row)}
}

func (s screen) isTerminal() bool { return s.width > 0 }

// text is what can be printed of a peer's words.
func (s screen) text(words string) string {
	if s.isTerminal() {
		return printableCells(words)
	}
	return printable(words)
}

// column is a column of a table.
type column struct {
	head  string
	right bool // its cells are flush with their right
	rank  int  // on a narrow terminal those of the highest rank are left out first, and those of rank 0 never
	most  int  // cells of the terminal that it may take; 0: as many as it needs
}

// gap is what stands between columns.
const gap = "  "

// leastLast is what a terminal should have left for the last column.
const leastLast = 22

// table aligns rows, of which a terminal gets as many columns as it has room for, the last one cut. All
// else gets everything.
func (s screen) table(columns []column, rows [][]string) []string {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = len(c.head)
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		if s.isTerminal() && c.most > 0 {
			widths[i] = min(widths[i], c.most)
		}
	}
	shown := s.fitting(columns, widths)
	lines := []string{s.line(columns, widths, shown, heads(columns))}
	for _, row := range rows {
		lines = append(lines, s.line(columns, widths, shown, row))
	}
	return lines
}

func heads(columns []column) []string {
	var heads []string
	for _, c := range columns {
		heads = append(heads, c.head)
	}
	return heads
}

// fitting returns the columns for which there is room.
func (s screen) fitting(columns []column, widths []int) []int {
	var shown []int
	for i := range columns {
		shown = append(shown, i)
	}
	for s.isTerminal() {
		last := len(columns) - 1
		need := min(widths[last], leastLast)
		worst := 0
		for _, i := range shown[:len(shown)-1] {
			need += widths[i] + len(gap)
			if columns[i].rank > columns[worst].rank {
				worst = i
			}
		}
		if need <= s.width || columns[worst].rank == 0 {
			break
		}
		shown = slices.DeleteFunc(shown, func(i int) bool { return i == worst })
	}
	return shown
}

func (s screen) line(columns []column, widths, shown []int, row []string) string {
	var b strings.Builder
	for n, i := range shown {
		cell := row[i]
		if cell == "" {
			cell = "-"
		}
		if n == len(shown)-1 {
			b.WriteString(cell)
			break
		}
		cell = cut(cell, widths[i])
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if columns[i].right {
			b.WriteString(pad + cell + gap)
		} else {
			b.WriteString(cell + pad + gap)
		}
	}
	if !s.isTerminal() {
		return b.String()
	}
	return cut(b.String(), s.width)
}

// cut shortens a text of single cells, visibly.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	const more = ".."
	kept := []rune(text)[:max(0, width-len(more))]
	return string(kept) + more[:min(width, len(more))]
}

// fact is a line with a name before it, wrapped where there is a width.
func (s screen) fact(name string, width int, text string) []string {
	return s.hang(fmt.Sprintf("%-*s", width, name)+gap, text)
}

// hang puts text behind a beginning, and breaks it at spaces, with what follows below its own beginning.
func (s screen) hang(begin, text string) []string {
	text = s.text(text)
	room := s.width - utf8.RuneCountInString(begin)
	if !s.isTerminal() || room < leastLast {
		return []string{strings.TrimRight(begin+text, " ")}
	}
	var lines []string
	for {
		piece := text
		if utf8.RuneCountInString(text) > room {
			piece = string([]rune(text)[:room+1])
			if at := strings.LastIndexByte(piece, ' '); at > 0 {
				piece = piece[:at]
			} else {
				piece = string([]rune(text)[:room]) // one long word
			}
		}
		lines = append(lines, strings.TrimRight(begin+piece, " "))
		if text = strings.TrimLeft(text[len(piece):], " "); text == "" {
			return lines
		}
		begin = strings.Repeat(" ", utf8.RuneCountInString(begin))
	}
}
