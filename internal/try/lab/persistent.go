package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// errNoLab says that there is no persistent lab.
var errNoLab = errors.New("there is no lab: `ftpgate lab up` makes one")

// errLabExists is the error of a second Up.
var errLabExists = errors.New("the lab is up already")

// Up makes the persistent lab, and returns when it is up. For root the lab is the named namespaces
// ftpgate-client, ftpgate-gateway and ftpgate-server, which `ip netns` lists. For an ordinary user it belongs
// to a holder, a process in the background (see HolderMain). A second Up is an error. If Up fails, it removes
// what it made. The error is a *RefusedError if the kernel does not allow user namespaces.
func Up() error {
	if err := Prepare(); err != nil {
		return err
	}
	up := upUser
	if privileged() {
		up = upRoot
	}
	if err := up(); err != nil {
		return fmt.Errorf("lab: up: %w", err)
	}
	return nil
}

// Down kills the processes in the persistent lab, and removes it, even if only a part of it exists. If there
// is no lab, Down returns an error.
func Down() error {
	down := downUser
	if privileged() {
		down = downRoot
	}
	if err := down(); err != nil {
		return fmt.Errorf("lab: down: %w", err)
	}
	return nil
}

// Exec runs a command on a host of the persistent lab, with this process's standard files, environment and
// working directory, and returns its exit status (128 + the signal's number if a signal ended the command).
//
// For root the command *replaces* this process, so that it has the terminal, the signals and the exit status
// itself: Exec then returns only with an error. For an ordinary user the holder runs the command, in a
// session of its own, and Exec forwards signals.
func Exec(host string, argv []string) (exitCode int, err error) {
	if err := checkName(host); err != nil {
		return 0, err
	}
	if len(argv) == 0 {
		return 0, errors.New("lab: exec: no command")
	}
	path, err := exec.LookPath(argv[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return 0, fmt.Errorf("lab: exec: %w", err)
	}
	if privileged() {
		err = execRoot(host, path, argv)
	} else {
		exitCode, err = execUser(host, path, argv)
	}
	if err != nil {
		return 0, fmt.Errorf("lab: exec on %s: %w", host, err)
	}
	return exitCode, nil
}

// withLock runs f while no other process is in withLock for that directory. With create it makes the
// directory, accessible to its owner only.
func withLock(dir string, create bool, f func() error) error {
	for {
		if create {
			if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		}
		d, err := os.Open(dir)
		if create && errors.Is(err, os.ErrNotExist) {
			continue // removed in between
		}
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
			d.Close()
			return fmt.Errorf("lock %s: %w", dir, err)
		}
		if !isSameFile(d, dir) { // removed by the previous owner of the lock
			d.Close()
			continue
		}
		defer d.Close()
		return f()
	}
}

func isSameFile(d *os.File, path string) bool {
	had, err := d.Stat()
	if err != nil {
		return false
	}
	has, err := os.Lstat(path)
	return err == nil && os.SameFile(had, has)
}
