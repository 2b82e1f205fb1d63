package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

// This file is the command line's side of an ordinary user's lab; holder.go is the other side.

const (
	socketDirName = "ftpgate-lab"
	socketName    = "holder.sock"
	// maxSocketPath is the longest path in sockaddr_un (unix(7)), in bytes without the final zero.
	maxSocketPath = 107
	// holderReady is what a holder writes when its lab is up. Anything else is its error.
	holderReady = "ready"
)

// upUser starts a holder and waits until its lab is up.
func upUser() error {
	dir, err := socketDir()
	if err != nil {
		return err
	}
	return withLock(dir, true, func() error {
		if err := checkOwner(dir); err != nil {
			return err
		}
		conn, err := dialHolder(dir)
		if err == nil {
			conn.Close()
			return errLabExists
		}
		if !errors.Is(err, errNoLab) {
			return err
		}
		if err := startHolder(filepath.Join(dir, socketName)); err != nil {
			return errors.Join(err, removeSocket(dir))
		}
		return nil
	})
}

// socketDir returns the directory of the holder's socket for this user.
func socketDir() (string, error) {
	dir := filepath.Join(os.TempDir(), socketDirName+"-"+strconv.Itoa(os.Geteuid()))
	if own := os.Getenv("XDG_RUNTIME_DIR"); own != "" {
		dir = filepath.Join(own, socketDirName)
	}
	if socket := filepath.Join(dir, socketName); len(socket) > maxSocketPath {
		return "", fmt.Errorf("%s is too long for a socket (at most %d bytes): "+
			"set XDG_RUNTIME_DIR or TMPDIR to a shorter path", socket, maxSocketPath)
	}
	return dir, nil
}

// checkOwner refuses a directory in which another user could have put the socket.
func checkOwner(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s must be a directory that only you can access (owner %d, mode 0700): remove it",
			dir, os.Geteuid())
	}
	return nil
}

// dialHolder connects to the holder; errNoLab says that there is none, or that it has died.
func dialHolder(dir string) (*net.UnixConn, error) {
	switch err := checkOwner(dir); {
	case errors.Is(err, os.ErrNotExist):
		return nil, errNoLab
	case err != nil:
		return nil, err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(dir, socketName), Net: "unix"})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errNoLab
	}
	return conn, err
}

// startHolder starts this program as a holder that listens on socket, and waits until it is ready.
func startHolder(socket string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // left by a holder that was killed
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	listening, err := listener.File()
	if err != nil {
		return err
	}
	defer listening.Close()
	status, holderStatus, err := os.Pipe()
	if err != nil {
		return err
	}
	defer status.Close()

	cmd := exec.Command("/proc/self/exe", "lab", "hold")
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{holderStatus, listening} // holderStatusFile, holderListenerFile
	if cmd.Env, err = insideEnviron(); err != nil {
		return err
	}
	cmd.SysProcAttr = isolation()
	cmd.SysProcAttr.Setsid = true
	err = cmd.Start()
	holderStatus.Close() // so that reading status ends with the holder
	if err != nil {
		return explainRefusal(err)
	}
	text, err := io.ReadAll(status)
	if err == nil && string(text) == holderReady {
		return cmd.Process.Release()
	}
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	if len(text) > 0 {
		err = errors.New(string(text))
	}
	return fmt.Errorf("the holder ended before its lab was up: %w", err)
}

// downUser asks the holder to end, and waits for it.
func downUser() error {
	dir, err := socketDir()
	if err != nil {
		return err
	}
	err = withLock(dir, false, func() error {
		conn, err := dialHolder(dir)
		if errors.Is(err, errNoLab) {
			return errors.Join(err, removeSocket(dir))
		}
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := send(conn, request{Down: true}, nil); err != nil {
			return err
		}
		var r reply
		dec := json.NewDecoder(conn)
		if err := dec.Decode(&r); err != nil {
			return fmt.Errorf("the holder's answer: %w", err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil { // ends with the holder
			return err
		}
		return errors.Join(r.err(), removeSocket(dir))
	})
	if errors.Is(err, os.ErrNotExist) {
		return errNoLab
	}
	return err
}

// removeSocket removes the socket and its directory.
func removeSocket(dir string) error {
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Remove(dir)
}

// execUser runs a command through the holder, and forwards signals to it.
func execUser(host, path string, argv []string) (int, error) {
	dir, err := socketDir()
	if err != nil {
		return 0, err
	}
	conn, err := dialHolder(dir)
	if err != nil {
		if there, _ := namedState(); errors.Is(err, errNoLab) && len(there) > 0 {
			err = errors.New("the lab belongs to root: run this as root, or make your own with `ftpgate " +
				"lab up`")
		}
		return 0, err
	}
	defer conn.Close()
	cwd, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwardedSignals...)
	defer signal.Stop(signals)
	start := request{Host: host, Path: []byte(path), Dir: []byte(cwd), Argv: toBytes(argv),
		Env: toBytes(os.Environ())}
	enc, err := send(conn, start, syscall.UnixRights(0, 1, 2))
	if err != nil {
		return 0, err
	}
	return waitForReply(conn, enc, signals)
}

// waitForReply forwards signals until the holder replies how the command ended.
func waitForReply(conn *net.UnixConn, enc *json.Encoder, signals chan os.Signal) (int, error) {
	stop := forwardSignals(signals, func(s os.Signal) {
		if n, ok := s.(syscall.Signal); ok {
			_ = enc.Encode(int(n)) // fails if it has just ended: then there is a reply
		}
	})
	var r reply
	err := json.NewDecoder(conn).Decode(&r)
	stop()
	if err != nil {
		return 0, fmt.Errorf("the holder has ended: %w", err)
	}
	return r.Exit, r.err()
}
