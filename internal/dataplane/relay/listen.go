package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// backlog is how many connections may wait to be looked at. One is wanted; the others are
// strangers that are refused at once, and need no more room than that.
const backlog = 16

// reserve binds a socket to addr and a port of the range, each free one as likely as the next. It
// tries every port once with one socket, so that it finds the last free one, and ends.
func (p *Path) reserve(ctx context.Context, addr netip.Addr) (*os.File, netip.AddrPort, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	// Plain TCP, and not Go's default of multipath TCP: splice(2) and resets are those of TCP.
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, netip.AddrPort{}, os.NewSyscallError("socket", err)
	}
	at, err := p.bind(ctx, fd, addr)
	if err != nil {
		return nil, netip.AddrPort{}, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "pinhole"), at, nil
}

// bind draws ports until the socket has one.
func (p *Path) bind(ctx context.Context, fd int, addr netip.Addr) (netip.AddrPort, error) {
	for port := range p.Ports.Shuffled() {
		at := netip.AddrPortFrom(addr, port)
		if p.Avoid != nil && p.Avoid(at) {
			continue
		}
		err := bindAlone(fd, at)
		switch {
		case err == nil:
			return at, nil
		case err != unix.EADDRINUSE:
			return at, os.NewSyscallError("bind", err)
		case ctx.Err() != nil:
			return at, ctx.Err()
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%w of %s", ErrNoPorts, p.Ports)
}

// bindAlone binds a socket to at, so that nobody else can before it listens.
//
// What earlier transfers left at the port (TIME_WAIT) may be passed over only with SO_REUSEADDR. But
// two sockets that both have it share a port as long as neither listens, and a port that was taken
// with it while it was quite free is open to all others that have it (fastreuse in
// net/ipv4/inet_connection_sock.c). So the port is first taken without; only where something
// is left there with; and the socket does not keep it.
func bindAlone(fd int, at netip.AddrPort) error {
	to := sockaddr(at)
	err := unix.Bind(fd, to)
	if err == unix.EADDRINUSE {
		if err := reusable(fd, 1); err != nil {
			return err
		}
		err = unix.Bind(fd, to)
		if errKeep := reusable(fd, 0); errKeep != nil {
			return errKeep
		}
	}
	return err
}

func reusable(fd, on int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, on)
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

// listenOn has the reserved socket listen; what it accepts is like it: abortive, and in TIME_WAIT no
// hindrance to the port's next transfer. It leaves reserved open.
func listenOn(reserved *os.File) (*net.TCPListener, error) {
	fd := int(reserved.Fd())
	if err := abortive(fd); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := reusable(fd, 1); err != nil {
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

// addrOf is the peer's address.
func addrOf(c *net.TCPConn) netip.Addr {
	return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
}

// accept waits for the one connection from peer. The listener is closed when it returns, so that
// nothing can come behind it: what still waited there is reset by the kernel.
func (t *Transfer) accept(peer netip.Addr, wait time.Duration) (*net.TCPConn, error) {
	defer t.listener.Close() // closed twice where Close was faster: no harm
	if err := t.listener.SetDeadline(t.result.Armed.Add(wait)); err != nil {
		return nil, fmt.Errorf("wait for %s: %w", peer, err)
	}
	for {
		c, err := t.listener.AcceptTCP()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("%w from %s in %s", ErrNobody, peer, wait)
		case err != nil:
			return nil, fmt.Errorf("wait for %s: %w", peer, err)
		case addrOf(c) == peer:
			return c, nil
		}
		t.result.Strangers++
		t.mu.Lock()
		t.stranger = addrOf(c)
		t.mu.Unlock()
		c.Close() // a reset: see abortive
	}
}
