// Package system reads and changes what a gateway needs of its host, except nftables: capabilities,
// addresses, routes, listening sockets, sysctls, kernel modules, and the claim that keeps two processes from
// owning one table.
//
// Functions that work on a network namespace use the calling thread's. A caller in another namespace first
// locks its goroutine to the thread (runtime.LockOSThread).
//
// It changes only the sysctls for forwarding (EnableForwarding) and accounting (EnableAccounting), the
// kernel's modules (LoadModules), and this process's capabilities (KeepCapabilities), each only in the named
// function. It never changes nftables, links, addresses or routes, and never undoes a change.
//
// Locks: TimedResolver.mu is a leaf. Nothing is called while it is held.
package system

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// threadProc is the proc directory of the calling thread. /proc/net and /proc/self/net belong to the
// process's first thread, which may be in another network namespace.
const threadProc = "/proc/thread-self"

// CanAdministerNetwork reports whether the calling thread may change this network namespace: it has
// CAP_NET_ADMIN, and the namespace belongs to its user namespace or one below. In an ordinary user's
// container that shares the host's network, only the first is true.
func CanAdministerNetwork() (bool, error) {
	return capableInNetwork(unix.CAP_NET_ADMIN)
}

// capableInNetwork reports whether the calling thread has a capability, and the capability is valid in its
// network namespace.
func capableInNetwork(c uint) (bool, error) {
	has, err := capable(c)
	if err != nil || !has {
		return false, err
	}
	return ownsNetwork()
}

// capable reports whether the calling thread has capability c in its effective set (capabilities(7)).
func capable(c uint) (bool, error) {
	_, sets, err := capabilities()
	return sets[c/32].Effective&(1<<(c%32)) != 0, err
}

// capabilities returns the sets of the calling thread, 64 bits in two words, and the header to set them with.
func capabilities() (header unix.CapUserHeader, sets [2]unix.CapUserData, err error) {
	header.Version = unix.LINUX_CAPABILITY_VERSION_3 // pid 0: the calling thread
	if err = unix.Capget(&header, &sets[0]); err != nil {
		err = fmt.Errorf("system: read capabilities: %w", err)
	}
	return header, sets, err
}

// ownsNetwork reports whether the thread's capabilities are valid in its network namespace. NS_GET_USERNS
// answers EPERM if the owner is outside the caller's user namespace (ioctl_nsfs(2)). ownsNetwork ignores
// other errors of it.
func ownsNetwork() (bool, error) {
	f, err := os.Open(threadProc + "/ns/net")
	if err != nil {
		return false, fmt.Errorf("system: open the network namespace: %w", err)
	}
	defer f.Close()
	owner, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return err != unix.EPERM, nil
	}
	return true, unix.Close(owner)
}

// Addresses returns the addresses of this namespace's interfaces, with loopback, sorted and without zones. It
// leaves out addresses that are the host's own only by a local route (127.0.0.2, "ip route add local ...").
func Addresses() ([]netip.Addr, error) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("system: list addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, n := range nets {
		if prefix, ok := n.(*net.IPNet); ok {
			addr, _ := netip.AddrFromSlice(prefix.IP)
			addrs = append(addrs, addr.Unmap())
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// Interfaces returns the names of this namespace's interfaces, up or down, sorted.
func Interfaces() ([]string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("system: list interfaces: %w", err)
	}
	names := make([]string, len(links))
	for i, l := range links {
		names[i] = l.Name
	}
	slices.Sort(names)
	return names, nil
}
