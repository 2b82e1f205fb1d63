package scenario

import (
	"fmt"
	"io"
	"strings"
)

// row is a session's row of the table.
type row struct {
	tracking, mode            string  // of its control connection, and of its data connections
	listing, download, upload string  // empty: not tried
	rate                      float64 // of the download, in MiB/s
}

const (
	okCell     = "ok"
	failedCell = "FAILED"
)

// printTable prints the result of each session, in 80 columns. title is that of the first column.
func (s *scenario) printTable(title string) {
	const format = "%-9s %-24s %-16s %-16s %s\n"
	fmt.Fprint(s.out, "\n")
	printHeader(s.out, format, title, "data connections", "listing", "download", "upload")
	for _, r := range s.rows {
		fmt.Fprintf(s.out, format, r.tracking, r.mode, orDash(r.listing), orDash(r.download),
			orDash(r.upload))
	}
}

// printHeader prints the titles of columns, and a line below each.
func printHeader(out io.Writer, format string, titles ...any) {
	fmt.Fprintf(out, format, titles...)
	for i, title := range titles {
		titles[i] = strings.Repeat("-", len(fmt.Sprint(title)))
	}
	fmt.Fprintf(out, format, titles...)
}

func orDash(cell string) string {
	if cell == "" {
		return "-"
	}
	return cell
}

// wrapCommand breaks a long command line before its last two words, which are LISTEN and SERVER, or before
// the last flag if the first line would still be too long.
func wrapCommand(command string) string {
	const room = 80 - len("gateway# ")
	if len(command) <= room {
		return command
	}
	words := strings.Fields(command)
	head, tail := strings.Join(words[:len(words)-2], " "), strings.Join(words[len(words)-2:], " ")
	if at := strings.LastIndex(head, " --"); len(head)+len(" \\") > room {
		head, tail = head[:at], head[at+1:]+" "+tail
	}
	return head + " \\\n           " + tail
}

// foldText breaks text into lines of at most 80 columns. Each starts with indent.
func foldText(text, indent string) string {
	var b strings.Builder
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+len(line)+1+len(word) > 80 {
			b.WriteString(indent + line + "\n")
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return b.String() + indent + line + "\n"
}
