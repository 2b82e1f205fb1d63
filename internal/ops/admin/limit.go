package admin

import (
	"net"
	"sync"
)

// limited is a listener with so many connections at once; what comes then waits in the kernel's queue.
type limited struct {
	net.Listener
	free   chan struct{} // has as many as are in use
	closed chan struct{}
	close  func() error
}

func limit(l net.Listener, connections int) *limited {
	closed := make(chan struct{})
	return &limited{
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
func (l *limited) Accept() (net.Conn, error) {
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
	return &counted{Conn: c, over: sync.OnceFunc(func() { <-l.free })}, nil
}

// Close ends Accept. It may be called again.
func (l *limited) Close() error { return l.close() }

// counted is a connection that gives its place back.
type counted struct {
	net.Conn
	over func()
}

// Close gives the place to another connection.
func (c *counted) Close() error {
	defer c.over()
	return c.Conn.Close()
}
