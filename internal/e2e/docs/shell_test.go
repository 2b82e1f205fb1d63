package docs

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab/labtest"
)

// ftpgate accepts the arguments of every call in sh blocks, and of every complete "ftpgate forward" in the
// text. The commands are not run as they stand, because there they would change this host, or want servers
// that do not exist:
//
//   - forward runs as "doctor --no-try", which checks the same flags and values and changes nothing;
//   - run runs as check;
//   - commands that ask a running ftpgate get a socket on which nobody answers;
//   - outbound, demo, lab, top and completion only parse their flags: other tests run them;
//   - "lab exec" runs other programs.
//
// Calls of other programs (apt, systemctl, docker, firewall-cmd, ufw) need a host of their own; those of
// iptables and nft are run by TestDocsFirewallRules.
func TestDocsShell(t *testing.T) {
	file := harness.WriteFile(t, "ftpgate.toml", named(t, "docs/rules.md").of("toml")[0].text)
	silent := filepath.Join(harness.ShortDir(t), "none.sock")
	ran := 0
	for _, d := range documents(t) {
		for _, line := range d.shellLines() {
			for _, call := range calls(line) {
				args := accepted(call, file, silent)
				if args == nil {
					continue
				}
				ran++
				if _, stderr, status := ask(args...); status == 2 {
					t.Errorf("%s: %s: ftpgate %q: got exit status 2\n%s", d.path, line, args, stderr)
				}
			}
		}
	}
	if ran < 35 {
		t.Errorf("got %d calls of ftpgate; want 35 at least: are they found?", ran)
	}
}

// shellLines returns the lines of sh blocks, without comments, and the complete calls of "ftpgate forward" in
// the text.
func (d document) shellLines() (lines []string) {
	for _, b := range d.of("sh") {
		for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", " ")) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
			lines = append(lines, line)
		}
	}
	if d.path == "CHANGELOG.md" { // it names commands of earlier releases
		return lines
	}
	for _, m := range codeSpan.FindAllStringSubmatch(d.prose(), -1) {
		words := strings.Fields(m[1])
		if len(words) > 3 && words[0] == "ftpgate" && words[1] == "forward" && words[2] != "[flags]" {
			lines = append(lines, m[1])
		}
	}
	return lines
}

// accepted returns the arguments with which a call is tested, and nil for one that is not.
func accepted(call []string, file, socket string) []string {
	if i := slices.IndexFunc(call, func(word string) bool { return strings.HasPrefix(word, ">") }); i >= 0 {
		call = call[:i]
	}
	call = slices.Clone(call)
	if len(call) == 0 {
		return nil
	}
	if i := slices.Index(call, "-c"); i >= 0 && i+1 < len(call) {
		call[i+1] = file
	}
	switch call[0] {
	case "forward":
		return append([]string{"doctor", "--no-try"}, call[1:]...)
	case "doctor":
		return append(call, "--no-try", "-c", file)
	case "run":
		return append([]string{"check", "-c", file}, call[1:]...)
	case "check", "rules":
		return append(call, "-c", file)
	case "status", "sessions", "explain", "kill", "reload", "ban", "unban", "bans":
		return append(call, "--socket", socket)
	case "outbound", "demo", "completion", "top":
		return append(call, "--help")
	case "lab":
		if call[1] == "exec" {
			return nil
		}
		return append(call, "--help")
	}
	return call
}

// The rules that an administrator has by hand are rules that iptables and nft accept. Each block is tried on
// a fresh gateway.
func TestDocsFirewallRules(t *testing.T) {
	ran := 0
	d := named(t, "docs/from-iptables.md")
	for _, b := range d.of("sh") {
		if !strings.HasPrefix(b.text, "iptables ") && !strings.HasPrefix(b.text, "nft ") {
			continue
		}
		ran++
		t.Run(strings.Fields(b.text)[0], func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "iptables", "nft")
			harness.Shell(t, labtest.New(t).Gateway(), "set -e\n%s", b.text)
		})
	}
	if ran < 4 {
		t.Errorf("%s: got %d blocks with rules; want 4 at least", d.path, ran)
	}
}
