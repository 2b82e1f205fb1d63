package lab

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// killTimeout is how long a killed process may take to end. Only one that hangs in the kernel takes longer.
const killTimeout = 10 * time.Second

// killProcesses kills all processes in the host's namespace except this one, and returns when they have
// ended. It does not find a process that moved itself into another namespace.
func killProcesses(h *Host) error {
	link, err := result(h, func() (string, error) { return os.Readlink("/proc/thread-self/ns/net") })
	if err != nil {
		return err
	}
	for { // until none is left: a process may fork before it is killed
		ended, err := killOnce(link)
		if err != nil || ended == 0 {
			return err
		}
	}
}

// killOnce kills the processes in the network namespace link ("net:[inode]"), and returns their number.
func killOnce(link string) (int, error) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	ended := 0
	var errs []error
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() || !inNamespace(pid, link) {
			continue
		}
		if err := kill(pid, link); err != nil {
			errs = append(errs, fmt.Errorf("kill process %d: %w", pid, err))
			continue
		}
		ended++
	}
	return ended, errors.Join(errs...)
}

// inNamespace reports whether a process is in that network namespace. One that has ended is in none.
func inNamespace(pid int, link string) bool {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && ns == link
}

// kill kills a process if it is still in that namespace, and waits for its end. The pidfd guarantees that it
// kills the process that it checked.
func kill(pid int, link string) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if !inNamespace(pid, link) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	if err := f.SetReadDeadline(time.Now().Add(killTimeout)); err != nil {
		return err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	// A pidfd becomes readable when the process has ended (pidfd_open(2)), after it has left its namespaces.
	// Check the namespace, because the event may have come before Read began.
	return raw.Read(func(uintptr) bool { return !inNamespace(pid, link) })
}
