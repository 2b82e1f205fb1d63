// Package instances finds the ftpgates that run on this host, by their admin sockets, and gives a new one the
// place for its own.
//
// A user trusts only what that user or root has made: root asks the ftpgates of all users, and must come to
// no harm by what they put in their directories. It starts, stops and decides nothing.
package instances

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ftpgate/internal/ops/admin"
)

const (
	// prefix begins the names of all directories in /run and /tmp.
	prefix = "ftpgate"
	// rootDir is the directory in /run for root's sockets. It is not "ftpgate": systemd removes that one, a
	// RuntimeDirectory, when ftpgate.service stops, and the service's user may change what is in it.
	rootDir = prefix + "-forward"
	// suffix ends the name of each socket. The rest is the number of its process.
	suffix = ".sock"
	// anyUser stands for the owner of a directory that root has made for a user.
	anyUser = -1
)

// Places says where the sockets of a user's ftpgates are, and those of other users if it is root.
type Places struct {
	UID     int    // of the user
	Run     string // /run
	Temp    string // /tmp
	Default string // the socket of ftpgate run as root or as a service
	Runtime string // the user's directory in $XDG_RUNTIME_DIR; empty: not set
	Unit    string // the directory in $RUNTIME_DIRECTORY of a systemd unit; empty: not set
}

// Here returns the places for this process. run is the socket of ftpgate run.
func Here(run string) Places {
	unit, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return Places{UID: os.Geteuid(), Run: "/run", Temp: "/tmp", Default: run,
		Runtime: os.Getenv("XDG_RUNTIME_DIR"), Unit: unit}
}

// NewSocket returns the path for the socket of a process. It makes the directory, and removes what dead
// processes have left in it. The error says what to do.
func (p Places) NewSocket(pid int) (string, error) {
	name := strconv.Itoa(pid) + suffix
	if p.Unit != "" { // which may write nowhere else
		return filepath.Join(p.Unit, name), nil
	}
	var failed error
	for _, d := range p.own() {
		if failed = d.make(); failed == nil {
			removeDead(d.path)
			return filepath.Join(d.path, name), nil
		}
	}
	return "", failed
}

// directory is one that may have sockets.
type directory struct {
	path string
	uid  int         // of its owner; anyUser: root has made it, for whomever
	mode fs.FileMode // of a new one
}

// own returns the directories for the user's own sockets, the best first.
func (p Places) own() []directory {
	var all []directory
	if p.UID == 0 {
		// Members of the socket's group must be able to reach it.
		all = append(all, directory{filepath.Join(p.Run, rootDir), 0, 0o755})
	}
	if filepath.IsAbs(p.Runtime) && ownedBy(p.Runtime, p.UID) {
		all = append(all, directory{filepath.Join(p.Runtime, prefix), p.UID, 0o700})
	}
	// That of the user's login, for what cron and su start without $XDG_RUNTIME_DIR.
	if login := p.loginDir(strconv.Itoa(p.UID)); ownedBy(login, p.UID) {
		all = append(all, directory{filepath.Join(login, prefix), p.UID, 0o700})
	}
	return append(all, directory{fmt.Sprintf("%s/%s-%d", p.Temp, prefix, p.UID), p.UID, 0o700})
}

// loginDir is what pam_systemd makes when a user logs in.
func (p Places) loginDir(uid string) string { return filepath.Join(p.Run, "user", uid) }

func ownedBy(dir string, uid int) bool {
	var stat unix.Stat_t
	return unix.Lstat(dir, &stat) == nil && int(stat.Uid) == uid && stat.Mode&unix.S_IFMT == unix.S_IFDIR
}

// make makes the directory, or checks one that is there.
func (d directory) make() error {
	if err := os.Mkdir(d.path, d.mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	opened, err := d.open()
	if err != nil {
		return err
	}
	return opened.Close()
}

// open opens the directory, unless another user could have put things there.
func (d directory) open() (*os.File, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW
	if d.uid == anyUser {
		flags &^= unix.O_NOFOLLOW // root made the link, as systemd does for a DynamicUser
	}
	fd, err := unix.Open(d.path, flags, 0)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EACCES):
		return nil, d.notOwn()
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	opened := os.NewFile(uintptr(fd), d.path)
	var stat unix.Stat_t
	switch err := unix.Fstat(fd, &stat); {
	case err != nil:
		opened.Close()
		return nil, &os.PathError{Op: "stat", Path: d.path, Err: err}
	case d.uid != anyUser && (int(stat.Uid) != d.uid || stat.Mode&0o022 != 0), stat.Mode&0o002 != 0:
		opened.Close()
		return nil, d.notOwn()
	}
	return opened, nil
}

func (d directory) notOwn() error {
	return fmt.Errorf("%s must be a directory that only its owner, user %d, can change: remove it", d.path,
		d.uid)
}

// removeDead removes the sockets of dead processes. What it cannot remove stays.
func removeDead(dir string) {
	for _, path := range sockets(dir) {
		admin.RemoveDead(path)
	}
}

func sockets(dir string) []string {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return nil // the directory has a name with brackets, and no socket of ours can be told from others
	}
	return paths
}
