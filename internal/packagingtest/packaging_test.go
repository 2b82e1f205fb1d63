package packagingtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ftpgate/internal/config"
	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// packaging is the directory of what is installed beside the program.
const packaging = "../../packaging"

const unit = packaging + "/systemd/ftpgate.service"

// maxExposure is what systemd-analyze may count of what the service could do, of 10.
const maxExposure = 2.0

// run returns what a program says, and fails the test where it fails. It says it in English.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0", "SYSTEMD_LOG_LEVEL=info")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// read returns a file's text.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// write makes a file, with the directories above it.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// settings returns the values of a key in a unit, in order.
func settings(text, key string) (values []string) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			values = append(values, value)
		}
	}
	return values
}

// systemd counts what a service could do by what its unit forbids.
func TestUnitExposure(t *testing.T) {
	labtest.Need(t, "systemd-analyze")
	out := run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", unit)
	level := regexp.MustCompile(
		`Overall exposure level for ftpgate\.service: ([0-9]+\.[0-9]+)`).FindStringSubmatch(out)
	if level == nil {
		t.Fatalf("no level in:\n%s", out)
	}
	if exposure, err := strconv.ParseFloat(level[1], 64); err != nil || exposure >= maxExposure {
		t.Errorf("got exposure %s; want less than %.1f; what counts:\n%s", level[1], maxExposure, marked(out))
	}
}

// marked returns the lines of a table that count against the unit.
func marked(table string) string {
	var lines strings.Builder
	for line := range strings.Lines(table) {
		if strings.HasPrefix(strings.TrimSpace(line), "✗") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

func TestUnitVerified(t *testing.T) {
	labtest.Need(t, "systemd-analyze")
	root := t.TempDir()
	write(t, filepath.Join(root, "etc/systemd/system/ftpgate.service"), read(t, unit), 0o644)
	for _, program := range []string{"usr/bin/ftpgate", "sbin/modprobe"} {
		write(t, filepath.Join(root, program), "#!/bin/sh\n", 0o755)
	}
	for _, other := range []string{"sysinit.target", "basic.target", "shutdown.target", "multi-user.target",
		"network-online.target"} {
		write(t, filepath.Join(root, "etc/systemd/system", other), "[Unit]\nDescription=stands in\n", 0o644)
	}
	if out := run(t, "systemd-analyze", "verify", "--man=no", "--root="+root, "ftpgate.service"); out != "" {
		t.Errorf("systemd says: %s", out)
	}
}

// The service has the two capabilities that the daemon keeps, and no others in reach.
func TestUnitCapabilities(t *testing.T) {
	text := read(t, unit)
	for _, key := range []string{"CapabilityBoundingSet", "AmbientCapabilities"} {
		if got, want := settings(text, key), []string{"CAP_NET_ADMIN CAP_NET_BIND_SERVICE"}; !slices.Equal(
			got, want) {
			t.Errorf("%s: got %q; want %q", key, got, want)
		}
	}
	// A watchdog's SIGABRT and a panic end a Go program with status 2, as wrong words do.
	if got := settings(text, "RestartPreventExitStatus"); got != nil {
		t.Errorf("got RestartPreventExitStatus=%q; want the service back after a panic", got)
	}
}

// The user and the group of the unit are those that are made.
func TestUser(t *testing.T) {
	labtest.Need(t, "systemd-sysusers")
	root := t.TempDir()
	write(t, filepath.Join(root, "usr/lib/sysusers.d/ftpgate.conf"), read(t,
		packaging+"/sysusers.d/ftpgate.conf"), 0o644)
	write(t, filepath.Join(root, "etc/passwd"), "", 0o644)
	write(t, filepath.Join(root, "etc/group"), "", 0o644)
	run(t, "systemd-sysusers", "--root="+root)
	text := read(t, unit)
	for file, key := range map[string]string{"etc/passwd": "User", "etc/group": "Group"} {
		got := read(t, filepath.Join(root, file))
		want := settings(text, key)
		if len(want) != 1 || !strings.HasPrefix(got, want[0]+":") {
			t.Errorf("%s: got %q; want %q of the unit", file, got, want)
		}
	}
	if passwd := read(t, filepath.Join(root, "etc/passwd")); !strings.HasSuffix(passwd, "nologin\n") {
		t.Errorf("got %q; want a user who cannot log in", passwd)
	}
}

// Clients find the socket where it is without a service manager, too.
func TestSocketLink(t *testing.T) {
	labtest.Need(t, "systemd-tmpfiles")
	root := t.TempDir()
	write(t, filepath.Join(root, "usr/lib/tmpfiles.d/ftpgate.conf"), read(t,
		packaging+"/tmpfiles.d/ftpgate.conf"), 0o644)
	run(t, "systemd-tmpfiles", "--root="+root, "--create")
	target, err := os.Readlink(filepath.Join(root, "run/ftpgate.sock"))
	if dir := settings(read(t, unit), "RuntimeDirectory"); err != nil || len(dir) != 1 ||
		target != dir[0]+"/ftpgate.sock" {
		t.Errorf("got a link to %q, error %v; want ftpgate.sock in the unit's %q", target, err, dir)
	}
}

// logFiles are logs that logrotate finds: those of the reference file, and others.
var logFiles = []string{"transfers.json", "xferlog", "transfer.log"}

// logrotate turns the log over, and tells the daemon once. Its user stands for the one of this test.
func TestLogrotate(t *testing.T) {
	labtest.Need(t, "logrotate")
	labtest.Host(t) // for a /run of this test's own
	dir := t.TempDir()
	logs := filepath.Join(dir, "log")
	for _, name := range logFiles {
		write(t, filepath.Join(logs, name), "a line\n", 0o640)
	}
	write(t, filepath.Join(dir, "bin/systemctl"), "#!/bin/sh\necho \"$@\" >>"+dir+"/told\n", 0o755)
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll("/run/systemd") })
	text := read(t, packaging+"/logrotate.d/ftpgate")
	directory := settings(read(t, unit), "LogsDirectory")
	if len(directory) != 1 || strings.Count(text, "/var/log/") != strings.Count(text,
		"/var/log/"+directory[0]+"/") {
		t.Errorf("got %q; want the logs in the unit's %q", text, directory)
	}
	for _, name := range logFiles[:2] {
		if want := `"/var/log/` + directory[0] + "/" + name +
			`"`; !strings.Contains(config.CommentedReference(), want) {
			t.Errorf("the reference file has no %s", want)
		}
	}
	text = strings.NewReplacer("/var/log/ftpgate", logs, "su ftpgate ftpgate", "su root root",
		"0640 ftpgate ftpgate", "0640 root root").Replace(text)
	conf := filepath.Join(dir, "logrotate.conf")
	write(t, conf, text, 0o644)
	cmd := exec.Command("logrotate", "--force", "--state", filepath.Join(dir, "state"), conf)
	cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Fatalf("logrotate: %v\n%s", err, out)
	}
	want := "kill --kill-who=main --signal=SIGUSR1 ftpgate.service\n"
	if got := read(t, filepath.Join(dir, "told")); got != want {
		t.Errorf("got %q; want the daemon told once: %q", got, want)
	}
	for _, name := range logFiles {
		info, err := os.Stat(filepath.Join(logs, name))
		if err != nil || info.Size() != 0 || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: got %v, error %v; want an empty file of mode 0640", name, info, err)
		}
		if got := read(t, filepath.Join(logs, name+".1")); got != "a line\n" {
			t.Errorf("%s.1: got %q; want what was there", name, got)
		}
	}
}

// The scripts of the packages are sound for the smallest shell.
func TestScriptSyntax(t *testing.T) {
	scripts := []string{packaging + "/openrc/ftpgate"}
	for _, pattern := range []string{"/deb/p*", "/rpm/p*", "/apk/p*"} {
		found, err := filepath.Glob(packaging + pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("got no scripts %s, error %v", pattern, err)
		}
		scripts = append(scripts, found...)
	}
	for _, path := range scripts {
		run(t, "sh", "-n", path)
	}
}
