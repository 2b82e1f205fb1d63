package system

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxCapability is the highest that the kernel's interface has room for; how many there are the kernel
// says (PR_CAPBSET_READ).
const maxCapability = 63

// KeepCapabilities takes every capability from this process but those of keep that it has: from all of
// its threads, and from every set of theirs (capabilities(7)). Nothing is inherited by programs that
// it starts, and no program that it starts can gain any (no_new_privs). The bounding set is cut
// where the process may do that, which takes CAP_SETPCAP; elsewhere no_new_privs alone keeps capabilities out.
// For a process that has none of its own nothing but no_new_privs changes. It is never undone.
//
// What needs root's power over other users' files has to be done before: afterwards user 0 owns its own
// files and no others, even to read. Only a program without cgo can do this: the error is
// ENOTSUP where it has cgo, and then nothing has been changed.
func KeepCapabilities(keep ...uint) error {
	var kept [2]uint32
	for _, c := range keep {
		kept[c/32] |= 1 << (c % 32)
	}
	// First, because it works for everybody, and says whether all threads can be reached at all.
	err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		return fmt.Errorf("system: drop capabilities: %w: this program was built with cgo; build it with CGO_ENABLED=0", err)
	case err != nil:
		return fmt.Errorf("system: set no_new_privs: %w", err)
	}
	if err := cutBounding(kept); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // pid 0: the calling thread
	var data [2]unix.CapUserData                                           // version 3: 64 bits in two words
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("system: read capabilities: %w", err)
	}
	for i := range data {
		data[i].Effective &= kept[i]
		data[i].Permitted &= kept[i]
		data[i].Inheritable = 0 // which takes the ambient ones with it (cap_capset in security/commoncap.c)
	}
	err = onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])))
	if err != nil {
		return fmt.Errorf("system: drop capabilities: %w", err)
	}
	return nil
}

// cutBounding drops what is not kept from the bounding set, where this process may.
func cutBounding(kept [2]uint32) error {
	may, err := capable(unix.CAP_SETPCAP)
	if err != nil || !may {
		return err
	}
	for c := uint(0); c <= maxCapability; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // the kernel has no more
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
