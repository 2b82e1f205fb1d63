// Package socket makes the TCP sockets of data connections that this process carries: listeners and dialled
// connections. Close resets the peer unless the owner asked for an orderly close before, and so does the end
// of the process, even by SIGKILL: no peer takes a transfer that was cut short for a complete one.
package socket

import (
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"ftpgate/internal/kernel/system"
)

// Backlog is how many connections may wait to be accepted at a port, which several clients may share; the
// kernel takes one more (sk_acceptq_is_full in include/net/sock.h).
const Backlog = 128

// Listen listens at an address and port. Accepted connections also reset their peer at close, and in
// TIME_WAIT they do not block the port. The error is the operating system's, EADDRINUSE if the port is taken.
// The caller closes the socket, which does not block.
func Listen(at netip.AddrPort) (*os.File, error) {
	fd, err := newSocket(at)
	if err != nil {
		return nil, err
	}
	if err := listen(fd, at); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}

// newSocket makes a socket of an address's family. It is of plain TCP, and not of multipath TCP as Go's are:
// splice(2) and resets are those of TCP.
func newSocket(addr netip.AddrPort) (fd int, err error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return fd, os.NewSyscallError("socket", err)
}

// listen binds a socket to at and listens. SO_REUSEADDR lets it bind despite connections of earlier transfers
// in TIME_WAIT. Two sockets that have it may both bind while neither listens; the second one to listen fails
// (inet_csk_listen_start in net/ipv4/inet_connection_sock.c).
func listen(fd int, at netip.AddrPort) error {
	if err := setOptions(fd); err != nil {
		return err
	}
	if err := unix.Bind(fd, system.Sockaddr(at)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, Backlog); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return nil
}

// setOptions sets what listeners and dialled sockets have in common: they reset the peer at close, a
// passthrough may listen at the port of one that is dialled, and small pieces leave at once. What a listener
// accepts has the first and the last of these from it.
func setOptions(fd int) error {
	err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	return os.NewSyscallError("setsockopt", err)
}

// Control calls f with the descriptor of a socket.
func Control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if errControl := raw.Control(func(fd uintptr) { err = f(int(fd)) }); errControl != nil {
		return errControl
	}
	return err
}
