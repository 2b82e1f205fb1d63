package conn

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// WriteUrgent sends bytes and marks the last one as TCP's urgent byte. A server that is busy sending then
// reads its control connection (RFC 959 section 4.1.3, RFC 1123 section 4.1.2.10). Within TLS there is no
// urgent byte.
func (c *Control) WriteUrgent(b []byte) error {
	if c.TLS != nil {
		_, err := c.TLS.Write(b)
		return err
	}
	last := len(b) - 1
	if _, err := c.TCPConn.Write(b[:last]); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Send(int(fd), b[last:], unix.MSG_OOB|unix.MSG_NOSIGNAL)
		return sent != unix.EAGAIN
	})
	return errors.Join(err, sent)
}

// InlineUrgent leaves the peer's urgent byte in the stream, where the line reader drops it with the rest of
// Telnet's commands. Otherwise the byte would be lost, and the line reader would get half a command.
func InlineUrgent(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	}); err != nil {
		return err
	}
	return inner
}
