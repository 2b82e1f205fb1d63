package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/cli"
	"ftpgate/internal/e2e/harness"
)

// The documents are tested like the program: the tests try what they say.

// repositoryRoot is the path from this package.
const repositoryRoot = "../../.."

// document is a parsed Markdown file.
type document struct {
	path   string // from the repository's root
	text   string // all of it
	blocks []block
}

// block is a fenced block of a document.
type block struct {
	line       int
	lang, file string // "toml /etc/ftpgate/ftpgate.toml" is both
	text       string
}

var (
	fenced    = regexp.MustCompile("(?ms)^```([a-z]+)(?: ([^\n]+))?\n(.*?)^```$")
	codeSpan  = regexp.MustCompile("`([^`\n]+)`")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	source    = regexp.MustCompile(`\b(?:internal|cmd|docs|scripts)/[a-z0-9_./-]*[a-z0-9]`)
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	flagName  = regexp.MustCompile(`^(--[a-z][a-z-]*|-[a-zA-Z])(=.*)?$`)
	helpFlag  = regexp.MustCompile(`(?m)^ +(?:(-[a-zA-Z]), )?(--[a-z][a-z-]*)`)
	helpUsage = regexp.MustCompile(`(?m)^Usage:\n  ftpgate ?([a-z ]*)`)
	calling   = regexp.MustCompile(`(?:^|[\s/])ftpgate ([a-z-][^|&;#]*)`)
	word      = regexp.MustCompile(`"([^"]*)"|(\S+)`)
	codeName  = regexp.MustCompile(`^[a-z]+(_[a-z0-9]+)+( = .*)?$`)
	configKey = regexp.MustCompile(`(?m)^([a-z_]+) *=`)
)

// documents reads every document of the repository.
func documents(t *testing.T) []document {
	t.Helper()
	paths, err := filepath.Glob(repositoryRoot + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(repositoryRoot+"/docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var docs []document
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := document{path: strings.TrimPrefix(path, repositoryRoot+"/"), text: string(text)}
		for _, m := range fenced.FindAllStringSubmatchIndex(d.text, -1) {
			line := 1 + strings.Count(d.text[:m[0]], "\n")
			b := block{line: line, lang: d.text[m[2]:m[3]], text: d.text[m[6]:m[7]]}
			if m[4] >= 0 {
				b.file = d.text[m[4]:m[5]]
			}
			d.blocks = append(d.blocks, b)
		}
		if n := strings.Count("\n"+d.text, "\n```"); n != 2*len(d.blocks) {
			t.Fatalf("%s: %d fences and %d blocks: a fence has no language, or is not closed", d.path, n,
				len(d.blocks))
		}
		docs = append(docs, d)
	}
	return docs
}

// named returns one document.
func named(t *testing.T, path string) document {
	t.Helper()
	docs := documents(t)
	i := slices.IndexFunc(docs, func(d document) bool { return d.path == path })
	if i < 0 {
		t.Fatalf("there is no %s", path)
	}
	return docs[i]
}

// of returns the blocks of a language.
func (d document) of(lang string) []block {
	return slices.DeleteFunc(slices.Clone(d.blocks), func(b block) bool { return b.lang != lang })
}

// prose is the text without fenced blocks.
func (d document) prose() string { return fenced.ReplaceAllString(d.text, "") }

// run runs a command that needs neither a lab nor privileges.
func ask(args ...string) (stdout, stderr string, status int) {
	var out, errs strings.Builder
	status = cli.Main(args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), status
}

// Configuration files in documents are valid. Those called bad... are not.
func TestDocsFiles(t *testing.T) {
	found := 0
	for _, d := range documents(t) {
		for _, b := range d.of("toml") {
			found++
			want := 0
			if strings.HasPrefix(b.file, "bad") {
				want = 2
			}
			_, faults, status := ask("check", "-c", harness.WriteFile(t, "ftpgate.toml", b.text))
			if status != want {
				t.Errorf("%s:%d: ftpgate check: got exit status %d; want %d\n%s", d.path, b.line, status,
					want, faults)
			}
		}
	}
	if found < 3 {
		t.Errorf("got %d files in all documents; want 3 at least", found)
	}
}

// The rules in docs/rules.md belong to the configuration file in it.
func TestDocsRules(t *testing.T) {
	d := named(t, "docs/rules.md")
	files, rulesets := d.of("toml"), d.of("nft")
	if len(files) != 1 || len(rulesets) != 1 {
		t.Fatalf("%s: got %d files and %d rulesets; want one of each", d.path, len(files), len(rulesets))
	}
	got, stderr, status := ask("rules", "-c", harness.WriteFile(t, "ftpgate.toml", files[0].text))
	if status != 0 {
		t.Fatalf("ftpgate rules: got exit status %d; want 0\n%s", status, stderr)
	}
	if rulesets[0].text != got {
		t.Errorf("%s:%d: ftpgate rules prints other rules for the file in it:\n%s", d.path, rulesets[0].line,
			got)
	}
}

// commandFlags has the flags of each command, short and long, as --help lists them.
type commandFlags map[string][]string

// help asks the program for its commands and their flags.
func help(t *testing.T) commandFlags {
	t.Helper()
	known := commandFlags{}
	var learn func(args ...string)
	learn = func(args ...string) {
		name := strings.Join(args, " ")
		text, stderr, status := ask(append([]string{"help"}, args...)...)
		if usage := helpUsage.FindStringSubmatch(text); status != 0 || usage == nil ||
			!strings.HasPrefix(usage[1]+" ", name+" ") {
			t.Fatalf("ftpgate help %s: got exit status %d and\n%s%s\nwant the command's help", name, status,
				text, stderr)
		}
		flags := []string{}
		_, list, _ := strings.Cut(text, "\nFlags:\n")
		for _, m := range helpFlag.FindAllStringSubmatch(list, -1) {
			flags = append(flags, slices.DeleteFunc(m[1:], func(s string) bool { return s == "" })...)
		}
		known[name] = flags
		_, list, _ = strings.Cut(text, "Available Commands:\n")
		list, _, _ = strings.Cut(list, "\n\n")
		for line := range strings.Lines(list) {
			if sub := strings.Fields(line); len(sub) > 0 && sub[0] != "help" {
				learn(append(slices.Clone(args), sub[0])...)
			}
		}
	}
	learn()
	return known
}

// Commands and flags in documents exist.
func TestDocsCommands(t *testing.T) {
	known := help(t)
	var every []string
	for _, flags := range known {
		every = append(every, flags...)
	}
	named := 0
	for _, d := range documents(t) {
		var lines []string
		for _, b := range d.blocks {
			for line := range strings.Lines(b.text) {
				if b.lang == "sh" || b.lang == "text" || b.lang == "console" &&
					strings.HasPrefix(line, prompt) {
					lines = append(lines, strings.TrimSpace(line))
				}
			}
		}
		for _, m := range codeSpan.FindAllStringSubmatch(d.prose(), -1) {
			lines = append(lines, m[1])
			flag, _, _ := strings.Cut(strings.Fields(m[1])[0], "=")
			if flagName.MatchString(flag) && !slices.Contains(every, flag) {
				t.Errorf("%s: `%s`: no command has this flag", d.path, m[1])
			}
		}
		for _, line := range lines {
			for _, call := range calls(line) {
				named++
				if err := known.fault(call); err != "" {
					t.Errorf("%s: %s: %s", d.path, line, err)
				}
			}
		}
	}
	if named < 30 {
		t.Errorf("got %d commands named in all documents; want 30 at least: are they found?", named)
	}
}

// calls returns the words after each "ftpgate" of a line: one command may run another. Behind rc-service it
// is the name of the service.
func calls(line string) [][]string {
	var found [][]string
	line = strings.ReplaceAll(line, "rc-service ftpgate ", "rc-service ")
	for {
		m := calling.FindStringSubmatchIndex(line)
		if m == nil {
			return found
		}
		line = line[m[2]:]
		text, _, _ := strings.Cut(line[:m[3]-m[2]], " ftpgate ")
		found = append(found, words(text))
	}
}

// words returns the words of a command line, as a shell divides it; quotation marks of the one kind that the
// documents use are taken off.
func words(line string) (found []string) {
	for _, m := range word.FindAllStringSubmatch(line, -1) {
		found = append(found, m[1]+m[2])
	}
	return found
}

// fault returns what is wrong with a command line, or "". lab exec runs other programs.
func (known commandFlags) fault(call []string) string {
	command := ""
	for len(call) > 0 {
		next := strings.TrimSpace(command + " " + call[0])
		if known[next] == nil {
			break
		}
		command, call = next, call[1:]
	}
	if command == "" && len(call) > 0 && !strings.HasPrefix(call[0], "-") {
		return "there is no such command"
	}
	if command == "lab exec" {
		return ""
	}
	for _, word := range call {
		word, _, _ = strings.Cut(strings.Trim(word, "[]"), "=")
		if flagName.MatchString(word) && !slices.Contains(known[command], word) {
			return "ftpgate " + command + " has no flag " + word
		}
	}
	return ""
}

// The manual has every command and every flag. docs/configuration.md has every key.
func TestDocsComplete(t *testing.T) {
	manual := named(t, "docs/man/ftpgate.8.md").text
	for command, flags := range help(t) {
		if !strings.Contains(manual, "ftpgate "+command) {
			t.Errorf("docs/man/ftpgate.8.md: ftpgate %s is missing", command)
		}
		for _, f := range flags {
			if !strings.Contains(manual, "`"+f) {
				t.Errorf("docs/man/ftpgate.8.md: %s of ftpgate %s is missing", f, command)
			}
		}
	}
	reference, err := os.ReadFile(repositoryRoot + "/internal/config/ftpgate.toml")
	if err != nil {
		t.Fatal(err)
	}
	keys := named(t, "docs/configuration.md").text
	for _, m := range configKey.FindAllStringSubmatch(string(reference), -1) {
		if !strings.Contains(keys, "| `"+m[1]+"` |") {
			t.Errorf("docs/configuration.md: the key %s is missing", m[1])
		}
	}
}

// Links between documents have a target, and packages and files that they name exist.
func TestDocsLinks(t *testing.T) {
	for _, d := range documents(t) {
		for _, path := range source.FindAllString(link.ReplaceAllString(d.prose(), "]"), -1) {
			if _, err := os.Stat(filepath.Join(repositoryRoot, path)); err != nil {
				t.Errorf("%s: %s: %v", d.path, path, err)
			}
		}
		for _, m := range link.FindAllStringSubmatch(d.prose(), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := filepath.Join(repositoryRoot, filepath.Dir(d.path), path)
			if path == "" {
				target = filepath.Join(repositoryRoot, d.path)
			}
			text, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: link %s: %v", d.path, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(string(text)), anchor) {
				t.Errorf("%s: link %s: %s has no such heading", d.path, m[1], target)
			}
		}
	}
}

// anchors returns the anchors of a document's headings: lower case, without punctuation, with hyphens
// for spaces.
func anchors(text string) []string {
	var names []string
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ' || r == '-':
				return '-'
			case r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				return r
			}
			return -1
		}, strings.ToLower(m[1])))
	}
	return names
}

// Codes and keys that the page of symptoms names are explained where it sends the reader.
func TestDocsTroubleshooting(t *testing.T) {
	explained := ""
	for _, path := range []string{"messages", "doctor", "configuration"} {
		explained += named(t, "docs/"+path+".md").text
	}
	d := named(t, "docs/troubleshooting.md")
	found := 0
	for _, m := range codeSpan.FindAllStringSubmatch(d.prose(), -1) {
		if !codeName.MatchString(m[1]) || slices.Contains([]string{"pasv_address", "accept_ra=2"}, m[1]) {
			continue
		}
		found++
		name, _, _ := strings.Cut(m[1], " ")
		if !strings.Contains(explained, name+"`") && !strings.Contains(explained, "| "+name+" |") {
			t.Errorf("%s: `%s`: there is no such code or key", d.path, m[1])
		}
	}
	if found < 40 {
		t.Errorf("%s: got %d codes; want 40 at least: are they found?", d.path, found)
	}
}
