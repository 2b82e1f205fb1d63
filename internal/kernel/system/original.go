package system

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// originalDestination is SO_ORIGINAL_DST (include/uapi/linux/netfilter_ipv4.h) and IP6T_SO_ORIGINAL_DST
// (include/uapi/linux/netfilter_ipv6/ip6_tables.h).
const originalDestination = 80

// OriginalDestination returns where the peer of an accepted connection dialled, before the kernel redirected
// it here. Without a redirection it is the connection's own local end. The error is the kernel's: ENOENT if
// conntrack does not know the connection.
func OriginalDestination(c *net.TCPConn) (to netip.AddrPort, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("system: original destination: %w", err)
	}
	v4 := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().Is4()
	err = onDescriptor(raw, func(fd int) (err error) {
		to, err = originalDestinationOf(fd, v4)
		return err
	})
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("system: original destination: %w", err)
	}
	return to, nil
}

// originalDestinationOf asks by two functions that read options of the same lengths: a sockaddr_in fits into
// an ipv6_mreq, and an ip6_mtuinfo begins with a sockaddr_in6.
func originalDestinationOf(fd int, v4 bool) (netip.AddrPort, error) {
	if v4 {
		answer, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, originalDestination)
		if err != nil {
			return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
		}
		in := answer.Multiaddr // family, port, address
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(in[4:8])), binary.BigEndian.Uint16(in[2:4])), nil
	}
	answer, err := unix.GetsockoptIPv6MTUInfo(fd, unix.IPPROTO_IPV6, originalDestination)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
	}
	port := binary.NativeEndian.AppendUint16(nil, answer.Addr.Port) // which is in network byte order
	return netip.AddrPortFrom(netip.AddrFrom16(answer.Addr.Addr), binary.BigEndian.Uint16(port)), nil
}
