package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2/unstable"
)

// The documents that are made from the table of keys, in the parts between two marks:
//
//	<!-- keys: GROUP -->   one row of a table, or one item of a list, for each key
//	<!-- end of keys -->
//
// go test ./internal/config -run TestDocuments -update writes these parts.
var documents = []struct {
	path   string
	groups map[string]func(Key) bool // the keys of each part; together they are all
	render func([]Key) string
}{
	{"../../docs/configuration.md", byTable, keyTable},
	{"../../docs/man/ftpgate.8.md", map[string]func(Key) bool{
		"forward":  func(k Key) bool { return k.table == forwardTable && k.Needs == "" },
		"proxy":    func(k Key) bool { return k.table == forwardTable && k.Needs == NeedProxy },
		"outbound": func(k Key) bool { return k.table == outboundTable },
		"tls":      func(k Key) bool { return k.table == tlsTable },
		"rest":     func(k Key) bool { return k.table != tlsTable && !outboundTable.has(&k) && !k.published },
	}, flagList},
	{"../../docs/man/ftpgate.toml.5.md", byTable, keyList},
}

// byTable groups keys by their tables, and those of a forward by what they need.
var byTable = map[string]func(Key) bool{
	"top":      func(k Key) bool { return k.table == topTable },
	"forward":  func(k Key) bool { return k.table == forwardTable && k.Needs == "" },
	"proxy":    func(k Key) bool { return k.table == forwardTable && k.Needs == NeedProxy },
	"outbound": func(k Key) bool { return k.table == outboundTable },
	"tls":      func(k Key) bool { return k.table == tlsTable },
	"admin":    func(k Key) bool { return k.table == adminTable },
	"log":      func(k Key) bool { return k.table == logTable },
}

// part matches a marked part of a document: its group, and the text between the marks.
var part = regexp.MustCompile(`(?s)(<!-- keys: (\w+) -->\n)(.*?)(<!-- end of keys -->)`)

// TestDocuments: the documents have every key as the table of keys has it.
func TestDocuments(t *testing.T) {
	for _, doc := range documents {
		text, err := os.ReadFile(doc.path)
		if err != nil {
			t.Fatal(err)
		}
		var groups []string
		made := part.ReplaceAllStringFunc(string(text), func(old string) string {
			m := part.FindStringSubmatch(old)
			groups = append(groups, m[2])
			in := doc.groups[m[2]]
			if in == nil {
				t.Errorf("%s: got a part of keys %q; want one of the groups", doc.path, m[2])
				return old
			}
			chosen := slices.DeleteFunc(Keys(), func(k Key) bool { return !in(k) })
			want := "\n" + doc.render(chosen) + "\n"
			if want != m[3] && !*update {
				t.Errorf("%s: the keys %q are not as in the table of keys: got\n%s\nwant\n%s\n"+
					"(go test ./internal/config -run TestDocuments -update writes it)", doc.path, m[2], m[3],
					want)
			}
			return m[1] + want + m[4]
		})
		if slices.Sort(groups); len(slices.Compact(groups)) != len(doc.groups) {
			t.Errorf("%s: got parts for %q; want each group once", doc.path, groups)
		}
		if *update {
			if err := os.WriteFile(doc.path, []byte(made), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDocumentGroups: each key is in one part of each document.
func TestDocumentGroups(t *testing.T) {
	for _, doc := range documents {
		for _, k := range keys {
			n := 0
			for _, in := range doc.groups {
				if in(k) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%s: got %s in %d parts; want one", doc.path, k.Name, n)
			}
		}
	}
}

// keyTable returns the keys as a table in Markdown.
func keyTable(keys []Key) string {
	lines := []string{"| key | value | default | flag |", "|---|---|---|---|"}
	for _, k := range keys {
		lines = append(lines, fmt.Sprintf("| `%s` | %s | %s | %s |", k.shortName(), k.valueDoc(),
			k.defaultDoc(), k.flagDoc()))
	}
	return strings.Join(lines, "\n") + "\n"
}

// keyList returns the keys as a list in Markdown, for a manual page. Links lead to the document with the
// tables.
func keyList(keys []Key) string {
	var items []string
	for _, k := range keys {
		doc := strings.ReplaceAll(k.valueDoc(), "](#", "](../configuration.md#")
		end := "Default " + k.defaultDoc()
		if strings.HasPrefix(k.Otherwise, mustBeGiven) {
			end = "It " + k.defaultDoc()
		}
		items = append(items, wrap(fmt.Sprintf("- `%s`: %s. %s.", k.shortName(), doc, end), 100))
	}
	return strings.Join(items, "\n") + "\n"
}

func (k Key) valueDoc() string {
	doc := k.Doc
	if doc == "" {
		doc = k.Help
	}
	if k.bounds != "" {
		doc += " (" + k.bounds + ")"
	}
	return markCode(doc)
}

// markCode marks the code of a text for Markdown.
func markCode(text string) string {
	return codeSpan.ReplaceAllStringFunc(text, func(span string) string {
		if span[0] == '"' {
			return "`" + span + "`"
		}
		return strings.ReplaceAll(span, "'", "`")
	})
}

// tomlDefault returns the default as a file writes it.
func (k Key) tomlDefault() string {
	switch k.kind {
	case unstable.String:
		return fmt.Sprintf("%q", k.Default)
	case unstable.Array:
		return "[" + k.Default + "]"
	}
	return k.Default
}

func (k Key) defaultDoc() string {
	if k.Otherwise != "" {
		return markCode(k.Otherwise)
	}
	return "`" + k.tomlDefault() + "`"
}

func (k Key) flagDoc() string {
	flag := k.Flag()
	if flag == "" {
		return k.Argument
	}
	doc := "`--" + flag + "`"
	if k.IsList() {
		doc += ", with commas or once for each"
	}
	if k.FlagDefault != "" {
		doc += "; its default is `" + k.FlagDefault + "`"
	}
	return doc
}

// flagList returns the flags of keys as a list in Markdown.
func flagList(keys []Key) string {
	var items []string
	for _, k := range keys {
		if k.Flag() == "" {
			continue
		}
		argument := " " + k.Argument
		switch {
		case k.IsBool():
			argument = ""
		case len(k.words) > 0:
			argument = " " + strings.Join(k.words, "|")
		}
		help, _, _ := strings.Cut(k.HelpText(), " (default ")
		if len(k.words) > 0 {
			help = k.Help
		}
		item := fmt.Sprintf("- `--%s%s`: %s.", k.Flag(), argument, help)
		items = append(items, wrap(item+manDefault(k), 100))
	}
	return strings.Join(items, "\n") + "\n"
}

func manDefault(k Key) string {
	if _, otherwise, found := strings.Cut(k.HelpText(), " (default "); found {
		return " Default " + strings.TrimSuffix(otherwise, ")") + "."
	}
	switch {
	case k.FlagDefault != "":
		return fmt.Sprintf(" Default `%s`.", k.FlagDefault)
	case k.Default != "":
		return fmt.Sprintf(" Default `%s`.", k.Default)
	}
	return ""
}

// wrap breaks an item of a list at spaces.
func wrap(text string, width int) string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), " "
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return strings.Join(append(lines, line), "\n")
}

// TestReferenceDefaults: the comment above each key of the reference file says what holds without it.
func TestReferenceDefaults(t *testing.T) {
	d := newDocument([]byte(reference))
	d.read()
	lines := strings.Split(reference, "\n")
	for i, k := range keys {
		s := d.states[i]
		for _, f := range d.forwards {
			if i < forwardKeyCount && f.states[i].given &&
				commentAbove(lines, d.line(f.states[i].key)) != "" {
				s = f.states[i]
				break
			}
		}
		if k.missing != "" {
			continue
		}
		comment, want := commentAbove(lines, d.line(s.key)), "Default: "+k.tomlDefault()+"."
		switch {
		case strings.HasPrefix(k.Otherwise, mustBeGiven):
			want = "M" + markCode(k.Otherwise)[1:] + "."
		case k.Otherwise != "":
			want = "Default: " + markCode(k.Otherwise) + "."
		}
		if !strings.Contains(comment, want) {
			t.Errorf("%s: got the comment\n%s\nwant %q in it", k.Name, comment, want)
		}
	}
}

// commentAbove returns the comment above a line, counted from 1, as one line.
func commentAbove(lines []string, line int) string {
	first := line - 1
	for first > 0 && strings.HasPrefix(lines[first-1], "#") {
		first--
	}
	var words []string
	for _, l := range lines[first : line-1] {
		words = append(words, strings.Fields(strings.TrimPrefix(l, "#"))...)
	}
	return strings.Join(words, " ")
}

// TestDocWords: the documents name each word that a key takes.
func TestDocWords(t *testing.T) {
	for _, k := range keys {
		for _, word := range k.words {
			if !strings.Contains(k.Doc, `"`+word+`"`) {
				t.Errorf("%s: got no %q in %q; want every word", k.Name, word, k.Doc)
			}
		}
	}
}
