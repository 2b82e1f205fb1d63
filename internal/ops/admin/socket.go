package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// maxSocketPath is the longest path that fits into sun_path with its NUL (unix(7)), in bytes.
	maxSocketPath = 107
	// probeTime is how long an existing socket may take to accept a connection.
	probeTime = 2 * time.Second
)

// socket is a listening unix socket, and the file that Close removes.
type socket struct {
	*net.UnixListener
	path    string
	created os.FileInfo
}

func listenSocket(o Options) (*socket, error) {
	path := o.Socket
	switch {
	case path == "" || strings.HasPrefix(path, "@"):
		return nil, fmt.Errorf("admin socket %q: want the path of a file", path)
	case len(path) > maxSocketPath:
		return nil, fmt.Errorf("admin socket %s: the path has %d bytes, and the kernel takes %d: choose a "+
			"shorter one", path, len(path), maxSocketPath)
	}
	unlock, err := lock(path+".lock", syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("admin socket %s: %w", path, cause(err))
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := bind(path)
	if err != nil {
		return nil, fmt.Errorf("admin socket %s: %w", path, cause(err))
	}
	s := &socket{UnixListener: l, path: path}
	if s.created, err = os.Lstat(path); err == nil {
		err = setGroup(o)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("admin socket %s: %w", path, cause(err))
	}
	return s, nil
}

// lock makes daemons that start at the same time check a socket one after the other: two that find it
// stale would remove each other's. Unlock removes the file. how is that of flock(2).
func lock(path string, how int) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), how); err != nil {
			f.Close()
			return nil, err
		}
		held, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if now, err := os.Lstat(path); err == nil && os.SameFile(now, held) {
			return func() {
				os.Remove(path)
				f.Close()
			}, nil
		}
		f.Close() // its last holder has removed it meanwhile
	}
}

// bind creates the socket. No other user can connect before its mode is set: the kernel gives the file the
// mode of the unbound socket, less the umask (net/unix/af_unix.c, unix_bind_bsd).
func bind(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false) // the name may belong to another daemon by then
	return u, nil
}

// setGroup gives the socket to its group, with mode 0660. If that fails, root leaves it to its own group; an
// ordinary user keeps mode 0600, because its group may contain all users.
func setGroup(o Options) error {
	if o.Group == "" {
		return nil
	}
	gid, err := groupNumber(o.Group)
	if err == nil {
		err = os.Lchown(o.Socket, -1, gid)
	}
	switch {
	case err == nil:
	case o.NeedGroup && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("it cannot be given to group %s: run ftpgate as root, or as a member of it",
			o.Group)
	case o.NeedGroup:
		return fmt.Errorf("there is no group %s: groupadd --system %[1]s, or name another one", o.Group)
	case os.Geteuid() != 0:
		return nil
	}
	return os.Chmod(o.Socket, 0o660)
}

// groupNumber returns the number of a group, by its name or by its number, which need not have a name.
func groupNumber(group string) (int, error) {
	g, err := user.LookupGroup(group)
	if err == nil {
		return strconv.Atoi(g.Gid)
	}
	if number, notOne := strconv.ParseUint(group, 10, 31); notOne == nil {
		return int(number), nil
	}
	return 0, err
}

// removeStale removes the socket of a dead daemon. The error says what else has the name.
func removeStale(path string) error {
	found, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("admin socket %s: %w", path, cause(err))
	case found.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("admin socket %s: a symbolic link is there, which ftpgate does not follow: "+
			"remove it", path)
	case found.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("admin socket %s: something that is no socket is there: remove it, or choose "+
			"another path", path)
	}
	c, err := net.DialTimeout("unix", path, probeTime)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("admin socket %s: a running ftpgate answers there already: stop it, or choose "+
			"another path", path)
	case errors.Is(err, fs.ErrNotExist): // its daemon has just ended
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("admin socket %s: another process has it: %w", path, cause(err))
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("admin socket %s: a dead ftpgate has left it: %w", path, cause(err))
	}
	return nil
}

// RemoveDead removes the socket of a dead daemon, if it can, and nothing else. A daemon that is about to
// listen there keeps it.
func RemoveDead(path string) {
	unlock, err := lock(path+".lock", syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		return
	}
	defer unlock()
	_ = removeStale(path) // an error: it is not dead, or cannot be removed
}

// sameFile reports whether two results of Lstat are of one file: inode numbers alone are reused.
func sameFile(a, b os.FileInfo) bool { return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) }

// Close removes the socket's name, unless it belongs to another daemon by now, and stops listening. In this
// order: while this socket listens, no other daemon takes the name for a dead daemon's.
func (s *socket) Close() error {
	var err error
	if now, gone := os.Lstat(s.path); gone == nil && s.created != nil && sameFile(now, s.created) {
		err = os.Remove(s.path)
	}
	return errors.Join(err, s.UnixListener.Close())
}

// cause returns an error without operation and path: the caller has named them.
func cause(err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}
