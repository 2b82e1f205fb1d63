package docs

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// variesByRun is what differs from run to run in what explain and doctor print: numbers of all kinds, with
// their units, the names of sessions, and the directory of the test's server.
var variesByRun = regexp.MustCompile(`[0-9a-z]+-1\b|"/[^"]*"|[0-9][0-9.]*(?: ?(?:µs|ms|s\b))?`)

// likeness puts a text on one line, without what varies.
func likeness(text string) string {
	return strings.Join(strings.Fields(variesByRun.ReplaceAllString(text, "#")), " ")
}

// example returns the block of a name in the README: a call of ftpgate, and below it what it prints.
func example(t *testing.T, name string) (call []string, printed string) {
	t.Helper()
	for _, b := range named(t, "README.md").of("text") {
		if b.file == name {
			line, printed, _ := strings.Cut(strings.TrimPrefix(b.text, prompt+"ftpgate "), "\n")
			return strings.Fields(line), printed
		}
	}
	t.Fatalf("README.md has no block %q", name)
	return nil, ""
}

// The README's example of doctor is a part of what doctor prints where the server's passive ports are
// rejected.
func TestDocsReadmeDoctor(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft")
	l := labtest.New(t)
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server, peers.PassiveRangeSettings...)
	harness.Shell(t, l.Server(), "nft 'table inet fw { chain input { type filter hook input priority 0; "+
		"tcp dport %s reject with tcp reset; }; }'", peers.PassiveRange)
	call, want := example(t, "doctor")
	stdout, stderr, _ := harness.Run(t, l.Gateway(), call...)
	if !strings.Contains(likeness(stdout), likeness(want)) {
		t.Errorf("ftpgate %q: got\n%s%s\nwant in it\n%s", call, stdout, stderr, want)
	}
}

// The README's example of explain is what explain prints of a client whose firewall drops its data
// connection.
func TestDocsReadmeExplain(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft", "curl")
	l := labtest.New(t)
	peers.VSFTPD(t, l.Server(), harness.Forward4.Server, peers.PassiveRangeSettings...)
	socket := filepath.Join(harness.ShortDir(t), "admin.sock")
	gateway := harness.Start(t, l.Gateway(), "forward", "--name", "archive", "--admin-socket", socket,
		harness.Gateway4, "203.0.113.21").AwaitReady()
	harness.Shell(t, l.Client(), "nft 'table inet fw { chain output { type filter hook output priority 0; "+
		"tcp dport 49152-65535 drop; }; }'")
	harness.Shell(t, l.Client(), "curl -sS --disable-epsv --connect-timeout 2 ftp://%s/ || true",
		harness.Gateway4)
	gateway.AwaitLog("session failed", 1)
	session := regexp.MustCompile(`session=(\S+)`).FindStringSubmatch(gateway.Log())[1]

	call, want := example(t, "explain")
	call[len(call)-1] = session
	got, stderr, _ := harness.Run(t, l.Gateway(), append(call, "--socket", socket)...)
	if likeness(got) != likeness(want) {
		t.Errorf("ftpgate %q: got\n%s%s\nwant\n%s", call, got, stderr, want)
	}
}
