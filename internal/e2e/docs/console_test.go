package docs

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// The commands in console blocks do in the lab what the documents say. A block starts with fresh hosts. The
// lines below a command are all that it prints, or parts of its log, or parts of what another program prints.
// A command that logs "ready" runs to the end of the block.
func TestDocsConsole(t *testing.T) {
	ran := 0
	for _, d := range documents(t) {
		for _, b := range d.of("console") {
			ran++
			t.Run(d.path, func(t *testing.T) {
				t.Parallel()
				newConsole(t, d).play(b)
			})
		}
	}
	if ran < 12 {
		t.Errorf("got %d console blocks; want 12 at least", ran)
	}
}

const prompt = "gateway# "

// defaultFile is what ftpgate reads without -c.
const defaultFile = "/etc/ftpgate/ftpgate.toml"

var (
	promptLine = regexp.MustCompile(`(?m)^(client|gateway)# `)
	// A comment at the end of a document says what the lab has to have for its blocks, and which names and
	// addresses of the document mean the lab's:
	//
	//	<!-- lab: NAME = OF-THE-LAB -->
	//	<!-- lab server: vsftpd SETTING... -->
	//	<!-- lab client: COMMAND -->
	//	<!-- lab gateway: COMMAND -->
	labComment = regexp.MustCompile(`(?m)^<!-- lab(?: (client|gateway|server))?: (.+) -->$`)
)

// console plays blocks of one document in a lab.
type console struct {
	t        *testing.T
	document document
	lab      *lab.Lab
	toLab    *strings.Replacer // the document's files, names and addresses become the test's
	back     *strings.Replacer // the reverse
	running  []*harness.Program
}

func newConsole(t *testing.T, d document) *console {
	c := &console{t: t, document: d, lab: labtest.New(t)}
	var pairs [][2]string // the document's text, the lab's
	if strings.Contains(d.text, "/etc/ftpgate/cert.pem") {
		authority := harness.NewAuthority(t)
		pair := authority.IssueGateway()
		pairs = [][2]string{{"/etc/ftpgate/cert.pem", pair.CertFile}, {"/etc/ftpgate/key.pem", pair.KeyFile},
			{"/etc/ftpgate/ca.pem", authority.CAFile}}
	}
	for _, m := range labComment.FindAllStringSubmatch(d.text, -1) {
		if from, to, found := strings.Cut(m[2], " = "); found && m[1] == "" {
			pairs = append(pairs, [2]string{from, to})
		}
	}
	c.toLab = replacer(pairs, false)
	for _, f := range d.of("toml") {
		if f.file != "" {
			path := harness.WriteFile(t, "ftpgate.toml", c.toLab.Replace(f.text))
			pairs = append(pairs, [2]string{f.file, path})
		}
	}
	c.toLab, c.back = replacer(pairs, false), replacer(pairs, true)
	for _, m := range labComment.FindAllStringSubmatch(d.text, -1) {
		switch m[1] {
		case "server":
			words := strings.Fields(m[2])
			if words[0] != "vsftpd" {
				t.Fatalf("%s: there is no server %s for the lab", d.path, words[0])
			}
			peers.VSFTPD(t, c.lab.Server(), harness.Forward4.Server, words[1:]...)
		case "client", "gateway":
			labtest.Need(t, strings.Fields(m[2])[0])
			harness.Shell(t, c.host(m[1]), "%s", m[2])
		}
	}
	return c
}

// replacer replaces the first texts of pairs by the second ones, or the reverse.
func replacer(pairs [][2]string, reverse bool) *strings.Replacer {
	var texts []string
	for _, p := range pairs {
		if reverse {
			p[0], p[1] = p[1], p[0]
		}
		texts = append(texts, p[0], p[1])
	}
	return strings.NewReplacer(texts...)
}

// host returns a host of the lab.
func (c *console) host(name string) *lab.Host {
	if name == "client" {
		return c.lab.Client()
	}
	return c.lab.Gateway()
}

// play runs the commands of a block.
func (c *console) play(b block) {
	starts := promptLine.FindAllStringSubmatchIndex(b.text, -1)
	if len(starts) == 0 || starts[0][0] != 0 {
		c.t.Fatalf("%s:%d: the block does not begin with a prompt", c.document.path, b.line)
	}
	for i, start := range starts {
		end := len(b.text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		line, output, _ := strings.Cut(b.text[start[1]:end], "\n")
		c.run(b, b.text[start[2]:start[3]], line, strings.TrimSpace(output))
	}
	for _, p := range c.running {
		p.Interrupt()
	}
}

// run runs one command, and compares what it prints.
func (c *console) run(b block, host, line, output string) {
	t := c.t
	t.Helper()
	want := strings.Split(output, "\n")
	if other, ours, piped := strings.Cut(line, " | ftpgate "); piped {
		labtest.Need(t, strings.Fields(other)[0])
		cmd := harness.Command(strings.Fields(ours)...)
		cmd.Stdin = strings.NewReader(harness.Shell(t, c.host(host), "%s", other))
		stdout, _, _ := harness.RunCommand(t, c.host(host), cmd)
		harness.WantContains(t, stdout, want...)
		return
	}
	args := strings.Fields(c.toLab.Replace(line))
	if args[0] != "ftpgate" {
		labtest.Need(t, args[0])
		harness.WantContains(t, harness.Shell(t, c.host(host), "%s", c.toLab.Replace(line)), want...)
		return
	}
	if slices.Contains([]string{"run", "check", "rules"}, args[1]) && !slices.Contains(args, "-c") {
		args = append(args, "-c", c.toLab.Replace(defaultFile))
	}
	if strings.Contains(output, "msg=ready") {
		p := harness.Start(t, c.host(host), args[1:]...).AwaitReady()
		c.running = append(c.running, p)
		for _, text := range want {
			p.AwaitLog(text, 1)
		}
		return
	}
	stdout, stderr, _ := harness.Run(t, c.host(host), args[1:]...)
	if strings.Contains(output, "level=") { // a log, with times
		harness.WantContains(t, stderr, want...)
		return
	}
	if got := strings.TrimSpace(c.back.Replace(stdout + stderr)); got != output {
		t.Errorf("%s:%d: %s\ngot\n%s\nwant\n%s", c.document.path, b.line, line, got, output)
	}
}
