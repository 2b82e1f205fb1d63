package admin

import (
	"fmt"
	"ftpgate/internal/kernel/system"
	"net"

	"golang.org/x/net/netutil"
)

// limit returns a listener that has at most this number of connections at once; others wait in the kernel's
// queue. Its connections over a unix socket have the user at the other end as their remote address.
func limit(l net.Listener, connections int) net.Listener {
	return netutil.LimitListener(userListener{l}, connections)
}

// userListener is below the limit, because netutil hides the connection that it wraps.
type userListener struct{ net.Listener }

// Accept implements net.Listener.
func (l userListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if u, ok := c.(*net.UnixConn); ok && err == nil {
		return userConn{u, userOf(u)}, nil
	}
	return c, err
}

// userConn is a connection over a unix socket.
type userConn struct {
	*net.UnixConn
	user userAddr
}

// RemoteAddr implements net.Conn.
func (c userConn) RemoteAddr() net.Addr { return c.user }

// userAddr is the user at the other end, like "user 0, process 4711".
type userAddr string

// Network implements net.Addr.
func (userAddr) Network() string { return "unix" }

// String implements net.Addr.
func (a userAddr) String() string { return string(a) }

// userOf returns the user at the other end of a unix socket.
func userOf(u *net.UnixConn) userAddr {
	peer, err := system.PeerOf(u)
	if err != nil {
		return "unknown"
	}
	return userAddr(fmt.Sprintf("user %d, process %d", peer.Uid, peer.Pid))
}
