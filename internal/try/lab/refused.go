package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// RefusedError says that the kernel does not allow this process to make the namespaces of a lab.
type RefusedError struct {
	Why    string // the obstacle, as far as it is known
	Remedy string // what an operator can do
	Err    error  // the kernel's answer
}

// Error returns reason and remedy.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the kernel refuses namespaces (%v): %s; %s", e.Err, e.Why, e.Remedy)
}

// Unwrap returns the kernel's answer, a syscall.Errno.
func (e *RefusedError) Unwrap() error { return e.Err }

// explainRefusal turns the kernel's refusal of a namespace into a *RefusedError, and returns other errors
// unchanged.
func explainRefusal(err error) error {
	errno, _ := errors.AsType[syscall.Errno](err)
	switch errno {
	case syscall.EPERM, syscall.EACCES, syscall.ENOSPC, syscall.EUSERS, syscall.EINVAL, syscall.ENOSYS:
		refused := diagnose(errno, privileged(), readProcSys)
		return &refused
	}
	return err
}

// blockingSysctl is a sysctl that can forbid namespaces.
type blockingSysctl struct {
	sysctl   string // below /proc/sys
	blocked  string // the value that forbids them
	allowed  string // a value that allows them
	userOnly bool   // it restricts only processes without CAP_SYS_ADMIN
	why      string
}

// obstacles, with the most specific first: the limits of kernel/ucount.c, Debian's switch,
// AppArmor's (security/apparmor/lsm.c), and the switch of Red Hat's older kernels.
var blockingSysctls = []blockingSysctl{
	{"kernel/unprivileged_userns_clone", "0", "1", true, "ordinary users may not make user namespaces"},
	{"kernel/apparmor_restrict_unprivileged_userns", "1", "0", true,
		"AppArmor takes the rights from user namespaces of ordinary users"},
	{"user/max_user_namespaces", "0", "15000", true, "the limit of user namespaces is zero"},
	{"user/max_net_namespaces", "0", "15000", false, "the limit of network namespaces is zero"},
	{"user/max_mnt_namespaces", "0", "15000", false, "the limit of mount namespaces is zero"},
}

// diagnose finds the sysctl, if any, that stops a process with or without privileges. read returns the value
// of a sysctl, or an error if the kernel does not have it.
func diagnose(errno syscall.Errno, privileged bool, read func(string) (string, error)) RefusedError {
	for _, o := range blockingSysctls {
		if o.userOnly && privileged {
			continue
		}
		if value, err := read(o.sysctl); err == nil && value == o.blocked {
			name := strings.ReplaceAll(o.sysctl, "/", ".")
			return RefusedError{
				Why:    fmt.Sprintf("%s (%s=%s)", o.why, name, value),
				Remedy: fmt.Sprintf("as root: sysctl -w %s=%s, or run this as root", name, o.allowed),
				Err:    errno,
			}
		}
	}
	if errno == syscall.ENOSPC || errno == syscall.EUSERS {
		return RefusedError{
			Why: "a limit of namespaces is reached (user.max_user_namespaces, user.max_net_namespaces, " +
				"or 32 levels)",
			Remedy: "end what holds them (lsns lists them), or raise the limit",
			Err:    errno,
		}
	}
	return RefusedError{
		Why:    "no sysctl forbids them: a container's seccomp profile, a chroot or a security module does",
		Remedy: "run this as root, or give the container CAP_SYS_ADMIN and seccomp=unconfined",
		Err:    errno,
	}
}

func readProcSys(name string) (string, error) {
	value, err := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(value)), err
}

// privileged reports whether this process can make and configure namespaces without a user namespace of its
// own: whether it has CAP_SYS_ADMIN and CAP_NET_ADMIN in effect.
func privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	const needed = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_ADMIN
	return unix.Capget(&header, &sets[0]) == nil && sets[0].Effective&needed == needed
}
