package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"ftpgate/internal/config"
	"ftpgate/internal/control/ftptest"
	"ftpgate/internal/core/forward"
)

// swap makes link lead to target, as Kubernetes replaces the files of a ConfigMap.
func swap(t *testing.T, link, target string) {
	t.Helper()
	if err := os.Symlink(target, link+"_tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+"_tmp", link); err != nil {
		t.Fatal(err)
	}
}

// mounted makes a directory as Kubernetes mounts a ConfigMap: ftpgate.toml leads through ..data, a link, to
// the directory of a version.
func mounted(t *testing.T, versions ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, version := range versions {
		if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "ftpgate.toml"), version)
	}
	swap(t, filepath.Join(dir, "..data"), versions[0])
	if err := os.Symlink("..data/ftpgate.toml", filepath.Join(dir, "ftpgate.toml")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFileWatch: a change counts once it was there for two checks, until the file is read again.
func TestFileWatch(t *testing.T) {
	dir := mounted(t, "one", "two")
	w := WatchFile(filepath.Join(dir, "ftpgate.toml"))
	want := func(when string, want bool) {
		t.Helper()
		if got := w.changed(); got != want {
			t.Errorf("%s: got changed %v; want %v", when, got, want)
		}
	}
	want("at first", false)
	want("nothing has happened", false)
	swap(t, filepath.Join(dir, "..data"), "two")
	want("the link leads elsewhere", false)
	want("the link leads there still", true)
	w.reads()
	want("the file was read", false)
	write(t, filepath.Join(dir, "two", "ftpgate.toml"), "a longer text")
	want("the file was written", false)
	write(t, filepath.Join(dir, "two", "ftpgate.toml"), "a text that is longer still")
	want("and once more", false)
	want("the writing has ended", true)
}

// A changed file is read again by itself.
func TestWatch(t *testing.T) {
	dir := mounted(t, "one", "two")
	at, server := ftptest.FreePort(t), ftptest.NewServer(t, "one")
	s := newService(t, server.Forward("archive", at))
	s.Watch = WatchFile(filepath.Join(dir, "ftpgate.toml"))
	moved := ftptest.FreePort(t)
	s.Load = func() (*config.Config, error) {
		again := *s.Config
		again.Forwards = []forward.Forward{server.Forward("archive", moved)}
		return &again, nil
	}
	s.run().ready()
	wantServed(t, at, "one")
	swap(t, filepath.Join(dir, "..data"), "two")
	s.log.wait(t, "INFO reloaded", 1)
	wantServed(t, moved, "one")
	wantNoListener(t, at)
}
