// Package socket makes the TCP sockets of data connections that this process carries: reserved ports,
// listeners and dialled connections. Close resets the peer unless the owner asked for an orderly close
// before; so does the end of the process, even by SIGKILL. So no peer takes a transfer that was cut short for
// a complete one.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// ErrNoPorts says that no port is free.
var ErrNoPorts = errors.New("no passive port is free")

// backlog is how many connections may wait to be accepted. One is wanted; the others are strangers that are
// refused at once, and need no more room than that.
const backlog = 16

// Reserve binds a socket to addr and a port of the range; each free port is as likely as the next. It tries
// every port once, with one socket, so that it finds the last free one. avoid reports ports that must not be
// used though nobody listens there; nil: none. The error is, or wraps, ErrNoPorts, the operating system's
// error, or that of ctx. Nobody else can bind to the port until the caller closes the file.
func Reserve(
	ctx context.Context, addr netip.Addr, ports forward.PortRange, avoid func(netip.AddrPort) bool,
) (*os.File, netip.AddrPort, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	// Plain TCP, and not Go's default of multipath TCP: splice(2) and resets are those of TCP.
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, netip.AddrPort{}, os.NewSyscallError("socket", err)
	}
	at, err := bind(ctx, fd, addr, ports, avoid)
	if err != nil {
		return nil, netip.AddrPort{}, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "pinhole"), at, nil
}

// bind draws ports until the socket has one.
func bind(
	ctx context.Context, fd int, addr netip.Addr, ports forward.PortRange, avoid func(netip.AddrPort) bool,
) (netip.AddrPort, error) {
	for port := range ports.Shuffled() {
		at := netip.AddrPortFrom(addr, port)
		if avoid != nil && avoid(at) {
			continue
		}
		err := bindExclusively(fd, at)
		switch {
		case err == nil:
			return at, nil
		case err != unix.EADDRINUSE:
			return at, os.NewSyscallError("bind", err)
		case ctx.Err() != nil:
			return at, ctx.Err()
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%w of %s", ErrNoPorts, ports)
}

// reusing is held while a socket that does not listen yet has SO_REUSEADDR. Nothing waits under it.
var reusing sync.Mutex

// bindExclusively binds a socket to at, so that nobody else can before it listens.
//
// Only a socket with SO_REUSEADDR may bind over what earlier transfers left at the port (TIME_WAIT). But
// two sockets that both have it share a port as long as neither listens, and a port that was taken with it
// while the port was entirely free is open to all others that have it (fastreuse in
// net/ipv4/inet_connection_sock.c). So the first attempt is without it, the second one with it, and the
// socket does not keep it. While it has it, no other socket of this process does: the two would share the
// port, and the second to listen would fail.
func bindExclusively(fd int, at netip.AddrPort) error {
	to := sockaddr(at)
	err := unix.Bind(fd, to)
	if err == unix.EADDRINUSE {
		reusing.Lock()
		defer reusing.Unlock()
		if err := setReuseAddr(fd, 1); err != nil {
			return err
		}
		err = unix.Bind(fd, to)
		if errKeep := setReuseAddr(fd, 0); errKeep != nil {
			return errKeep
		}
	}
	return err
}

func setReuseAddr(fd, on int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, on)
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

// Listen has a reserved socket listen. What it accepts is like it: it resets its peer at close, and in
// TIME_WAIT it does not keep the next transfer from the port. The caller closes the reserved file and the
// listener.
func Listen(reserved *os.File) (*net.TCPListener, error) {
	fd := int(reserved.Fd())
	if err := setResetOnClose(fd); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := setReuseAddr(fd, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	l, err := net.FileListener(reserved)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// Dial connects to an end, from the address that the leg names and a port of the kernel's choice.
func Dial(ctx context.Context, to pinhole.Leg, timeout time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: timeout, Control: prepareDialled}
	d.SetMultipathTCP(false)
	var local netip.AddrPort
	if to.SourceIP.IsValid() {
		local = netip.AddrPortFrom(to.SourceIP.Unmap(), 0)
	}
	return d.DialTCP(ctx, "tcp", local, netip.AddrPortFrom(to.Target.Addr().Unmap(), to.Target.Port()))
}

// prepareDialled prepares a socket that connects. The kernel shall choose the source port in connect(2) and
// not in bind(2), so that it must be free towards this one target only: otherwise all transfers together
// have no more than the ephemeral range (ip(7), IP_BIND_ADDRESS_NO_PORT; for IPv6 it is the same option). A
// kernel that does not know the option chooses in bind(2).
func prepareDialled(_, _ string, raw syscall.RawConn) error {
	return Control(raw, func(fd int) error {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := setReuseAddr(fd, 1); err != nil { // a passthrough may want to listen at the port
			return err
		}
		return setResetOnClose(fd)
	})
}

// setResetOnClose has a socket, and what a listener accepts, reset its peer when it is closed.
func setResetOnClose(fd int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
}

// CloseInOrder closes a connection with a FIN, behind everything that is still to be sent.
func CloseInOrder(c *net.TCPConn) {
	_ = c.SetLinger(-1) // fails on no open socket
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

// PeerAddr returns the peer's address as pinholes and passthroughs write it.
func PeerAddr(c *net.TCPConn) netip.Addr {
	return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
}
