package scenario

import (
	"fmt"
	"io"
	"strings"
)

// row is a session's row of the table.
type row struct {
	tracking, mode            string // of its control connection, and of its data connections
	listing, download, upload string // empty: not tried
}

const (
	okCell     = "ok"
	failedCell = "FAILED"
)

// printResults prints the end: the tables of the acts that ran, the comparison of both trackings last, and
// the explanation of the session that failed. column is the title of the first table's first column.
func (s *scenario) printResults(column string) {
	s.printTitle("How it went")
	if len(s.rows) > 0 {
		fmt.Fprintln(s.out)
		s.printTable(column)
	}
	if s.ftps != "" {
		fmt.Fprintf(s.out, "\n%s", s.ftps)
	}
	if s.comparison != "" {
		s.printHeading("What decides: servers that the kernel's helper cannot follow")
		fmt.Fprint(s.out, s.comparison)
	}
	if s.explained != "" {
		s.printHeading("Why a session failed: the client of act 4 that wanted FTPS")
		fmt.Fprintf(s.out, "%sftpgate explain 1\n%s", s.prompt, s.explained)
	}
}

// printTable prints the result of each session, in 80 columns. column is the title of the first column.
func (s *scenario) printTable(column string) {
	const format = "%-9s %-24s %-16s %-16s %s\n"
	printHeader(s.out, format, column, "data connections", "listing", "download", "upload")
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
