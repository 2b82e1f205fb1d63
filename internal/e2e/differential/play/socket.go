package play

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listen listens on a host.
func listen(h Host, at netip.AddrPort) (l *net.TCPListener, err error) {
	err = h.Do(func() error {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	})
	return l, err
}

// dial connects from a host. A valid from is the address, or with a zero address the port, that it connects
// from.
func dial(ctx context.Context, h Host, from, to netip.AddrPort, bound time.Duration) (c net.Conn, err error) {
	err = h.Do(func() error {
		// Without happy eyeballs this goroutine makes the socket, on the host's thread.
		d := net.Dialer{FallbackDelay: -1, Timeout: bound, Control: reuseAddress}
		if from.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(from)
		}
		c, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	return c, err
}

// reuseAddress lets several connections have port 20 at one end.
func reuseAddress(_, _ string, raw syscall.RawConn) error {
	var inner error
	err := raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(err, inner)
}

// accept accepts one connection.
func accept(l *net.TCPListener, bound time.Duration) (net.Conn, error) {
	if err := l.SetDeadline(time.Now().Add(bound)); err != nil {
		return nil, err
	}
	return l.Accept()
}

// readable reports whether a connection waits to be accepted from a listener, or bytes or the end of a
// connection to be read.
func readable(socket syscall.Conn) (yes bool, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return false, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var n int
		n, inner = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		yes = n > 0
	})
	return yes, errors.Join(err, inner)
}

// sendUrgent sends a byte as TCP's urgent one.
func sendUrgent(c *net.TCPConn, b byte) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = unix.Send(int(fd), []byte{b},
			unix.MSG_OOB|unix.MSG_NOSIGNAL)
	})
	return errors.Join(err, inner)
}

// inlineUrgent leaves the urgent byte in the stream.
func inlineUrgent(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	})
	return errors.Join(err, inner)
}

// isReset reports whether the other end broke a connection.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
