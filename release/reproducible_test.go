package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestReproducible makes a release of this commit twice, in two clones at two places, and compares the
// checksums of all files.
func TestReproducible(t *testing.T) {
	sums := func() string {
		clone := filepath.Join(t.TempDir(), "clone")
		run := func(dir, name string, args ...string) {
			t.Helper()
			cmd := exec.Command(name, args...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", cmd, err, out)
			}
		}
		run(".", "git", "clone", "--quiet", "--no-hardlinks", "..", clone)
		run(clone, "make", "release")
		run(filepath.Join(clone, "dist"), "sha256sum", "--check", "--quiet", "SHA256SUMS")
		text, err := os.ReadFile(filepath.Join(clone, "dist", "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if one, other := sums(), sums(); one != other {
		t.Errorf("got the checksums\n%s\nthen\n%s\nwant the same twice", one, other)
	}
}
