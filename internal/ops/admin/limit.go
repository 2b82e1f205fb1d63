package admin

import (
	"net"
	"sync"
)

// connLimiter is a listener with so many connections at once; what comes then waits in the kernel's queue.
type connLimiter struct {
	net.Listener
	free   chan struct{} // has as many as are in use
	closed chan struct{}
	close  func() error
}

func limitConns(l net.Listener, connections int) *connLimiter {
	closed := make(chan struct{})
	return &connLimiter{
		Listener: l,
		free:     make(chan struct{}, connections),
		closed:   closed,
		close: sync.OnceValue(func() error {
			close(closed)
			return l.Close()
		}),
	}
}

// Accept waits for a connection, and for one of the others to be over where there are too many.
func (l *connLimiter) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: c, over: sync.OnceFunc(func() { <-l.free })}, nil
}

// Close ends Accept. It may be called again.
func (l *connLimiter) Close() error { return l.close() }

// limitedConn is a connection that gives its place back.
type limitedConn struct {
	net.Conn
	over func()
}

// Close gives the place to another connection.
func (c *limitedConn) Close() error {
	defer c.over()
	return c.Conn.Close()
}
