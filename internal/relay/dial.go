package relay

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bridge connects to both ends at once and carries data until the end.
func (p *Path) bridge(t *Transfer, a, b Leg) error {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	var legs sync.WaitGroup
	connect := func(side Side, leg Leg) {
		if err := p.reach(ctx, t, side, leg); err != nil {
			t.fail(err) // the first error counts: the other leg's is that it was called off
			cancel()
		}
	}
	legs.Go(func() { connect(To, b) })
	connect(From, a)
	legs.Wait()
	if ctx.Err() != nil {
		return ErrClosed // has been told by fail
	}
	t.result.Connected = time.Now()
	close(t.connected)
	t.splice()
	return nil
}

// reach connects to an end and keeps the connection for t.
func (p *Path) reach(ctx context.Context, t *Transfer, side Side, leg Leg) error {
	c, err := p.dial(ctx, leg)
	if err != nil {
		return &DialError{side, leg.To, err}
	}
	if !t.keep(side, c) {
		return ErrClosed
	}
	return nil
}

// dial connects to leg.To from leg.Local and a port of the kernel's choice.
func (p *Path) dial(ctx context.Context, leg Leg) (*net.TCPConn, error) {
	if err := checkFar(leg.To); err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: orDefault(p.DialTime, DefaultDialTime), Control: outward}
	d.SetMultipathTCP(false)
	var local netip.AddrPort
	if leg.Local.IsValid() {
		local = netip.AddrPortFrom(leg.Local.Unmap(), 0)
	}
	return d.DialTCP(ctx, "tcp", local, netip.AddrPortFrom(leg.To.Addr().Unmap(), leg.To.Port()))
}

// outward prepares a socket that connects. The kernel shall choose the source port in connect(2) and
// not in bind(2), so that it must be free towards this one far end only: else all transfers
// together have no more than the ephemeral range (ip(7), IP_BIND_ADDRESS_NO_PORT; for IPv6 it is
// the same option). A kernel that does not know it chooses in bind(2).
func outward(_, _ string, raw syscall.RawConn) error {
	return onSocket(raw, func(fd int) error {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
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
