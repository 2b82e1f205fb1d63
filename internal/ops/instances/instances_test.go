package instances

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/ops/admin"
)

// source is an ftpgate of a version. It is asked nothing else.
type source struct {
	admin.Source
	version string
}

func (s source) Status() admin.Status {
	return admin.Status{Version: s.version, Since: time.Unix(int64(len(s.version)), 0)}
}

// serve answers at a socket until the test ends.
func serve(t *testing.T, socket, version string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := admin.Listen(admin.Options{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, source{version: version}, nil, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// listen makes a socket that accepts no connection.
func listen(t *testing.T, socket string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	return l
}

// dead makes the socket of a process that was killed.
func dead(t *testing.T, socket string) {
	t.Helper()
	listen(t, socket).Close()
}

// placesOf returns the places of this user on a host without any ftpgate.
func placesOf(t *testing.T) Places {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // t.TempDir has names that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := Places{UID: os.Geteuid(), Run: dir + "/run", Temp: dir + "/tmp", Default: dir + "/run/ftpgate.sock"}
	for _, d := range []string{p.Run, p.Temp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// makeDir makes a directory of this user.
func makeDir(t *testing.T, mode fs.FileMode, elements ...string) string {
	t.Helper()
	dir := filepath.Join(elements...)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, mode)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestNewSocket: the socket is in the best directory of the user's, which others cannot change.
func TestNewSocket(t *testing.T) {
	uid := fmt.Sprint(os.Geteuid())
	for _, tt := range []struct {
		name    string
		prepare func(p *Places) (want string)
	}{
		{"unit", func(p *Places) string { p.Unit = makeDir(t, 0o755, p.Run, "unit"); return p.Unit }},
		{"runtime directory", func(p *Places) string {
			p.Runtime = makeDir(t, 0o700, p.Temp, "runtime")
			return p.Runtime + "/ftpgate"
		}},
		{"login", func(p *Places) string { return makeDir(t, 0o700, p.Run, "user", uid) + "/ftpgate" }},
		{"relative runtime directory", func(p *Places) string {
			p.Runtime = "."
			return p.Temp +
				"/ftpgate-" + uid
		}},
		{"runtime directory that is a link", func(p *Places) string {
			p.Runtime = p.Temp + "/link"
			if err := os.Symlink(makeDir(t, 0o700, p.Temp, "elsewhere"), p.Runtime); err != nil {
				t.Fatal(err)
			}
			return p.Temp + "/ftpgate-" + uid
		}},
		{"neither", func(p *Places) string { return p.Temp + "/ftpgate-" + uid }},
	} {
		p := placesOf(t)
		want := tt.prepare(&p)
		if p.UID == 0 && p.Unit == "" { // what stands in root's way to the best one
			if err := os.WriteFile(filepath.Join(p.Run, rootDir), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := p.NewSocket(4711)
		if err != nil || got != want+"/4711.sock" {
			t.Errorf("%s: got %q, error %v; want it in %s", tt.name, got, err, want)
			continue
		}
		if info, err := os.Stat(want); err != nil || p.Unit == "" && info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: got %v, error %v; want a directory with mode 0700", tt.name, info.Mode(), err)
		}
	}
}

// TestHostileDirectory: what another user may have made is neither used nor looked into.
func TestHostileDirectory(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(dir, other string) error
	}{
		{"a link", func(dir, other string) error { return os.Symlink(other, dir) }},
		{"a link to nothing", func(dir, other string) error { return os.Symlink(other+"/none", dir) }},
		{"a file", func(dir, _ string) error { return os.WriteFile(dir, nil, 0o600) }},
		{"a directory that all can write", func(dir, other string) error {
			return errors.Join(os.Rename(other, dir), os.Chmod(dir, 0o777))
		}},
		{"a directory that the group can write", func(dir, other string) error {
			return errors.Join(os.Rename(other, dir), os.Chmod(dir, 0o770))
		}},
		{"a directory of another user", func(dir, other string) error {
			if os.Geteuid() != 0 {
				return os.WriteFile(dir, nil, 0o600) // it takes root to give one away
			}
			return errors.Join(os.Rename(other, dir), os.Chown(dir, 64_123, 64_123))
		}},
	} {
		p := placesOf(t)
		other := makeDir(t, 0o700, p.Temp, "other")
		serve(t, other+"/1.sock", "trap")
		dir := fmt.Sprintf("%s/ftpgate-%d", p.Temp, p.UID)
		if err := tt.prepare(dir, other); err != nil {
			t.Fatal(err)
		}
		if p.UID == 0 {
			if err := os.WriteFile(filepath.Join(p.Run, rootDir), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := p.NewSocket(4711); err == nil || !strings.Contains(err.Error(),
			dir+" must be a directory") {
			t.Errorf("%s: got %q, error %v; want one that names it", tt.name, got, err)
		}
		if found, err := p.Ask(t.Context()); !errors.Is(err, admin.ErrNotRunning) {
			t.Errorf("%s: got %d instances, error %v; want none", tt.name, len(found), err)
			closeAll(found)
		}
	}
}

// TestAsk: those that answer come first, the oldest first; one that does not is named; dead ones go.
func TestAsk(t *testing.T) {
	p := placesOf(t)
	p.Runtime = makeDir(t, 0o700, p.Temp, "runtime")
	own, unit := makeDir(t, 0o700, p.Runtime, "ftpgate"), makeDir(t, 0o755, p.Run, "ftpgate-unit")
	serve(t, own+"/1.sock", "a-young-one")
	serve(t, unit+"/ftpgate.sock", "old")
	if err := os.Symlink(unit+"/ftpgate.sock", p.Default); err != nil { // found twice
		t.Fatal(err)
	}
	listen(t, own+"/2.sock")
	dead(t, own+"/3.sock")
	if err := errors.Join(os.Symlink(unit+"/ftpgate.sock", own+"/4.sock"),
		os.WriteFile(own+"/5.sock", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	found, err := p.Ask(t.Context())
	defer closeAll(found)
	if err != nil || len(found) != 3 {
		t.Fatalf("got %d instances, error %v; want 3", len(found), err)
	}
	for i, want := range []string{p.Default, own + "/1.sock", own + "/2.sock"} {
		if got := found[i]; got.Socket != want || got.PID != os.Getpid() || got.UID != os.Geteuid() {
			t.Errorf("got %s of process %d and user %d; want %s of this one", got.Socket, got.PID, got.UID,
				want)
		}
	}
	if got := found[0].Status.Version + ", " + found[1].Status.Version; got != "old, a-young-one" {
		t.Errorf("got %s; want old, a-young-one", got)
	}
	if err := found[2].Err; err == nil || err.Error() != "it does not answer within 1s" {
		t.Errorf("of the silent one got error %v", err)
	}
	left, err := filepath.Glob(own + "/*")
	if want := []string{own + "/1.sock", own + "/2.sock", own + "/4.sock", own + "/5.sock"}; err != nil ||
		!slices.Equal(left, want) {
		t.Errorf("got %q, error %v; want the dead one gone: %q", left, err, want)
	}
}

// TestNewSocketRemovesDead: what killed processes have left goes with the next start, and nothing else.
func TestNewSocketRemovesDead(t *testing.T) {
	p := placesOf(t)
	first, err := p.NewSocket(1)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(first)
	dead(t, first)
	listen(t, dir+"/2.sock")
	if _, err := p.NewSocket(3); err != nil {
		t.Fatal(err)
	}
	if left := sockets(dir); !slices.Equal(left, []string{dir + "/2.sock"}) {
		t.Errorf("got %q; want the one that listens", left)
	}
}

// TestForeignSocket: root asks other users' ftpgates, and does not ask another user's socket about them.
func TestForeignSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		return // it takes root to have other users' sockets
	}
	const uid = 64_123
	p := placesOf(t)
	dir := makeDir(t, 0o700, p.Run, "user", fmt.Sprint(uid), "ftpgate")
	serve(t, dir+"/1.sock", "root's process")
	for _, path := range []string{dir, dir + "/1.sock"} {
		if err := os.Lchown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	found, err := p.Ask(t.Context())
	defer closeAll(found)
	if err != nil || len(found) != 1 || found[0].Err == nil ||
		!strings.Contains(found[0].Err.Error(),
			"belongs to user 64123, and a process of user 0 listens there") {
		t.Fatalf("got %v, error %v; want one that is not believed", found, err)
	}
	if !found[0].Foreign {
		t.Error("got it as one of root's; want another user's")
	}
	dead(t, dir+"/2.sock")
	if err := os.Lchown(dir+"/2.sock", uid, uid); err != nil {
		t.Fatal(err)
	}
	again, err := p.Ask(t.Context())
	defer closeAll(again)
	if left := sockets(dir); err != nil || len(left) != 2 {
		t.Errorf("got %q, error %v; want another user's directory as it was", left, err)
	}
}
