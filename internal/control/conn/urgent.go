package conn

import (
	"net"

	"golang.org/x/sys/unix"
)

// The Telnet commands that announce an urgent FTP command (RFC 854).
const (
	telnetIAC = 255
	telnetIP  = 244 // interrupt process
	telnetDM  = 242 // data mark, the end of a Synch
)

// Synch sends Telnet's IP and Synch. The data mark is TCP's urgent byte, so that a server that is busy
// sending looks at its control connection (RFC 959 section 4.1.3, RFC 1123 section 4.1.2.10). The connection
// must be in clear: within TLS there is no urgent byte.
func (c *Control) Synch() error {
	if _, err := c.TCPConn.Write([]byte{telnetIAC, telnetIP, telnetIAC}); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Send(int(fd), []byte{telnetDM}, unix.MSG_OOB|unix.MSG_NOSIGNAL)
		return sent != unix.EAGAIN
	})
	if err != nil {
		return err
	}
	return sent
}

// InlineUrgent leaves the peer's urgent byte in the stream, where the line reader drops it with the rest of
// Telnet's commands. Otherwise the byte would be lost, and the line reader would see half a command.
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
