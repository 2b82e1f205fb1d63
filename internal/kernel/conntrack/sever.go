package conntrack

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/system"
)

// Sever deletes a TCP connection that this host forwards, and makes both of its ends break it. A missing flow
// is no error. It does not wait for the ends; one that does not answer notices with its next packet.
//
// Without its entry, a packet of the connection reaches this host itself, which answers with a reset. But an
// end that only receives may never send one. So each end gets a SYN in the name of the other: an established
// end answers with an acknowledgement (RFC 5961 section 4.2), and gets the reset for that.
func (c *Conn) Sever(f netflow.Flow) error {
	if err := c.Delete(f.Original, f.ID); err != nil {
		return err
	}
	return errors.Join(sendSYN(f.Original.To, f.Original.From), sendSYN(f.Reply.To, f.Reply.From))
}

// sendSYN sends one SYN, without a connection: the socket is closed at once. The error is the operating
// system's, such as EADDRNOTAVAIL if from is no address of this host.
func sendSYN(from, to netip.AddrPort) error {
	domain := unix.AF_INET
	if to.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd) // nothing was written that it could lose
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, system.Sockaddr(from)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Connect(fd, system.Sockaddr(to)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return os.NewSyscallError("connect", err)
	}
	return nil
}
