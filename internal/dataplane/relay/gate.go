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

// gate is one port of the gateway, with the clients that may come through it.
type gate struct {
	at       netip.AddrPort
	listener *net.TCPListener
	closed   chan struct{}

	mu      sync.Mutex
	clients map[netip.Addr]*way
}

// way is where a gate leads one client.
type way struct {
	end
	passages int // that hold it open: those whose ports overlap hold it together
}

// end is the server behind a gate.
type end struct {
	to, as netip.Addr
}

func endOf(p pinhole.Passage) end { return end{p.To, p.As} }

// newGate listens at a port. Nobody accepts yet.
func newGate(ctx context.Context, at netip.AddrPort) (*gate, error) {
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
	return &gate{at: at, listener: l, closed: make(chan struct{}), clients: map[netip.Addr]*way{}}, nil
}

// close gives the port back: who waits there is reset by the kernel. It is called once.
func (g *gate) close() {
	g.mu.Lock()
	clear(g.clients) // for what the listener has given away but nobody has looked at
	g.mu.Unlock()
	g.listener.Close()
	close(g.closed)
}

// leads returns where the gate leads a client; false: nowhere.
func (g *gate) leads(from netip.Addr) (end, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.clients[from]
	if w == nil {
		return end{}, false
	}
	return w.end, true
}

// enter lets the passage's client through.
func (g *gate) enter(p pinhole.Passage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.clients[p.From]
	if w == nil {
		w = &way{end: endOf(p)}
		g.clients[p.From] = w
	}
	w.passages++
}

// leave takes one passage of a client back, and tells whether the gate leads nobody any more.
func (g *gate) leave(from netip.Addr) (unused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.clients[from]
	if w.passages--; w.passages == 0 {
		delete(g.clients, from)
	}
	return len(g.clients) == 0
}

// rest waits; false: the gate was closed meanwhile.
func (g *gate) rest(d time.Duration) bool {
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

// PassageError says why a passage cannot be opened.
type PassageError struct {
	Passage pinhole.Passage
	Err     error

	plain, remedy string
}

func (e *PassageError) Error() string {
	return fmt.Sprintf("relay: open passage %s: %v", e.Passage, e.Err)
}
func (e *PassageError) Unwrap() error { return e.Err }

// Reply returns the reason for the FTP client, with 431 (RFC 2228 section 5).
func (e *PassageError) Reply() (code int, text string) { return 431, e.plain }

// Remedy returns what the operator can do about it; empty: nothing but what Error says.
func (e *PassageError) Remedy() string { return e.remedy }

// broken is about a passage that nothing helps.
func broken(p pinhole.Passage, err error) error {
	return &PassageError{Passage: p, Err: err, plain: "the gateway cannot open the server's ports for data"}
}

func tooWide(p pinhole.Passage) error {
	return &PassageError{
		Passage: p,
		Err:     fmt.Errorf("%d ports are more than %d, the most without the kernel's tables", portsOf(p.Ports), forward.MaxRelayedPorts),
		plain:   "the server has more ports for data than the gateway can open",
		remedy:  elsewise(p, "name a smaller range"),
	}
}

// elsewise returns the remedy, and before it the kernel where that can carry the passage.
func elsewise(p pinhole.Passage, remedy string) string {
	if !p.OneFamily() {
		return remedy
	}
	return "run as root or with CAP_NET_ADMIN so that the kernel carries it, or " + remedy
}

// disputed is about a client that a port leads elsewhere already.
func disputed(p pinhole.Passage, port uint16, taken end) error {
	return &PassageError{
		Passage: p,
		Err:     fmt.Errorf("port %d leads this client to %s as %s already", port, taken.to, taken.as),
		plain:   fmt.Sprintf("port %d of the gateway leads you to another server while another session lasts", port),
		remedy:  "give the two forwards addresses or server_ports of their own",
	}
}

// noGate is about a port at which nobody can listen.
func noGate(p pinhole.Passage, port uint16, err error) error {
	e := &PassageError{
		Passage: p,
		Err:     fmt.Errorf("port %d: %w", port, err),
		plain:   fmt.Sprintf("the gateway cannot open its port %d for data", port),
	}
	switch {
	case errors.Is(err, ErrNoPorts), errors.Is(err, unix.EADDRINUSE):
		e.Err = fmt.Errorf("port %d: %w", port, unix.EADDRINUSE)
		e.plain = fmt.Sprintf("port %d of the gateway is in use", port)
		e.remedy = elsewise(p, fmt.Sprintf("end what uses %s (see ss -tanp), and keep outgoing connections off "+
			"ports %s with the sysctl net.ipv4.ip_local_reserved_ports", netip.AddrPortFrom(p.At, port), p.Ports))
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		e.plain = "the gateway is out of room for more ports"
		e.remedy = elsewise(p, "allow more open files (LimitNOFILE, ulimit -n), or name a smaller range")
	}
	return e
}
