package system

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxCapability is the highest capability that the kernel's interface can express. PR_CAPBSET_READ shows how
// many there are.
const maxCapability = 63

// KeepCapabilities drops all capabilities of this process except keep: from all threads, and from all of
// their sets (capabilities(7)). Programs that the process starts inherit none, and cannot gain any
// (no_new_privs). It reduces the bounding set only with CAP_SETPCAP; otherwise no_new_privs alone prevents
// new capabilities. In a process without capabilities it only sets no_new_privs. It cannot be undone.
//
// Open other users' files before: afterwards user 0 may use only its own files, even for reading. Only a
// program without cgo can drop capabilities. With cgo the error wraps ENOTSUP, and nothing has changed.
func KeepCapabilities(keep ...uint) error {
	var kept [2]uint32
	for _, c := range keep {
		kept[c/32] |= 1 << (c % 32)
	}
	// This comes first because every process may do it, and because it shows whether all threads can be
	// reached.
	err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		return fmt.Errorf("system: drop capabilities: %w: "+
			"this program was built with cgo; build it with CGO_ENABLED=0", err)
	case err != nil:
		return fmt.Errorf("system: set no_new_privs: %w", err)
	}
	if err := reduceBoundingSet(kept); err != nil {
		return err
	}
	header, data, err := capabilities()
	if err != nil {
		return err
	}
	for i := range data {
		data[i].Effective &= kept[i]
		data[i].Permitted &= kept[i]
		data[i].Inheritable = 0 // clears the ambient set as well (cap_capset in security/commoncap.c)
	}
	err = onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])))
	if err != nil {
		return fmt.Errorf("system: drop capabilities: %w", err)
	}
	return nil
}

// reduceBoundingSet drops all other capabilities from the bounding set, if this process may do that.
func reduceBoundingSet(kept [2]uint32) error {
	may, err := capable(unix.CAP_SETPCAP)
	if err != nil || !may {
		return err
	}
	for c := uint(0); c <= maxCapability; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // this was the kernel's last one
		}
		if err != nil {
			return fmt.Errorf("system: read the capability bounding set: %w", err)
		}
		if has == 0 || kept[c/32]&(1<<(c%32)) != 0 {
			continue
		}
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c)); err != nil {
			return fmt.Errorf("system: drop capability %d from the bounding set: %w", c, err)
		}
	}
	return nil
}

// onAllThreads makes a system call on every thread of the process.
//
//go:uintptrescapes
func onAllThreads(trap, first, second uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(trap, first, second, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
