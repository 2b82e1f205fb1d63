// Package system reads and sets what a gateway needs of its host outside of nftables:
// capabilities, addresses, listening sockets, IP forwarding, kernel modules, and the claim that
// keeps two processes from owning one table.
//
// Everything that belongs to a network namespace is that of the calling thread: a caller in a
// namespace of its own locks its goroutine to the thread first (runtime.LockOSThread).
//
// It changes nothing but the two forwarding switches (EnableForwarding) and the kernel's set of
// modules (LoadModules), and those only when asked. It never touches nftables, links, addresses
// or routes, and it never undoes what it changed.
package system

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// threadProc is the proc directory of the calling thread. /proc/net and /proc/self/net are those of
// the process's first thread, which may be in another network namespace.
const threadProc = "/proc/thread-self"

// CanAdministerNetwork tells whether the calling thread may program this network namespace: its
// effective capabilities hold CAP_NET_ADMIN, and the namespace belongs to its user namespace or one
// below. The second can fail where the first holds: in a container of an ordinary user that shares
// the host's network.
func CanAdministerNetwork() (bool, error) {
	has, err := capable(unix.CAP_NET_ADMIN)
	if err != nil || !has {
		return false, err
	}
	return ownsNetwork()
}

// capable tells whether the calling thread's effective capabilities hold c (capabilities(7)).
func capable(c uint) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // pid 0: the calling thread
	var data [2]unix.CapUserData                                           // version 3: 64 bits in two words
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("system: read capabilities: %w", err)
	}
	return data[c/32].Effective&(1<<(c%32)) != 0, nil
}

// ownsNetwork tells whether the capabilities of the thread's user namespace count for its network
// namespace. NS_GET_USERNS answers EPERM where the owner lies outside the caller's user
// namespace (ioctl_nsfs(2)); what else goes wrong says nothing against it.
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

// Addresses returns every address on this namespace's interfaces, loopback included, in order and
// without zones. An address that only a local route makes the host's own (127.0.0.2, "ip route add
// local ...") is not among them.
func Addresses() ([]netip.Addr, error) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("system: list addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, n := range nets {
		ipNet, ok := n.(*net.IPNet)
		if !ok {
			continue
		}
		if addr, ok := netip.AddrFromSlice(ipNet.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// Interfaces returns the names of this namespace's interfaces, up or down, in order.
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
