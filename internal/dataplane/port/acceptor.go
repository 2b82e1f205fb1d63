package port

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/socket"
	"ftpgate/internal/kernel/system"
)

// ErrTaken says that another receiver accepts the connections of an address already.
var ErrTaken = errors.New("the port is taken for this address")

// Receiver gets the connections from one address to a port.
type Receiver interface {
	// Accept takes over a connection of the peer: one that was reset meanwhile has no RemoteAddr. Accept must
	// not wait, and must not close a Route.
	Accept(c *socket.Conn, peer Peer)
	// Refused is called for a connection from an address without a receiver: it was reset.
	Refused(from netip.Addr)
}

// Peer is who is at the far end of an accepted connection. A balancer's header names both addresses.
type Peer struct {
	From    netip.AddrPort // the peer's address
	Dialled netip.AddrPort // the address that it dialled
}

// Acceptor listens at ports of the gateway while they have routes. The zero value listens nowhere. It has one
// goroutine for each port. Several goroutines may call its methods at once.
type Acceptor struct {
	// Failed is called when the system gives no connection though one may wait, and the port pauses before
	// it tries again: descriptors or memory have run out. Each port has a goroutine that calls it, and waits
	// for it. It may be nil.
	Failed func(at netip.AddrPort, err error)

	goroutines sync.WaitGroup

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
}

// listener is one port and its routes.
type listener struct {
	socket *os.File
	closed chan struct{}

	at netip.AddrPort

	mu     sync.Mutex            // held while connections are accepted and handed out
	routes map[netip.Addr]*Route // by the peer's address
	// connections of balancers whose header is being read
	headers map[*socket.Conn]struct{}
}

// Route accepts the connections of one address until it is closed.
type Route struct {
	acceptor *Acceptor
	listener *listener
	from     netip.Addr
	at       netip.AddrPort
	to       Receiver
	via      []netip.Prefix
	once     sync.Once
}

// Listens reports whether the Acceptor listens at a port.
func (a *Acceptor) Listens(at netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.listeners[at] != nil
}

// Open begins to accept connections from an address to a port, also through the balancers in via: their
// connections must begin with a header that names the address. The error is ErrTaken, or the operating
// system's: EADDRINUSE if another program has the port. The caller closes the route.
func (a *Acceptor) Open(
	from netip.Addr, at netip.AddrPort, to Receiver, via ...netip.Prefix,
) (*Route, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.listeners[at]
	if l == nil {
		s, err := socket.Listen(at)
		if err != nil {
			return nil, err
		}
		l = &listener{socket: s, at: at, closed: make(chan struct{}), routes: map[netip.Addr]*Route{},
			headers: map[*socket.Conn]struct{}{}}
		if a.listeners == nil {
			a.listeners = map[netip.AddrPort]*listener{}
		}
		a.listeners[at] = l
		a.goroutines.Go(func() { a.serve(l, at) })
	}
	r := &Route{acceptor: a, listener: l, from: from, at: at, to: to, via: via}
	if !l.add(r) {
		return nil, ErrTaken
	}
	return r, nil
}

// Wait waits for the goroutines of closed ports. No route may be open.
func (a *Acceptor) Wait() { a.goroutines.Wait() }

// AcceptPending hands out the waiting connections of the route's port without waiting for the port's
// goroutine: when it returns, the receivers have all connections that were established before. After Close it
// does nothing.
func (r *Route) AcceptPending() {
	raw, err := r.listener.socket.SyscallConn()
	if err != nil {
		return
	}
	// serve meets the error, too
	_ = raw.Control(func(fd uintptr) { _ = r.acceptor.accept(r.listener, int(fd)) })
}

// Close ends the route. When it returns, the receiver gets no more connections; if this was the port's last
// route, the port is closed and waiting connections are reset. A second Close does nothing.
func (r *Route) Close() { r.once.Do(r.closeOnce) }

func (r *Route) closeOnce() {
	r.acceptor.mu.Lock()
	defer r.acceptor.mu.Unlock()
	l := r.listener
	if l.remove(r.from) {
		delete(r.acceptor.listeners, r.at)
		close(l.closed)
		l.socket.Close()
	}
}

// add adds a route for the connections of an address; false: they have one.
func (l *listener) add(r *Route) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.routes[r.from] != nil {
		return false
	}
	l.routes[r.from] = r
	return true
}

// remove ends a route, and reports whether it was the last.
func (l *listener) remove(from netip.Addr) (last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.routes, from)
	if last = len(l.routes) == 0; last {
		l.dropHeaders()
	}
	return last
}

// firstPause and lastPause are how long a port pauses after accept failed for lack of descriptors or memory.
// The pause doubles from one to the other. The connection waits meanwhile.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// serve hands out the connections of a port until its listener is closed.
func (a *Acceptor) serve(l *listener, at netip.AddrPort) {
	raw, err := l.socket.SyscallConn()
	if err != nil {
		return // closed already
	}
	var pause time.Duration
	for {
		var errAccept error
		err := raw.Read(func(fd uintptr) bool {
			if errAccept = a.accept(l, int(fd)); errAccept == nil || errAccept == unix.EAGAIN {
				pause = 0
			}
			return errAccept != unix.EAGAIN
		})
		if err != nil { // closed
			return
		}
		if errAccept == nil { // there may be more
			continue
		}
		if a.Failed != nil { // the system, not the socket, which stays good
			a.Failed(at, errAccept)
		}
		pause = min(max(2*pause, firstPause), lastPause)
		if !l.pause(pause) {
			return
		}
	}
}

// pause waits; false: the listener was closed meanwhile.
func (l *listener) pause(d time.Duration) bool {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-l.closed:
		return false
	}
}

// accept hands out the waiting connections, but no later ones, so that it does not hold the lock for long. It
// returns EAGAIN when none is left, or the system's error.
func (a *Acceptor) accept(l *listener, fd int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range socket.Backlog + 1 {
		c, peer, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			a.give(l, c, system.AddrPort(peer))
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return err
		}
	}
	return nil
}

// give hands a connection to its receiver, or resets it. The caller holds the lock.
func (a *Acceptor) give(l *listener, fd int, from netip.AddrPort) {
	balanced := l.hasBalancer(from.Addr())
	to := l.routes[from.Addr()]
	if to == nil && !balanced {
		_ = unix.Close(fd) // a reset: see package socket
		l.refused(from.Addr())
		return
	}
	c, err := socket.NewConn(fd)
	switch {
	case err != nil: // the peer gets a reset
	case balanced:
		a.readHeader(l, c, from.Addr())
	default:
		to.to.Accept(c, Peer{From: from, Dialled: l.at})
	}
}

// refused tells the receivers of a connection from an address without one. The caller holds the lock.
func (l *listener) refused(from netip.Addr) {
	for _, r := range l.routes {
		r.to.Refused(from)
	}
}
