package instances

import (
	"context"
	"errors"
	"fmt"
	"ftpgate/internal/kernel/system"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// socket is an admin socket. Its file is open, so that no other can take its place.
type socket struct {
	path string
	file *os.File // opened with O_PATH
	uid  int      // of its owner
	id   fileID

	ours    bool // the user's own, in a directory of the user's own
	foreign bool // in a directory of another user, where anything may answer
}

// mostNames is how many files of a directory are looked at: another user may have filled it.
const mostNames = 256

// What another user's process may take of this one: time, and bytes of an answer.
const (
	foreignTime  = time.Minute
	foreignBytes = 64 << 20 // 100,000 sessions
)

type fileID struct{ dev, ino uint64 }

// search returns the directories that have the sockets which the user may ask.
func (p Places) search() []directory {
	var all []directory
	for _, path := range glob(p.Run, prefix+"*") { // of root, and of units
		all = append(all, directory{path: path, uid: anyUser})
	}
	all = append(all, p.own()...)
	if p.UID != 0 {
		return all
	}
	for _, login := range glob(p.loginDir("*")) {
		if uid, err := strconv.Atoi(filepath.Base(login)); err == nil {
			all = append(all, directory{path: filepath.Join(login, prefix), uid: uid})
		}
	}
	for _, path := range glob(p.Temp, prefix+"-*") {
		if uid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), prefix+"-")); err == nil {
			all = append(all, directory{path: path, uid: uid})
		}
	}
	return all
}

func glob(elements ...string) []string {
	paths, err := filepath.Glob(filepath.Join(elements...))
	if err != nil {
		return nil // not of patterns without brackets
	}
	return paths
}

// find opens each socket once. The caller closes them.
func (p Places) find() []*socket {
	var all []*socket
	seen := map[fileID]bool{}
	add := func(s *socket, err error) {
		switch {
		case err != nil: // gone meanwhile, or not what it should be
		case seen[s.id]:
			s.file.Close()
		default:
			seen[s.id] = true
			all = append(all, s)
		}
	}
	add(openSocket(unix.AT_FDCWD, p.Default, p.Default, 0)) // root's, or root's link
	for _, d := range p.search() {
		dir, err := d.open()
		if err != nil {
			continue
		}
		names, _ := dir.Readdirnames(mostNames) // those before an error
		for _, name := range names {
			if strings.HasSuffix(name, suffix) {
				s, err := openIn(dir, name)
				if err == nil {
					s.ours = s.uid == p.UID
					s.foreign = !s.ours && d.uid != anyUser
				}
				add(s, err)
			}
		}
		dir.Close()
	}
	return all
}

// openIn opens a socket that belongs to the directory's owner.
func openIn(dir *os.File, name string) (*socket, error) {
	s, err := openSocket(int(dir.Fd()), name, filepath.Join(dir.Name(), name), unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	var of unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &of); err != nil || int(of.Uid) != s.uid {
		s.file.Close()
		return nil, errors.Join(err, fmt.Errorf("%s belongs to user %d: its directory does not", s.path,
			s.uid))
	}
	return s, nil
}

// openSocket opens the socket of a name in an open directory, without connecting to it.
func openSocket(dir int, name, path string, flags int) (*socket, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		file.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is no socket", path))
	}
	return &socket{path: path, file: file, uid: int(stat.Uid), id: fileID{uint64(stat.Dev), stat.Ino}}, nil
}

// dial connects to the very socket that was opened, and returns the number of the process that listens there;
// 0: it is in another PID namespace. The process must be the socket's owner's: else others would answer in
// the owner's name.
func (s *socket) dial(ctx context.Context) (net.Conn, int, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()))
	if err != nil {
		return nil, 0, err
	}
	peer, err := system.PeerOf(c.(*net.UnixConn))
	if err == nil && int(peer.Uid) != s.uid {
		err = fmt.Errorf("%s belongs to user %d, and a process of user %d listens there", s.path, s.uid,
			peer.Uid)
	}
	if err != nil {
		c.Close()
		return nil, 0, err
	}
	if s.foreign {
		_ = c.SetDeadline(time.Now().Add(foreignTime)) // an error shows when it is used
		c = &limitedConn{c, io.LimitedReader{R: c, N: foreignBytes}}
	}
	return c, int(peer.Pid), nil
}

// limitedConn ends after so many bytes.
type limitedConn struct {
	net.Conn
	limited io.LimitedReader
}

func (c *limitedConn) Read(b []byte) (int, error) { return c.limited.Read(b) }
