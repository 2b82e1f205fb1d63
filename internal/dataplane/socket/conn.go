package socket

import (
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/kernel/system"
)

// Conn is a TCP connection that carries data. It is a net.Conn, and has what the relay needs of a
// net.TCPConn. One of package net costs some twenty system calls more from accept or connect to its end:
// package net can take over a descriptor only as a duplicate, asks for both addresses, and sets up keep-alive
// for connections that last milliseconds. Several goroutines may call its methods at once.
type Conn struct {
	file *os.File
	raw  syscall.RawConn
}

// NewConn takes over the descriptor of a connection that does not block. After an error it is closed.
func NewConn(fd int) (*Conn, error) {
	file := os.NewFile(uintptr(fd), "data connection")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Conn{file, raw}, nil
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) { return c.file.Read(p) }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.file.Write(p) }

// Close closes the connection, with a reset: see the package comment.
func (c *Conn) Close() error { return c.file.Close() }

// CloseInOrder closes the connection with a FIN, after all unsent data.
func (c *Conn) CloseInOrder() {
	_ = c.Control(func(fd int) error { // cannot fail on an open socket
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{})
	})
	c.Close()
}

// CloseWrite sends a FIN after all unsent data.
func (c *Conn) CloseWrite() error {
	return c.Control(func(fd int) error {
		return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_WR))
	})
}

// KeepAlive makes the kernel break the connection when its peer answers nothing: it asks every 15 s, 9 times,
// as package net has it.
func (c *Conn) KeepAlive() error {
	return c.Control(func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		for option, value := range map[int]int{unix.TCP_KEEPIDLE: 15, unix.TCP_KEEPINTVL: 15,
			unix.TCP_KEEPCNT: 9} {
			if err == nil {
				err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, value)
			}
		}
		return os.NewSyscallError("setsockopt", err)
	})
}

// SyscallConn gives access to the descriptor. It never fails.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// Control calls f with the descriptor, unless the connection is closed.
func (c *Conn) Control(f func(fd int) error) error { return Control(c.raw, f) }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.file.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.file.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.file.SetWriteDeadline(t) }

// LocalAddr returns the gateway's end; empty once the connection is closed.
func (c *Conn) LocalAddr() net.Addr { return c.addr(unix.Getsockname) }

// RemoteAddr returns the peer's end; empty once the connection has ended.
func (c *Conn) RemoteAddr() net.Addr { return c.addr(unix.Getpeername) }

func (c *Conn) addr(ask func(fd int) (unix.Sockaddr, error)) net.Addr {
	var at unix.Sockaddr
	_ = c.Control(func(fd int) (err error) {
		at, err = ask(fd)
		return err
	})
	return net.TCPAddrFromAddrPort(system.AddrPort(at))
}
