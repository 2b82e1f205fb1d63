// Package socket makes the TCP sockets of data connections that this process carries: listeners and dialled
// connections. Close resets the peer unless the owner asked for an orderly close before, and so does the end
// of the process, even by SIGKILL: no peer takes a transfer that was cut short for a complete one.
package socket

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/kernel/system"
)

// Backlog is how many connections may wait to be accepted at a port, which several clients may share; the
// kernel takes one more (sk_acceptq_is_full in include/net/sock.h).
const Backlog = 128

// Listen listens at an address and port. Accepted connections also reset their peer at close, and in
// TIME_WAIT they do not block the port. The error is the operating system's, EADDRINUSE if the port is taken.
// The caller closes the socket, which does not block.
func Listen(at netip.AddrPort) (*os.File, error) {
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	// Plain TCP, and not Go's default of multipath TCP: splice(2) and resets are those of TCP.
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := listen(fd, at); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}

// listen binds a socket to at and listens. SO_REUSEADDR lets it bind despite connections of earlier transfers
// in TIME_WAIT. Two sockets that have it may both bind while neither listens; the second one to listen fails
// (inet_csk_listen_start in net/ipv4/inet_connection_sock.c).
func listen(fd int, at netip.AddrPort) error {
	if err := setResetOnClose(fd); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := setReuseAddr(fd, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, system.Sockaddr(at)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, Backlog); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return nil
}

func setReuseAddr(fd, on int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, on)
}

// Dial connects to an end, from the leg's source address. The source port is port if that is free, else the
// kernel's choice; 0: always the kernel's.
func Dial(ctx context.Context, to pinhole.Leg, port uint16, timeout time.Duration) (*net.TCPConn, error) {
	var local netip.AddrPort
	if to.SourceIP.IsValid() {
		local = netip.AddrPortFrom(to.SourceIP.Unmap(), port)
	}
	d := net.Dialer{Timeout: timeout, Control: prepareDialled}
	d.SetMultipathTCP(false)
	target := netip.AddrPortFrom(to.Target.Addr().Unmap(), to.Target.Port())
	c, err := d.DialTCP(ctx, "tcp", local, target)
	if local.Port() != 0 && isTaken(err) {
		return d.DialTCP(ctx, "tcp", netip.AddrPortFrom(local.Addr(), 0), target)
	}
	return c, err
}

// isTaken reports whether an error means that the source port is not available: another socket or a
// connection with the same two ends has it, or it needs root.
func isTaken(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err,
		unix.EACCES)
}

// prepareDialled prepares a socket that connects. The kernel shall choose the source port in connect(2) and
// not in bind(2), so that it must be free only towards this target: otherwise all transfers share one
// ephemeral range (ip(7), IP_BIND_ADDRESS_NO_PORT; the same option for IPv6). A kernel without the option
// chooses in bind(2).
func prepareDialled(_, _ string, raw syscall.RawConn) error {
	return Control(raw, func(fd int) error {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := setReuseAddr(fd, 1); err != nil { // a passthrough may want to listen at the port
			return err
		}
		return setResetOnClose(fd)
	})
}

// setResetOnClose makes a socket, and the connections that a listener accepts, reset the peer at close.
func setResetOnClose(fd int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
}

// CloseInOrder closes a connection with a FIN, after all unsent data.
func CloseInOrder(c *net.TCPConn) {
	_ = c.SetLinger(-1) // cannot fail on an open socket
	c.Close()
}

// Control calls f with the descriptor of a socket.
func Control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if errControl := raw.Control(func(fd uintptr) { err = f(int(fd)) }); errControl != nil {
		return errControl
	}
	return err
}
