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
	// What is accepted has the listener's options: asking for keep-alive once saves four system calls a
	// connection.
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

// keepAlive has the kernel ask after a silent peer every 15 seconds, and give it up after the ninth
// question without an answer: NATs on the way keep the connection, too.
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

// keepAliveSeconds is what package net has for the connections that it makes.
const keepAliveSeconds = 15

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
