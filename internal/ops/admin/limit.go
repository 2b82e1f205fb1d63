package admin

import (
	"net"
	"sync"
)

// connLimiter is a listener with a limit of connections at once: more wait in the kernel's queue.
type connLimiter struct {
	net.Listener
	inUse  chan struct{} // one element for each open connection
	closed chan struct{}
	close  func() error
}

func limitConns(l net.Listener, connections int) *connLimiter {
	closed := make(chan struct{})
	return &connLimiter{
		Listener: l,
		inUse:    make(chan struct{}, connections),
		closed:   closed,
		close: sync.OnceValue(func() error {
			close(closed)
			return l.Close()
		}),
	}
}

// Accept waits for a connection. At the limit it first waits until another one closes.
func (l *connLimiter) Accept() (net.Conn, error) {
	select {
	case l.inUse <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.inUse
		return nil, err
	}
	return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.inUse })}, nil
}

// Close ends Accept. Further calls do nothing.
func (l *connLimiter) Close() error { return l.close() }

// limitedConn is a connection that counts for the limit until it closes.
type limitedConn struct {
	net.Conn
	release func()
}

// Close makes room for another connection.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
