package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// namedDir is where ip-netns(8) keeps names.
	namedDir = "/run/netns"
	// namedPrefix stands before client, gateway and server.
	namedPrefix = "ftpgate-"
)

func namedPath(host string) string { return filepath.Join(namedDir, namedPrefix+host) }

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
		l, err := build(newNamedHost)
		if err == nil {
			return l.Close()
		}
		for _, name := range hostNames { // none existed before
			err = errors.Join(err, removeNamed(name))
		}
		return err
	})
}

// shareNames makes the directory of names a shared mount, as the first `ip netns add` does, under the same
// lock. If `ip` did that after our names exist, its mount would hide them, and no program could remove them.
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

func newNamedHost(name string) (*Host, error) {
	namespace := namedPrefix + name
	return newHost(name, namespace, func() (netns.NsHandle, error) { return netns.NewNamed(namespace) })
}

// namedState returns the hosts whose names exist, and those whose names do not.
func namedState() (there, missing []string) {
	for _, name := range hostNames {
		if _, err := os.Lstat(namedPath(name)); err == nil {
			there = append(there, name)
		} else {
			missing = append(missing, name)
		}
	}
	return there, missing
}

// openRoot opens the three named namespaces.
func openRoot() (*Lab, error) {
	if there, _ := namedState(); len(there) == 0 {
		return nil, errNoLab
	}
	l, err := join(openNamedHost)
	if err != nil {
		return nil, fmt.Errorf("the lab is incomplete: `ftpgate lab down` removes it: %w", err)
	}
	return l, nil
}

func openNamedHost(name string) (*Host, error) {
	f, err := os.Open(namedPath(name))
	if err != nil {
		return nil, err
	}
	var fs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
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
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
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
