package relay

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
)

// serve takes the pinhole's connection, connects it to the far end and carries data until the end.
func (p *Path) serve(t *Transfer, hole pinhole.Pinhole) error {
	c, err := t.accept(hole.From, orDefault(p.WaitTime, DefaultWaitTime))
	if err != nil {
		return err
	}
	if !t.setConn(From, c) {
		return ErrClosed
	}
	t.markConnected()
	if err := p.reach(t, To, pinhole.Leg{SourceIP: hole.SourceIP, Target: hole.Target}); err != nil {
		return err
	}
	t.splice()
	return nil
}

// bridge connects to the server and then to the client, and carries data until the end.
func (p *Path) bridge(t *Transfer, b pinhole.Bridge) error {
	if err := p.reach(t, To, b.Server); err != nil {
		return err
	}
	if err := p.reach(t, From, b.Client); err != nil {
		return err
	}
	t.markConnected()
	t.splice()
	return nil
}

// markConnected notes that the peer is there.
func (t *Transfer) markConnected() {
	t.result.Connected = time.Now()
	close(t.connected)
}

// reach connects to an end and keeps the connection for t.
func (p *Path) reach(t *Transfer, side Side, leg pinhole.Leg) error {
	c, err := p.dial(t.ctx, leg)
	if err != nil {
		return &DialError{side, leg.Target, err}
	}
	if !t.setConn(side, c) {
		return ErrClosed
	}
	return nil
}

// dial connects to leg.To from leg.As and a port of the kernel's choice.
func (p *Path) dial(ctx context.Context, leg pinhole.Leg) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: orDefault(p.DialTime, DefaultDialTime), Control: outward}
	d.SetMultipathTCP(false)
	var local netip.AddrPort
	if leg.SourceIP.IsValid() {
		local = netip.AddrPortFrom(leg.SourceIP.Unmap(), 0)
	}
	return d.DialTCP(ctx, "tcp", local, netip.AddrPortFrom(leg.Target.Addr().Unmap(), leg.Target.Port()))
}

// outward prepares a socket that connects. The kernel shall choose the source port in connect(2) and
// not in bind(2), so that it must be free towards this one far end only: else all transfers
// together have no more than the ephemeral range (ip(7), IP_BIND_ADDRESS_NO_PORT; for IPv6 it is
// the same option). A kernel that does not know it chooses in bind(2).
func outward(_, _ string, raw syscall.RawConn) error {
	return onSocket(raw, func(fd int) error {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := reusable(fd, 1); err != nil { // the port may be one of a passage, which is to be listened at
			return err
		}
		return abortive(fd)
	})
}

// abortive has a socket, and what a listener accepts, reset its peer when it is closed. Every
// socket here is born so, and only the orderly end of a transfer takes it back: whatever closes one
// before, were it SIGKILL, no peer takes a transfer cut short for a complete one.
func abortive(fd int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
}

// onSocket calls f with the socket's descriptor.
func onSocket(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if errControl := raw.Control(func(fd uintptr) { err = f(int(fd)) }); errControl != nil {
		return errControl
	}
	return err
}
