package system

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ListenTCP takes connections at an address and port of this namespace, or where addr is not valid
// at every address of IPv4 and IPv6; on one interface only where one is named. The error wraps
// the kernel's: EADDRINUSE, EADDRNOTAVAIL, EACCES for a port that this process may not have.
func ListenTCP(ctx context.Context, addr netip.Addr, port uint16, iface string) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		if iface == "" {
			return nil
		}
		return onDescriptor(raw, func(fd int) error { return unix.BindToDevice(fd, iface) })
	}}
	config.SetMultipathTCP(false) // data is spliced, and that is for plain TCP
	host := ""
	if addr.IsValid() {
		host = addr.String()
	}
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	return l.(*net.TCPListener), nil
}

// PortFree tells whether no socket of this namespace listens at the address and port, or at that
// port of every address. Connections that are over and wait for late packets don't count.
func PortFree(at netip.AddrPort) bool {
	domain, sockaddr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(at.Port()), Addr: as4(at.Addr())})
	if at.Addr().Is6() {
		domain, sockaddr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// With it bind(2) minds sockets that listen, and no others (inet_csk_bind_conflict in
	// net/ipv4/inet_connection_sock.c).
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) != nil {
		return false
	}
	return unix.Bind(fd, sockaddr) == nil
}

// as4 returns the bytes of an IPv4 address, and zeros for another.
func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}

// onDescriptor calls f with a socket's descriptor.
func onDescriptor(raw syscall.RawConn, f func(fd int) error) error {
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
