package system

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file is replaced as a whole, whatever is in the place of the new one: nothing waits for a reader of a
// pipe, or writes through a link.
func TestReplaceFile(t *testing.T) {
	for what, leave := range map[string]func(next, other string) error{
		"nothing": func(string, string) error { return nil },
		"a pipe":  func(next, _ string) error { return syscall.Mkfifo(next, 0o600) },
		"a link":  func(next, other string) error { return os.Symlink(other, next) },
		"a file":  func(next, _ string) error { return os.WriteFile(next, []byte("old, and longer"), 0o644) },
	} {
		dir := filepath.Join(t.TempDir(), "state")
		path, other := filepath.Join(dir, "bans"), filepath.Join(dir, "other")
		if err := ReplaceFile(path, []byte("first")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := leave(path+".new", other); err != nil {
			t.Fatal(err)
		}
		if err := ReplaceFile(path, []byte("second")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		got, err := os.ReadFile(path)
		info, errInfo := os.Lstat(path)
		if err != nil || errInfo != nil || string(got) != "second" || info.Mode() != 0o600 {
			t.Errorf("%s: got %q, %v, %v; want the second text, mode 0600", what, got, info, err)
		}
		if text, err := os.ReadFile(other); err != nil || len(text) > 0 {
			t.Errorf("%s: got %q, %v in another file; want nothing", what, text, err)
		}
		if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
			t.Errorf("%s: got %q left, %v; want nothing", what, left, err)
		}
	}
	if err := ReplaceFile(filepath.Join(os.DevNull, "bans"), nil); err == nil {
		t.Error("got no error for a directory that is a device; want one")
	}
}
