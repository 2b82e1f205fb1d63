package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// firstPause and lastPause are how long a gate rests after the system had no descriptor or no memory for
// a connection: the wait doubles from one to the other. The connection waits meanwhile.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// portListener is one port of the gateway, with the clients that may come through it.
type portListener struct {
	listen   netip.AddrPort
	listener *net.TCPListener
	closed   chan struct{}

	mu     sync.Mutex
	routes map[netip.Addr]*route
}

// route is where a gate leads one client.
type route struct {
	target
	holders int // that hold it open: those whose ports overlap hold it together
}

// target is the server behind a gate.
type target struct {
	server, sourceIP netip.Addr
}

func targetOf(p pinhole.Passthrough) target { return target{p.Target, p.SourceIP} }

// newPortListener listens at a port. Nobody accepts yet.
func newPortListener(ctx context.Context, at netip.AddrPort) (*portListener, error) {
	only := Path{Ports: forward.PortRange{First: at.Port(), Last: at.Port()}}
	reserved, _, err := only.reserve(ctx, at.Addr())
	if err != nil {
		return nil, err
	}
	l, err := listenOn(reserved)
	if errClose := reserved.Close(); err == nil && errClose != nil {
		l.Close()
		err = errClose
	}
	if err != nil {
		return nil, err
	}
	return &portListener{listen: at, listener: l, closed: make(chan struct{}), routes: map[netip.Addr]*route{}}, nil
}

// close gives the port back: who waits there is reset by the kernel. It is called once.
func (g *portListener) close() {
	g.mu.Lock()
	clear(g.routes) // for what the listener has given away but nobody has looked at
	g.mu.Unlock()
	g.listener.Close()
	close(g.closed)
}

// routeOf returns where the gate leads a client; false: nowhere.
func (g *portListener) routeOf(from netip.Addr) (target, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.routes[from]
	if w == nil {
		return target{}, false
	}
	return w.target, true
}

// addRoute lets the passage's client through.
func (g *portListener) addRoute(p pinhole.Passthrough) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.routes[p.From]
	if w == nil {
		w = &route{target: targetOf(p)}
		g.routes[p.From] = w
	}
	w.holders++
}

// removeRoute takes one passage of a client back, and tells whether the gate leads nobody any more.
func (g *portListener) removeRoute(from netip.Addr) (unused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.routes[from]
	if w.holders--; w.holders == 0 {
		delete(g.routes, from)
	}
	return len(g.routes) == 0
}

// pause waits; false: the gate was closed meanwhile.
func (g *portListener) pause(d time.Duration) bool {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-g.closed:
		return false
	}
}

// remoteAddr returns the peer's address as pinholes and passages write it.
func remoteAddr(c *net.TCPConn) netip.Addr {
	return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
}

// PassthroughError says why a passage cannot be opened.
type PassthroughError struct {
	Passthrough pinhole.Passthrough
	Err         error

	plain, remedy string
}

func (e *PassthroughError) Error() string {
	return fmt.Sprintf("relay: open passage %s: %v", e.Passthrough, e.Err)
}
func (e *PassthroughError) Unwrap() error { return e.Err }

// Reply returns the reason for the FTP client, with 431 (RFC 2228 section 5).
func (e *PassthroughError) Reply() (code int, text string) { return 431, e.plain }

// Remedy returns what the operator can do about it; empty: nothing but what Error says.
func (e *PassthroughError) Remedy() string { return e.remedy }

// invalid is about a passage that nothing helps.
func invalid(p pinhole.Passthrough, err error) error {
	return &PassthroughError{Passthrough: p, Err: err, plain: "the gateway cannot open the server's ports for data"}
}

func tooWide(p pinhole.Passthrough) error {
	return &PassthroughError{
		Passthrough: p,
		Err:         fmt.Errorf("%d ports are more than %d, the most without the kernel's tables", portCount(p.Ports), forward.MaxRelayedPorts),
		plain:       "the server has more ports for data than the gateway can open",
		remedy:      orKernel(p, "name a smaller range"),
	}
}

// orKernel returns the remedy, and before it the kernel where that can carry the passage.
func orKernel(p pinhole.Passthrough, remedy string) string {
	if !p.OneFamily() {
		return remedy
	}
	return "run as root or with CAP_NET_ADMIN so that the kernel carries it, or " + remedy
}

// portConflict is about a client that a port leads elsewhere already.
func portConflict(p pinhole.Passthrough, port uint16, taken target) error {
	return &PassthroughError{
		Passthrough: p,
		Err:         fmt.Errorf("port %d leads this client to %s as %s already", port, taken.server, taken.sourceIP),
		plain:       fmt.Sprintf("port %d of the gateway leads you to another server while another session lasts", port),
		remedy:      "give the two forwards addresses or server_ports of their own",
	}
}

// cannotListen is about a port at which nobody can listen.
func cannotListen(p pinhole.Passthrough, port uint16, err error) error {
	e := &PassthroughError{
		Passthrough: p,
		Err:         fmt.Errorf("port %d: %w", port, err),
		plain:       fmt.Sprintf("the gateway cannot open its port %d for data", port),
	}
	switch {
	case errors.Is(err, ErrNoPorts), errors.Is(err, unix.EADDRINUSE):
		e.Err = fmt.Errorf("port %d: %w", port, unix.EADDRINUSE)
		e.plain = fmt.Sprintf("port %d of the gateway is in use", port)
		e.remedy = orKernel(p, fmt.Sprintf("end what uses %s (see ss -tanp), and keep outgoing connections off "+
			"ports %s with the sysctl net.ipv4.ip_local_reserved_ports", netip.AddrPortFrom(p.Listen, port), p.Ports))
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		e.plain = "the gateway is out of room for more ports"
		e.remedy = orKernel(p, "allow more open files (LimitNOFILE, ulimit -n), or name a smaller range")
	}
	return e
}
