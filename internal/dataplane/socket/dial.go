package socket

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/kernel/system"
)

// ShowSource makes a connection from an address and port of the gateway to a target come from another
// address. The caller calls forget once the connection is established, or is not.
type ShowSource func(own, target netip.AddrPort, source netip.Addr) (forget func(), err error)

// Dialer connects to ends.
type Dialer struct {
	Timeout time.Duration
	Show    ShowSource // for legs whose source is not the gateway's own; nil: there are none
}

// errNoSource says that the far end shall see an address that this process cannot show.
var errNoSource = errors.New("the kernel cannot give the connection another source address")

// Dial connects to an end, from the leg's source address. The source port is port if that is free, else the
// kernel's choice; 0: always the kernel's. The error is the operating system's, that of ctx, or
// os.ErrDeadlineExceeded after the timeout.
func (d Dialer) Dial(ctx context.Context, to pinhole.Leg, port uint16) (*Conn, error) {
	var local netip.AddrPort
	switch {
	case to.Own.IsValid():
		local = netip.AddrPortFrom(to.Own.Unmap(), port)
	case to.SourceIP.IsValid():
		local = netip.AddrPortFrom(to.SourceIP.Unmap(), port)
	}
	c, err := d.dial(ctx, local, to)
	if local.Port() != 0 && isTaken(err) {
		return d.dial(ctx, netip.AddrPortFrom(local.Addr(), 0), to)
	}
	return c, err
}

// isTaken reports whether an error means that the source port is not available: another socket or a
// connection with the same two ends has it, or it needs root.
func isTaken(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err,
		unix.EACCES)
}

// dial connects from a local address, which need not be valid, and waits for the connection.
func (d Dialer) dial(ctx context.Context, local netip.AddrPort, leg pinhole.Leg) (*Conn, error) {
	target := netip.AddrPortFrom(leg.Target.Addr().Unmap(), leg.Target.Port())
	fd, err := newSocket(target)
	if err != nil {
		return nil, err
	}
	if leg.Own.IsValid() {
		forget, err := d.show(fd, local, target, leg.SourceIP.Unmap())
		if err != nil {
			return nil, errors.Join(err, unix.Close(fd))
		}
		defer forget()
		local = netip.AddrPort{} // it is bound
	}
	to := system.Sockaddr(target)
	if err := begin(fd, local, to); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	c, err := NewConn(fd)
	if err != nil {
		return nil, err
	}
	if err := c.awaitConnected(ctx, to, d.Timeout); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// show binds a socket to an address of the gateway's, whose port the kernel must choose now, and makes its
// connection come from another address.
func (d Dialer) show(fd int, own, target netip.AddrPort, source netip.Addr) (forget func(), err error) {
	if d.Show == nil {
		return nil, errNoSource
	}
	bound, err := system.Bind(fd, own)
	if err != nil {
		return nil, err
	}
	return d.Show(bound, target, source)
}

// begin binds a socket and begins to connect it. The kernel shall choose the source port in connect(2) and
// not in bind(2), so that it must be free only towards this target: otherwise all transfers share one
// ephemeral range (ip(7), IP_BIND_ADDRESS_NO_PORT; the same option for IPv6). A kernel without the option
// chooses in bind(2).
func begin(fd int, local netip.AddrPort, to unix.Sockaddr) error {
	if err := setOptions(fd); err != nil {
		return err
	}
	if local.IsValid() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, system.Sockaddr(local)); err != nil {
			return os.NewSyscallError("bind", err)
		}
	}
	if err := unix.Connect(fd, to); !inProgress(err) {
		return os.NewSyscallError("connect", err)
	}
	return nil
}

// inProgress reports whether connect(2) continues without the caller.
func inProgress(err error) bool {
	return err == unix.EINPROGRESS || err == unix.EALREADY || err == unix.EINTR
}

// awaitConnected waits until a connection that was begun is established. A second connect(2) says what became
// of the first (__inet_stream_connect in net/ipv4/af_inet.c), without a wait where the far end has answered.
func (c *Conn) awaitConnected(ctx context.Context, to unix.Sockaddr, timeout time.Duration) error {
	if err := c.file.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.file.SetWriteDeadline(time.Unix(1, 0)) })
	var err error
	errWait := c.raw.Write(func(fd uintptr) bool {
		err = unix.Connect(int(fd), to)
		return !inProgress(err)
	})
	switch {
	case !stop():
		return ctx.Err()
	case errWait != nil:
		return errWait
	case err != nil && err != unix.EISCONN:
		return os.NewSyscallError("connect", err)
	}
	return c.file.SetWriteDeadline(time.Time{})
}
