package admin

import (
	"net"
	"net/netip"
	"sync"

	"ftpgate/internal/core/forward"
)

// limitStrangers returns a listener that closes a new connection if its address already has this many
// connections without an authorized request: a client that connects and sends nothing leaves room for others.
func limitStrangers(l net.Listener, most int) net.Listener {
	return &strangerListener{Listener: l, most: most, strangers: map[netip.Prefix]int{}}
}

type strangerListener struct {
	net.Listener
	most int

	mu        sync.Mutex
	strangers map[netip.Prefix]int // their connections, by client
}

// Accept implements net.Listener.
func (l *strangerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := forward.ClientNetwork(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(),
			forward.DefaultIPv6Prefix)
		if l.enter(from) {
			return &strangerConn{Conn: c, known: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		c.Close()
	}
}

// enter counts a stranger; false: there are too many.
func (l *strangerListener) enter(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.strangers[from] >= l.most {
		return false
	}
	l.strangers[from]++
	return true
}

func (l *strangerListener) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.strangers[from]--; l.strangers[from] == 0 {
		delete(l.strangers, from)
	}
}

// strangerConn is a connection that counts as a stranger's until known is called, or it is closed.
type strangerConn struct {
	net.Conn
	known func()
}

// Close implements net.Conn.
func (c *strangerConn) Close() error {
	c.known()
	return c.Conn.Close()
}
