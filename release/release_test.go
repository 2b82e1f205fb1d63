package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// host is the target that runs here.
func host(t *testing.T) target {
	t.Helper()
	i := slices.IndexFunc(targets, func(x target) bool { return x.goarch == runtime.GOARCH })
	if i < 0 {
		t.Skipf("no target has the architecture %s", runtime.GOARCH)
	}
	return targets[i]
}

// here is the repository as packages of tests are made from it: version is that of the package.
func here(t *testing.T, version string) source {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return source{root: root, version: version, time: time.Unix(1_700_000_000, 0).UTC()}
}

// packed makes a package of a format and a version for this machine, and returns its path. Its configuration
// begins with a comment. The manual and the completions in it are those that "make build" has made.
func packed(t *testing.T, name, version, comment string) string {
	t.Helper()
	f := formats[slices.IndexFunc(formats, func(f format) bool { return f.name == name })]
	s, dir := here(t, version), t.TempDir()
	program, stage := filepath.Join(dir, "ftpgate"), filepath.Join(dir, "stage")
	if err := s.build(host(t), program); err != nil {
		t.Fatal(err)
	}
	licenses, err := s.licenses()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.stage(stage, f, program, licenses); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(stage, "etc/ftpgate/ftpgate.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, append([]byte(comment), text...), 0o644); err != nil {
		t.Fatal(err)
	}
	path, err := s.pack(f, host(t), stage, dir)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPackageVersion: a tag is a release, and what comes after it sorts between it and the next one.
func TestPackageVersion(t *testing.T) {
	at := time.Date(2026, 11, 30, 14, 23, 17, 0, time.UTC)
	for _, tt := range []struct {
		tags     []string
		modified bool
		want     string
		err      string
	}{
		{nil, false, "0.2.0+git20261130142317", ""},
		{[]string{"v0.2.0"}, false, "0.2.0", ""},
		{[]string{"v0.2.0"}, true, "0.2.0+git20261130142317", ""},
		{[]string{"v0.1.9"}, false, "", "the commit has the tag v0.1.9, and internal/version/VERSION says " +
			"0.2.0"},
	} {
		got, err := packageVersion("0.2.0", tt.tags, tt.modified, at)
		if text := errorText(err); got != tt.want || text != tt.err {
			t.Errorf("%q, modified %v: got %q, error %q; want %q, %q", tt.tags, tt.modified, got, text,
				tt.want, tt.err)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestLint: the checkers of Debian and of Fedora find nothing but what packaging/ explains.
func TestLint(t *testing.T) {
	// The names in an rpm of nfpm begin with /, and rpmlint has cpio extract it: without the option, over the
	// files of this host.
	bin := t.TempDir()
	wrapper := "#!/bin/sh\nexec /usr/bin/cpio --no-absolute-filenames \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "cpio"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"lintian", "--allow-root", "--fail-on=error,warning,info", "--display-info", packed(t, "deb",
			"0.2.0", "")},
		{"rpmlint", "--config", "../packaging/rpm/rpmlint.toml", "--strict", packed(t, "rpm", "0.2.0", "")},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
