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
	run := func(dir, name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	one, other := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "other")
	run(".", "git", "clone", "--quiet", "--no-hardlinks", "..", one)
	run(".", "git", "clone", "--quiet", "--no-hardlinks", one, other) // the same commit for sure
	var sums []string
	for _, clone := range []string{one, other} {
		run(clone, "make", "release")
		run(filepath.Join(clone, "dist"), "sha256sum", "--check", "--quiet", "SHA256SUMS")
		text, err := os.ReadFile(filepath.Join(clone, "dist", "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, string(text))
	}
	if sums[0] != sums[1] {
		t.Errorf("got the checksums\n%s\nthen\n%s\nwant the same twice", sums[0], sums[1])
	}
}
