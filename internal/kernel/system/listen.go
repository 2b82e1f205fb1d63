package system

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ListenTCP listens at an address and port of this namespace. If addr is not valid, it listens at every
// address of IPv4 and IPv6; if iface is not empty, it accepts connections on that interface only. The error
// wraps the kernel's: EADDRINUSE, EADDRNOTAVAIL, or EACCES for a port that this process may not use. The
// caller closes the listener.
func ListenTCP(ctx context.Context, addr netip.Addr, port uint16, iface string) (*net.TCPListener, error) {
	// Accepted connections inherit the listener's options. Setting keep-alive once saves four system calls
	// for each connection.
	config := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		return onDescriptor(raw, func(fd int) error {
			if iface != "" {
				if err := unix.BindToDevice(fd, iface); err != nil {
					return err
				}
			}
			return keepAlive(fd)
		})
	}}
	config.SetMultipathTCP(false) // splice(2) works with plain TCP only
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

// keepAlive makes the kernel probe a silent peer every 15 seconds, and close the connection after nine probes
// without an answer. The probes also keep the connection alive in NATs on the way.
func keepAlive(fd int) error {
	for _, option := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveSeconds},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveSeconds},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		if err := unix.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return err
		}
	}
	return nil
}

// keepAliveSeconds is package net's default.
const keepAliveSeconds = 15

// PortFree reports whether no socket of this namespace listens at the address and port, or at that port of
// every address. It ignores connections in TIME_WAIT.
func PortFree(at netip.AddrPort) bool {
	domain := unix.AF_INET6
	if at.Addr().Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// With SO_REUSEADDR, bind(2) conflicts only with sockets that listen (inet_csk_bind_conflict in
	// net/ipv4/inet_connection_sock.c).
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) != nil {
		return false
	}
	return unix.Bind(fd, Sockaddr(at)) == nil
}

// Sockaddr returns an address and port as the system calls want it. A zone is left out.
func Sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

// AddrPort returns a socket address as an address and port, IPv4 as IPv4; not valid for nil.
func AddrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Bind binds a socket to an address of this host. If the port is 0, the kernel chooses one now. Bind returns
// what the socket is bound to.
func Bind(fd int, at netip.AddrPort) (bound netip.AddrPort, err error) {
	if err := unix.Bind(fd, Sockaddr(at)); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("bind", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	return AddrPort(sa), nil
}

// onDescriptor calls f with a socket's descriptor.
func onDescriptor(raw syscall.RawConn, f func(fd int) error) error {
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
