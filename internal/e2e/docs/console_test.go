package docs

import (
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab/labtest"
)

// The commands in console blocks do in the lab what the documents say. A block starts with a fresh
// gateway. The lines below a command are all that it prints, or parts of its log. A command that logs
// "ready" runs to the end of the block.
func TestDocsConsole(t *testing.T) {
	ran := 0
	for _, d := range documents(t) {
		for _, b := range d.of("console") {
			ran++
			t.Run(d.path, func(t *testing.T) { consoleBlock(t, d, b) })
		}
	}
	if ran < 5 {
		t.Errorf("got %d console blocks; want 5 at least", ran)
	}
}

const prompt = "gateway# "

// defaultFile is what ftpgate reads without -c.
const defaultFile = "/etc/ftpgate/ftpgate.toml"

func consoleBlock(t *testing.T, d document, b block) {
	l := labtest.New(t)
	var to, from []string // the documents' names of files, and the test's
	for _, f := range d.of("toml") {
		if f.file != "" {
			path := harness.WriteFile(t, "ftpgate.toml", f.text)
			to, from = append(to, f.file, path), append(from, path, f.file)
		}
	}
	files, back := strings.NewReplacer(to...), strings.NewReplacer(from...)

	var running []*harness.Program
	for _, part := range strings.Split("\n"+b.text, "\n"+prompt)[1:] {
		line, output, _ := strings.Cut(part, "\n")
		want := strings.Split(strings.TrimSpace(output), "\n")
		args := strings.Fields(line)
		switch {
		case args[0] != "ftpgate":
			labtest.Need(t, args[0])
			harness.WantContains(t, harness.Shell(t, l.Gateway(), "%s", line), want...)
			continue
		case slices.Contains([]string{"run", "check", "rules"}, args[1]) && !slices.Contains(args, "-c"):
			args = append(args, "-c", defaultFile)
		}
		for i := range args {
			args[i] = files.Replace(args[i])
		}
		if strings.Contains(output, "msg=ready") {
			p := harness.Start(t, l.Gateway(), args[1:]...).AwaitReady()
			running = append(running, p)
			harness.WantContains(t, p.Log(), want...)
			continue
		}
		stdout, stderr, _ := harness.Run(t, l.Gateway(), args[1:]...)
		if strings.Contains(output, "level=") { // a log, with times
			harness.WantContains(t, stderr, want...)
			continue
		}
		if got := strings.TrimSpace(back.Replace(stdout + stderr)); got != strings.Join(want, "\n") {
			t.Errorf("%s:%d: %s\ngot\n%s\nwant\n%s", d.path, b.line, line, got, strings.Join(want, "\n"))
		}
	}
	for _, p := range running {
		p.Interrupt()
	}
}
