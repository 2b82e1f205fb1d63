package lab

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	sysPidfdSendSignal = 424 // the same number on all architectures that Go knows
	sysPidfdOpen       = 434

	// killTimeout is how long a killed process may take to end. Longer takes only one that
	// hangs in the kernel.
	killTimeout = 10 * time.Second
)

// killProcesses kills all processes in the host's namespace, but not this one, and returns when
// they have ended. A process that itself moved into another namespace is not found.
func killProcesses(h *Host) error {
	var link string
	if err := h.Do(func() (err error) {
		link, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}); err != nil {
		return err
	}
	for { // again, until nothing is found: what is killed may have forked meanwhile
		ended, err := killOnce(link)
		if err != nil || ended == 0 {
			return err
		}
	}
}

// killOnce kills the processes that it finds in the network namespace link ("net:[inode]"), and
// returns their number.
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
			errs = append(errs, fmt.Errorf("end process %d: %w", pid, err))
			continue
		}
		ended++
	}
	return ended, errors.Join(errs...)
}

// inNamespace tells whether a process is in that network namespace. One that has ended is in none.
func inNamespace(pid int, link string) bool {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && ns == link
}

// kill kills a process, if it is still in that namespace, and waits for its end. The pidfd
// makes sure that it is one and the same that is looked at and killed.
func kill(pid int, link string) error {
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), syscall.O_NONBLOCK, 0)
	if errno == syscall.ESRCH {
		return nil
	}
	if errno != 0 {
		return os.NewSyscallError("pidfd_open", errno)
	}
	f := os.NewFile(fd, "pidfd")
	defer f.Close()
	if !inNamespace(pid, link) {
		return nil
	}
	_, _, errno = syscall.Syscall6(sysPidfdSendSignal, fd, uintptr(syscall.SIGKILL), 0, 0, 0, 0)
	if errno != 0 && errno != syscall.ESRCH {
		return os.NewSyscallError("pidfd_send_signal", errno)
	}
	if err := f.SetReadDeadline(time.Now().Add(killTimeout)); err != nil {
		return err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	// A pidfd becomes readable when the process has ended (pidfd_open(2)), after it has left its
	// namespaces. The one is asked because the other may have been told before Read began.
	return raw.Read(func(uintptr) bool { return !inNamespace(pid, link) })
}
