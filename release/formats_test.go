package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRPM installs the rpm below a directory, upgrades and removes it: a configuration that was edited stays.
// Its scripts need the programs of a host, and do not run.
func TestRPM(t *testing.T) {
	old, next := packed(t, "rpm", "0.1.0", ""), packed(t, "rpm", "99.0.0",
		"# a comment of the next release\n")
	dir := t.TempDir()
	rpm := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("rpm", append([]string{"--root", dir}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	config := filepath.Join(dir, "etc/ftpgate/ftpgate.toml")
	wantConfig := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: got %.40q, error %v; want it to begin with %q", path, got, err, want)
		}
	}
	rpm("--initdb")
	rpm("-i", "--nodeps", "--noscripts", old)
	if err := os.WriteFile(config, []byte("mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	rpm("-U", "--nodeps", "--noscripts", next)
	if got := rpm("-q", "ftpgate"); !strings.HasPrefix(got, "ftpgate-99.0.0-1.") {
		t.Errorf("got %s; want the next release", got)
	}
	wantConfig(config, "mine\n")
	wantConfig(config+".rpmnew", "# a comment of the next release\n")
	if got := rpm("-qd", "ftpgate"); !strings.Contains(got, "/usr/share/man/man8/ftpgate.8.gz") {
		t.Errorf("got the documents\n%s\nwant the manual among them", got)
	}
	rpm("-e", "--noscripts", "ftpgate")
	wantConfig(config+".rpmsave", "mine\n")
	if _, err := os.Stat(filepath.Join(dir, "usr/bin/ftpgate")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the program: got error %v; want it to be gone", err)
	}
}

// TestAPK: the apk says what it is, starts the service as Alpine does, and has nothing for systemd.
func TestAPK(t *testing.T) {
	file, err := os.Open(packed(t, "apk", "0.2.0", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file) // its streams are one archive
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for archive := tar.NewReader(unzipped); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if found[h.Name] = string(content); strings.Contains(h.Name, "systemd") {
			t.Errorf("got %s; want nothing for systemd", h.Name)
		}
	}
	for name, want := range map[string]string{
		".PKGINFO": "\npkgver = 0.2.0-r0\n", ".pre-install": "adduser ", ".post-upgrade": "rc-service ",
		"etc/init.d/ftpgate": "command=\"/usr/bin/ftpgate\"", "etc/ftpgate/ftpgate.toml": "#[[forward]]",
		"usr/bin/ftpgate": "\x7fELF",
	} {
		if !strings.Contains(found[name], want) {
			t.Errorf("%s: got %.80q; want %q in it", name, found[name], want)
		}
	}
}
