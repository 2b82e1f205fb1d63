package netlink

import (
	"os"

	"golang.org/x/sys/unix"
)

// A netlink socket has a port ID, which stands in the notifications of what it changes. The sockets with
// which a process changes nftables have port IDs from one range, so that it can tell its own changes from
// those of others. The kernel draws from the same half of the numbers for sockets that ask for no port ID,
// and starts at another one if a number is taken (netlink_autobind in net/netlink/af_netlink.c).
const (
	portIDBits  = 9 // the sockets of a process; the kernel's process IDs have 22 bits
	portIDsMask = 1<<32 - 1<<portIDBits
)

// OwnPortIDs returns the range of this process's port IDs: those that are equal to first where mask has ones.
func OwnPortIDs() (first, mask uint32) {
	return 1<<31 | uint32(os.Getpid())<<portIDBits, portIDsMask
}

// BindOwn gives a socket a port ID from the range of this process: bind is called with one after the other,
// until one is not in use. If all are in use, the last error of bind is returned.
func BindOwn(bind func(portID uint32) error) (err error) {
	first, mask := OwnPortIDs()
	for id := first; id&mask == first; id++ {
		if err = bind(id); err != unix.EADDRINUSE { //nolint:errorlint // callers pass the bare number
			return err
		}
	}
	return err
}
