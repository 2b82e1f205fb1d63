package terminal

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text of clients and servers is printed on an operator's terminal. It must not control the terminal.

// Printable escapes all unprintable characters of a text: control characters with C1, characters that change
// the direction of writing, and bytes that are not UTF-8.
func Printable(text string) string { return escape(text, unicode.IsPrint) }

// printableCells also escapes characters that do not take one cell of a terminal, so that columns stay
// aligned.
func printableCells(text string) string { return escape(text, isOneCell) }

// beyondNarrow is the first character of scripts that run from right to left, or are wide (Unicode: Hebrew).
const beyondNarrow = 0x0590

func isOneCell(r rune) bool {
	return r < beyondNarrow && unicode.IsPrint(r) && !unicode.Is(unicode.M, r)
}

func escape(text string, keep func(rune) bool) string {
	plain := func(r rune) bool { return ' ' <= r && r <= '~' }
	if !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case plain(r), keep(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		text = text[size:]
	}
	return b.String()
}

// jsonPrinter copies JSON and escapes unprintable characters, which only strings contain, without changing
// its meaning. Its input may end within a rune.
type jsonPrinter struct {
	w    *bufio.Writer
	rest []byte
}

func (e *jsonPrinter) Write(p []byte) (int, error) {
	text := p
	if len(e.rest) > 0 {
		text = append(e.rest, p...)
	}
	for len(text) > 0 && utf8.FullRune(text) {
		r, size := utf8.DecodeRune(text)
		var err error
		switch {
		case r == '\n' || unicode.IsPrint(r):
			_, err = e.w.Write(text[:size])
		case r <= 0xffff:
			_, err = fmt.Fprintf(e.w, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			_, err = fmt.Fprintf(e.w, `\u%04x\u%04x`, high, low)
		}
		if err != nil {
			return 0, err
		}
		text = text[size:]
	}
	e.rest = append([]byte(nil), text...)
	return len(p), nil
}

// Bytes returns a number of bytes for people: "52 MB".
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	const units = "kMGTPE"
	for value >= 999.5 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %cB", value, units[unit])
	}
	return fmt.Sprintf("%.0f %cB", value, units[unit])
}

// Age returns a time for people, in its largest unit: "3m".
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// PrintableLines is Printable for each line of a text.
func PrintableLines(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		lines = append(lines, Printable(line))
	}
	return strings.Join(lines, "\n")
}

// PrintJSON prints the JSON that f writes, and escapes what could control the terminal.
func PrintJSON(w io.Writer, f func(io.Writer) error) error {
	out := &jsonPrinter{w: bufio.NewWriter(w)}
	if err := f(out); err != nil {
		return err
	}
	return out.w.Flush()
}
