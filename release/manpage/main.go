// Command manpage makes manual pages of the pages in docs/man: NAME.SECTION.md becomes NAME.SECTION, for
// man(1). It reads nothing but the pages, so that the same pages always become the same manual.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

func main() {
	var e edition
	flag.StringVar(&e.program, "program", "ftpgate", "the program and its release, as the foot of a page "+
		"has it")
	flag.StringVar(&e.date, "date", "", "the `DATE` of the release, as the foot of a page has it")
	flag.StringVar(&e.documents, "documents", "/usr/share/doc/ftpgate",
		"the `DIRECTORY` of the other documents")
	into := flag.String("into", ".", "the `DIRECTORY` for the manual pages")
	flag.Parse()
	for _, page := range flag.Args() {
		if err := write(e, page, *into); err != nil {
			fmt.Fprintln(os.Stderr, "manpage:", err)
			os.Exit(1)
		}
	}
}

// write makes the manual page of one file.
func write(e edition, page, into string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	made, err := e.manual(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(filepath.Join(into, strings.TrimSuffix(filepath.Base(page), ".md")), made, 0o644)
}

// edition is what manual pages say of the release that they belong to.
type edition struct {
	program, date string
	documents     string // the directory of docs/ on the host
}

var (
	title      = regexp.MustCompile(`^# ([a-z.]+)\(([0-9])\)\n`)
	manualLink = regexp.MustCompile(`\[([a-z.]+\([0-9]\))\]\([a-z.]+\.[0-9]\.md\)`)
	otherLink  = regexp.MustCompile(`\]\(\.\./([a-z]+\.md)(?:#[a-z-]+)?\)`)
	section    = regexp.MustCompile(`(?m)^## .+$`)
)

// sections names the sections of the manual (man-pages(7)).
var sections = map[string]string{"5": "File Formats", "8": "System Administration"}

// manual returns a page of Markdown as man(1) reads it. Its first line is "# NAME(SECTION)". A link to
// another manual page becomes its name, and one to a document the document's place on the host.
func (e edition) manual(text string) ([]byte, error) {
	m := title.FindStringSubmatch(text)
	if m == nil || sections[m[2]] == "" {
		return nil, fmt.Errorf("the first line is not \"# NAME(SECTION)\", with section 5 or 8")
	}
	body := manualLink.ReplaceAllString(text[len(m[0]):], "**$1**")
	body = otherLink.ReplaceAllString(body, "]("+e.documents+"/$1)")
	body = section.ReplaceAllStringFunc(body, strings.ToUpper)
	head := fmt.Sprintf("%% %q %q %q %q %q\n", strings.ToUpper(m[1]), m[2], e.date, e.program, sections[m[2]])
	return md2man.Render([]byte(head + body)), nil
}
