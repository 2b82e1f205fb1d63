package admin

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// leaveStale leaves a socket as a killed daemon does.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// plainServer starts the server of another program, which answers GET with a text and all else with 501. It
// returns the path of its socket.
func plainServer(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusNotImplemented)
		}
		w.Write([]byte(text))
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return path
}

func wantGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: got %v; want it removed", path, err)
	}
}

// TestSocketMode: the modes of the socket, whatever the umask is.
func TestSocketMode(t *testing.T) {
	want := fs.FileMode(0o600)
	if os.Geteuid() == 0 {
		want = 0o660
	}
	s := serve(t, fixed(), Options{}, nil)
	info, err := os.Lstat(s.socket)
	if err != nil || info.Mode().Perm() != want || info.Mode()&fs.ModeSocket == 0 {
		t.Errorf("got %v, %v; want a socket with mode %o", info.Mode(), err, want)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	wantGone(t, s.socket)
}

// TestSocketGroup: if the host has the group, the socket belongs to it; if it lacks a group that it must
// have, no socket is left behind.
func TestSocketGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	own := strconv.Itoa(os.Getegid())
	groups := map[string]fs.FileMode{"": 0o600, own: 0o660}
	if os.Geteuid() == 0 { // root gives files to any group; every Linux has this one
		groups["daemon"] = 0o660
		groups["54321"] = 0o660
	}
	for group, want := range groups {
		l, err := listenSocket(Options{Socket: path, Group: group, NeedGroup: true})
		if err != nil {
			t.Fatalf("group %q: %v", group, err)
		}
		info, err := os.Lstat(path)
		l.Close()
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("group %q: got mode %o, %v; want %o", group, info.Mode().Perm(), err, want)
		}
		if gid := groupOf(info); group == "daemon" && gid == 0 || group == "54321" && gid != 54321 {
			t.Errorf("group %q: got group %d", group, gid)
		}
	}
	l, err := Listen(Options{Socket: path, Group: noGroup, NeedGroup: true})
	if err == nil {
		l.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "there is no group "+noGroup+": groupadd") {
		t.Errorf("got %v; want what to do", err)
	}
	if os.Geteuid() != 0 {
		_, err := Listen(Options{Socket: path, Group: "0", NeedGroup: true})
		if err == nil || !strings.Contains(err.Error(), "cannot be given to group 0") {
			t.Errorf("got %v; want why not", err)
		}
	}
	wantGone(t, path)
}

// TestSocketTaken: Listen replaces only a dead daemon's socket.
func TestSocketTaken(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	running := serve(t, fixed(), Options{Socket: at("running")}, nil)
	leaveStale(t, at("stale"))
	leaveStale(t, at("target"))
	for _, err := range []error{
		os.WriteFile(at("file"), []byte("kept"), 0o600),
		os.Mkdir(at("directory"), 0o700),
		os.Symlink(at("target"), at("link")),
		os.Symlink(at("nowhere"), at("dangling")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"running":                "a running ftpgate answers there already",
		"file":                   "something that is no socket is there",
		"directory":              "something that is no socket is there",
		"link":                   "a symbolic link is there",
		"dangling":               "a symbolic link is there",
		"none/s":                 "no such file or directory",
		strings.Repeat("x", 120): "choose a shorter one",
	} {
		s, err := Listen(Options{Socket: at(name)})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v; want one line with %q", name, err, want)
		}
	}
	s, err := Listen(Options{Socket: at("stale")})
	if err != nil {
		t.Fatalf("stale: got %v; want it replaced", err)
	}
	s.Close()
	wantGone(t, at("stale"))
	if _, err := running.client(t).Status(t.Context()); err != nil {
		t.Errorf("the one that runs: got %v; want it undisturbed", err)
	}
	if text, err := os.ReadFile(at("file")); string(text) != "kept" {
		t.Errorf("the file: got %q, %v; want it kept", text, err)
	}
	left, err := filepath.Glob(at("*.lock"))
	if len(left) > 0 || err != nil {
		t.Errorf("got %q, %v; want nothing left behind", left, err)
	}
}

// TestSocketRace: of daemons that start at once with a stale socket, one gets it and keeps it.
func TestSocketRace(t *testing.T) {
	for range 300 {
		path := filepath.Join(t.TempDir(), "s")
		leaveStale(t, path)
		var wg sync.WaitGroup
		got := make(chan *socket, 8)
		for range cap(got) {
			wg.Go(func() {
				if l, err := listenSocket(Options{Socket: path}); err == nil {
					got <- l
				}
			})
		}
		wg.Wait()
		close(got)
		var winners []*socket
		for l := range got {
			winners = append(winners, l)
			info, err := os.Lstat(path)
			if err != nil || !sameFile(info, l.created) {
				t.Errorf("got %v; want the winner's socket", err)
			}
		}
		for _, l := range winners {
			l.Close()
		}
		if len(winners) != 1 {
			t.Fatalf("got %d winners; want 1", len(winners))
		}
	}
}

// TestCloseKeepsAnothers: Close leaves a socket that belongs to another daemon by now.
func TestCloseKeepsAnothers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := listenSocket(Options{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := listenSocket(Options{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("got %v; want the second's socket", err)
	}
	second.Close()
	wantGone(t, path)
}
