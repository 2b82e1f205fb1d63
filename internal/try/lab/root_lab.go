package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netns"
)

const (
	// namedDir is where ip-netns(8) keeps names.
	namedDir = "/run/netns"
	// namedPrefix stands before client, gateway and server.
	namedPrefix = "ftpgate-"
	// nsfsMagic is NSFS_MAGIC of include/uapi/linux/magic.h.
	nsfsMagic = 0x6e736673
)

func namedPath(host string) string { return filepath.Join(namedDir, namedPrefix+host) }

// upRoot makes the lab of root.
func upRoot() error {
	if err := os.MkdirAll(namedDir, 0o755); err != nil {
		return err
	}
	return withLock(namedDir, false, func() error {
		switch there, missing := namedState(); {
		case len(missing) == 0:
			return errLabExists
		case len(there) > 0:
			return fmt.Errorf("the lab is incomplete, without %s: `ftpgate lab down` removes it",
				strings.Join(missing, " and "))
		}
		if err := shareNames(); err != nil {
			return err
		}
		l := &Lab{}
		err := l.buildNamed()
		if err != nil {
			for _, s := range l.slots() {
				err = errors.Join(err, removeNamed(s.name))
			}
		}
		return errors.Join(err, l.Close())
	})
}

// shareNames makes the directory of names a shared mount, as the first `ip netns add` does, under the same
// lock. If `ip` did that after our names exist, its mount would hide them, and nobody could remove them.
func shareNames() error {
	share := func() error { return syscall.Mount("", namedDir, "none", syscall.MS_SHARED|syscall.MS_REC, "") }
	err := share()
	if errors.Is(err, syscall.EINVAL) { // it is not a mount yet
		if err = syscall.Mount(namedDir, namedDir, "none", syscall.MS_BIND|syscall.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", namedDir, err)
	}
	return nil
}

// buildNamed makes the three named namespaces and the lab in them. The caller has the lock and has checked
// that none exists, so all that exists after an error is its own.
func (l *Lab) buildNamed() error {
	for _, s := range l.slots() {
		h, err := newNamedHost(s.name)
		if err != nil {
			return fmt.Errorf("new namespace %s%s: %w", namedPrefix, s.name, err)
		}
		*s.host = h
		if err := h.loopbackUp(); err != nil {
			return err
		}
	}
	return l.build()
}

func newNamedHost(name string) (*Host, error) {
	h := &Host{name: name}
	err := onOwnThread(func() error {
		ns, err := netns.NewNamed(namedPrefix + name) // moves this thread, even if it fails
		if err != nil {
			return explainRefusal(err)
		}
		h.ns = os.NewFile(uintptr(ns), "netns "+namedPrefix+name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// namedState returns the hosts whose names exist, and those whose names do not.
func namedState() (there, missing []string) {
	for _, s := range new(Lab).slots() {
		if _, err := os.Lstat(namedPath(s.name)); err == nil {
			there = append(there, s.name)
		} else {
			missing = append(missing, s.name)
		}
	}
	return there, missing
}

// openRoot opens the three named namespaces.
func openRoot() (*Lab, error) {
	if there, _ := namedState(); len(there) == 0 {
		return nil, errNoLab
	}
	l := &Lab{}
	for _, s := range l.slots() {
		h, err := openNamedHost(s.name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the lab is incomplete: `ftpgate lab down` removes it: %w",
				err), l.Close())
		}
		*s.host = h
	}
	return l, nil
}

func openNamedHost(name string) (*Host, error) {
	f, err := os.Open(namedPath(name))
	if err != nil {
		return nil, err
	}
	var fs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != nsfsMagic {
		f.Close()
		return nil, fmt.Errorf("%s is not a namespace", namedPath(name))
	}
	return &Host{name: name, ns: f}, nil
}

// downRoot removes root's lab, even if it is incomplete.
func downRoot() error {
	if there, _ := namedState(); len(there) == 0 {
		return errNoLab
	}
	return withLock(namedDir, false, func() error {
		there, _ := namedState()
		if len(there) == 0 {
			return errNoLab
		}
		var errs []error
		for _, name := range there {
			if h, err := openNamedHost(name); err == nil {
				errs = append(errs, killProcesses(h), h.Close())
			}
			errs = append(errs, removeNamed(name))
		}
		return errors.Join(errs...)
	})
}

// removeNamed removes a name, with or without a namespace mounted on it: Up may have been killed between the
// two steps. It is not an error if the name does not exist.
func removeNamed(host string) error {
	path := namedPath(host)
	const umountNoFollow = 0x8 // UMOUNT_NOFOLLOW of include/linux/fs.h
	for {
		err := syscall.Unmount(path, syscall.MNT_DETACH|umountNoFollow)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, os.ErrNotExist) {
			break // nothing is mounted there any more
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// execRoot replaces this process by the command, on that host.
func execRoot(host, path string, argv []string) error {
	l, err := openRoot()
	if err != nil {
		return err
	}
	defer l.Close()
	h, err := l.Host(host)
	if err != nil {
		return err
	}
	// execve(2) ends the other threads, and continues in the namespaces of the calling thread.
	return h.Do(func() error {
		return os.NewSyscallError("execve "+path, syscall.Exec(path, argv, os.Environ()))
	})
}
