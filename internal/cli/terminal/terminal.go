// Package terminal lays out what commands print: tables that fit the terminal, wrapped lines, numbers for
// people. It lets through nothing that a peer could send to control the terminal.
package terminal

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Terminal is where a command prints, if it has a size; else it is a pipe or a file.
type Terminal struct {
	Width, Height int  // in cells; 0: it is no terminal, and lines may have any length
	ASCII         bool // it shows no other characters
}

// The size of a terminal that does not know it.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// Of returns the terminal that w prints on, with its size of the moment.
func Of(w io.Writer) Terminal {
	f, ok := w.(*os.File)
	if !ok {
		return Terminal{}
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return Terminal{}
	case size.Col == 0 || size.Row == 0:
		return Terminal{Width: defaultWidth, Height: defaultHeight}
	}
	return Terminal{Width: int(size.Col), Height: int(size.Row)}
}

// IsTerminal reports whether it is a terminal.
func (s Terminal) IsTerminal() bool { return s.Width > 0 }

// Colors reports whether colours may be printed: not where NO_COLOR is set (no-color.org), nor on a terminal
// that has none. getenv is os.Getenv.
func (s Terminal) Colors(getenv func(string) string) bool {
	return s.IsTerminal() && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// Text returns a peer's words so that they can be printed.
func (s Terminal) Text(words string) string {
	switch {
	case s.ASCII:
		return escape(words, func(rune) bool { return false })
	case s.IsTerminal():
		return printableCells(words)
	}
	return Printable(words)
}

// Column is a column of a table.
type Column struct {
	Head  string
	Right bool // its cells are aligned to the right
	Rank  int  // a narrow terminal leaves out the highest rank first, and rank 0 never
	Most  int  // its widest on a terminal, in cells; 0: as wide as it needs
	Least int  // of the last one: the room that a terminal should have left for it; 0: 22 cells
}

// Gap separates columns.
const Gap = "  "

// minLastColumn is the room that a terminal should have left for the last column, in cells.
const minLastColumn = 22

// Table aligns rows. A terminal gets as many columns as fit, and the last one cut; a pipe or a file gets
// everything.
func (s Terminal) Table(columns []Column, rows [][]string) []string {
	heads, widths := make([]string, len(columns)), make([]int, len(columns))
	rows = append([][]string{heads}, rows...)
	for i, c := range columns {
		heads[i] = c.Head
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		if s.IsTerminal() && c.Most > 0 {
			widths[i] = min(widths[i], c.Most)
		}
	}
	visible := s.fittingColumns(columns, widths)
	var lines []string
	for _, row := range rows {
		lines = append(lines, s.row(columns, widths, visible, row))
	}
	return lines
}

func (s Terminal) fittingColumns(columns []Column, widths []int) []int {
	var visible []int
	for i := range columns {
		visible = append(visible, i)
	}
	for s.IsTerminal() {
		last := len(columns) - 1
		need := min(widths[last], cmp.Or(columns[last].Least, minLastColumn))
		worst := visible[0]
		for _, i := range visible[:len(visible)-1] {
			need += widths[i] + len(Gap)
			if columns[i].Rank > columns[worst].Rank {
				worst = i
			}
		}
		if need <= s.Width || columns[worst].Rank == 0 {
			break
		}
		visible = slices.DeleteFunc(visible, func(i int) bool { return i == worst })
	}
	return visible
}

func (s Terminal) row(columns []Column, widths, visible []int, row []string) string {
	var b strings.Builder
	for n, i := range visible {
		cell := row[i]
		if cell == "" {
			cell = "-"
		}
		if n == len(visible)-1 {
			b.WriteString(cell)
			break
		}
		cell = Cut(cell, widths[i])
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if columns[i].Right {
			b.WriteString(pad + cell + Gap)
		} else {
			b.WriteString(cell + pad + Gap)
		}
	}
	if !s.IsTerminal() {
		return b.String()
	}
	return Cut(b.String(), s.Width)
}

// Cut shortens a text of single cells to a width, and marks the cut.
func Cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	const more = ".."
	kept := []rune(text)[:max(0, width-len(more))]
	return string(kept) + more[:min(width, len(more))]
}

// Labelled returns a text with a name before it, wrapped on a terminal.
func (s Terminal) Labelled(name string, width int, text string) []string {
	return s.Wrap(fmt.Sprintf("%-*s", width, name)+Gap, text)
}

// Wrap puts text behind a beginning. On a terminal it breaks the text at spaces, and indents the further
// lines as far as the beginning is long.
func (s Terminal) Wrap(begin, text string) []string {
	text = s.Text(text)
	room := s.Width - utf8.RuneCountInString(begin)
	if !s.IsTerminal() || room < minLastColumn {
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
