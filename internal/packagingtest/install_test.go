package packagingtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

// TestInstall: "make install" puts its files where PREFIX says, and they name that place; it leaves a
// configuration alone, and "make uninstall" leaves nothing else. Files stand in for what "make build" makes.
func TestInstall(t *testing.T) {
	labtest.Need(t, "make")
	build, dest := t.TempDir(), t.TempDir()
	for _, name := range []string{"ftpgate", "ftpgate.8", "ftpgate.toml.5", "ftpgate.bash", "ftpgate.zsh",
		"ftpgate.fish", "ftpgate.toml"} {
		write(t, filepath.Join(build, name), "see /usr/share/doc/ftpgate/limits.md\n", 0o755)
	}
	target := func(name string) {
		t.Helper()
		cmd := exec.Command("make", "-C", "../..", "--silent", name, "DESTDIR="+dest, "PREFIX=/opt/ftp",
			"BUILD="+build, "BINARY="+filepath.Join(build, "ftpgate"))
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") })
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", name, err, out)
		}
	}
	mine := filepath.Join(dest, "etc/ftpgate/ftpgate.toml")
	target("install")
	write(t, mine, "mine\n", 0o644)
	target("install")
	for file, want := range map[string]string{
		"opt/ftp/lib/systemd/system/ftpgate.service": "\nExecStart=/opt/ftp/bin/ftpgate run\n",
		"opt/ftp/share/man/man8/ftpgate.8":           "see /opt/ftp/share/doc/ftpgate/limits.md\n",
		"opt/ftp/share/doc/ftpgate/limits.md":        "# ",
		"opt/ftp/lib/sysusers.d/ftpgate.conf":        "u ftpgate",
		"opt/ftp/lib/tmpfiles.d/ftpgate.conf":        "/run/ftpgate.sock",
		"etc/logrotate.d/ftpgate":                    "rotate",
		"etc/ftpgate/ftpgate.toml":                   "mine\n",
	} {
		if got := read(t, filepath.Join(dest, file)); !strings.Contains(got, want) {
			t.Errorf("%s: got\n%s\nwant %q in it", file, got, want)
		}
	}
	wantLinks(t, filepath.Join(dest, "opt/ftp/share/doc/ftpgate"))
	target("uninstall")
	var left []string
	err := filepath.WalkDir(dest, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, path)
		}
		return err
	})
	if err != nil || !slices.Equal(left, []string{mine}) {
		t.Errorf("make uninstall: got error %v, and left %q; want the configuration alone", err, left)
	}
}

// link finds the target of a link that leads to another file.
var link = regexp.MustCompile(`\]\(([^)\s#]+)`)

// wantLinks checks that the links of all documents below a directory lead to files that are there.
func wantLinks(t *testing.T, dir string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(read(t, path), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: link %s: %v", path, m[1], err)
			}
		}
		return nil
	})
	if err != nil || found < 50 {
		t.Errorf("got error %v, and %d links between the installed documents; want 50 at least", err, found)
	}
}
