package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// WriteFile writes a file of the test and returns its path.
func WriteFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	OverwriteFile(t, path, text)
	return path
}

// OverwriteFile replaces the text of a file in place.
func OverwriteFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// ShortDir makes a directory that every user can enter, and returns its path. A socket's name has at
// most 107 bytes (unix(7)); with a test's name in the path it would have more.
func ShortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ReadFile returns the text of a file.
func ReadFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
