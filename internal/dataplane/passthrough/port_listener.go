package passthrough

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/socket"
)

// firstPause and lastPause are how long a listener pauses after the system had no descriptor or no memory
// for a connection: the pause doubles from one to the other. The connection waits meanwhile.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// portListener is one port of the gateway, with the clients that may come through it.
type portListener struct {
	at       netip.AddrPort
	listener *net.TCPListener
	closed   chan struct{}

	mu     sync.Mutex
	routes map[netip.Addr]*route // by client
}

// route is where a port leads one client.
type route struct {
	target
	passthroughs int // that hold it open: those whose ports overlap hold it together
}

// target is the server behind a port, and the gateway's address that it sees.
type target struct {
	server, sourceIP netip.Addr
}

func targetOf(p pinhole.Passthrough) target { return target{p.Target, p.SourceIP} }

// newPortListener listens at a port. Nobody accepts yet.
func newPortListener(at netip.AddrPort) (*portListener, error) {
	f, err := socket.Listen(at)
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(f) // a duplicate
	f.Close()
	if err != nil {
		return nil, err
	}
	return &portListener{at: at, listener: l.(*net.TCPListener), closed: make(chan struct{}),
		routes: map[netip.Addr]*route{}}, nil
}

// close gives the port back: the kernel resets who waits there. It is called once.
func (l *portListener) close() {
	l.mu.Lock()
	clear(l.routes) // for what the listener has given away but nobody has looked at
	l.mu.Unlock()
	l.listener.Close()
	close(l.closed)
}

// targetOf returns where the port leads a client; false: nowhere.
func (l *portListener) targetOf(from netip.Addr) (target, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.routes[from]
	if r == nil {
		return target{}, false
	}
	return r.target, true
}

// addRoute lets the passthrough's client through.
func (l *portListener) addRoute(p pinhole.Passthrough) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.routes[p.From]
	if r == nil {
		r = &route{target: targetOf(p)}
		l.routes[p.From] = r
	}
	r.passthroughs++
}

// removeRoute takes one passthrough of a client back, and reports whether the port leads nobody any more.
func (l *portListener) removeRoute(from netip.Addr) (unused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.routes[from]
	if r.passthroughs--; r.passthroughs == 0 {
		delete(l.routes, from)
	}
	return len(l.routes) == 0
}

// pause waits; false: the listener was closed meanwhile.
func (l *portListener) pause(d time.Duration) bool {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-l.closed:
		return false
	}
}
