// Package relay is the data path that needs no privilege: for one pinhole it reserves a port of the gateway,
// accepts exactly one connection from exactly one peer, connects to the far end from the address that this
// end expects, and copies between the two until both have ended: by splice(2), or through TLS on the legs
// that use it.
//
// It never inspects data, never translates an address, never decides which peer can connect or the target of
// a pinhole, and never logs: Connection.Err says what went wrong. If one end fails, the relay resets the
// other, so that a transfer cut short never looks complete.
//
// Locks: listener.mu of package port, then Connection.mu, then Relay.mu. No call that waits is made while one
// is held.
package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/socket"
)

const (
	// DefaultHelloTime is how long an end may be silent before its TLS handshake: a client may connect after
	// PASV and ask for the file minutes later, and its server sends nothing before. The session has its own
	// limit; this is the limit without one, and the minimum of RFC 1123 section 4.1.3.2 for an idle session.
	DefaultHelloTime = 5 * time.Minute
	// defaultGraceTime is how long the control connection may be ahead of the data connection: they are
	// independent, and a lost segment is sent again within a second (RFC 6298 section 2).
	defaultGraceTime = time.Second
)

// Side names an end of a connection.
type Side uint8

const (
	Client Side = iota // FTP's client
	Server             // FTP's server
)

// String returns "client" or "server".
func (s Side) String() string {
	if s == Client {
		return "client"
	}
	return "server"
}

// other returns the opposite end.
func (s Side) other() Side { return s ^ 1 }

// Opener opens connections. It keeps no state, and several goroutines may use it at once.
type Opener struct {
	Relay *Relay // owns the connections; Carry needs none

	// Ports are where pinholes open; one is drawn at random. An empty range has no free port.
	Ports forward.PortRange
	// Show makes the kernel show an end another address than the gateway's; nil: no pinhole asks for that.
	Show socket.ShowSource
	// Avoid reports ports that must not be used although no socket listens there; nil: none.
	Avoid func(netip.AddrPort) bool

	// Balancers can pass on the connection of a balanced pinhole's peer, with a header.
	Balancers []netip.Prefix

	WaitTime time.Duration // from Arm to the connection, unless Use is called; 0: pinhole.Lifetime
	DialTime time.Duration // for each dialled end; 0: forward.DefaultDialTime

	HelloTime     time.Duration // from both ends to the first byte of a TLS end; 0: DefaultHelloTime
	HandshakeTime time.Duration // from that to the end of its handshake; 0: forward.HandshakeTime

	// IdleTime is how long a connection that continues after Close may be idle; 0: forward.DefaultIdleTime.
	IdleTime time.Duration

	graceTime time.Duration // 0: defaultGraceTime; tests use less
}

// Open listens at a port for the pinhole (the port of pinhole.Listen is ignored): a peer that connects before
// Arm is reset, or waits if the pinhole is active. Other connections share the port: a peer from another
// address is theirs, or is reset. A connection that is never armed holds its port until it is closed. The end
// of ctx breaks the connection until Close.
//
// The error is port.ErrNone if the peer or other programs have every port of the range, and the operating
// system's if pinhole.Listen is not the gateway's address. Open tries every port before port.ErrNone: five
// system calls for each that another program has, some 40 ms for the 16,384 of forward.DefaultPassivePorts.
func (p *Opener) Open(ctx context.Context, pinhole pinhole.Pinhole, dataTLS dataplane.DataTLS) (*Connection,
	error) {
	var c *Connection
	pinhole = pinhole.Unmap()
	if err := pinhole.Validate(); err != nil {
		return nil, fmt.Errorf("relay: open %s: %w", pinhole, err)
	}
	_, err := p.Relay.ports.Allocate(pinhole.From, pinhole.Listen.Addr(), p.Ports,
		func(at netip.AddrPort) (bool,
			error) {
			if p.Avoid != nil && p.Avoid(at) {
				return false, nil
			}
			pinhole.Listen = at
			var err error
			c, err = p.openAt(ctx, pinhole, dataTLS, p.Relay.ports)
			if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, port.ErrTaken) {
				err = ctx.Err()
			}
			return c != nil, err
		})
	if err != nil {
		return nil, fmt.Errorf("relay: open %s: %w", pinhole, err)
	}
	return c, nil
}

// OpenAt is Open at a port that the caller has allocated and releases after the connection is over. The error
// is the operating system's, or port.ErrTaken.
func (p *Opener) OpenAt(ctx context.Context, pinhole pinhole.Pinhole, dataTLS dataplane.DataTLS) (*Connection,
	error) {
	return p.openAt(ctx, pinhole, dataTLS, nil)
}

func (p *Opener) openAt(
	ctx context.Context, pinhole pinhole.Pinhole, dataTLS dataplane.DataTLS, ports *port.Allocator,
) (*Connection, error) {
	peer := Client
	if pinhole.Active {
		peer = Server
	}
	c := p.newConnection(peer, dataTLS)
	c.from, c.listen, c.ports = pinhole.From, pinhole.Accept(), ports
	c.work = func() error { return p.serve(c, pinhole) }
	var via []netip.Prefix
	if pinhole.Balanced {
		via = p.Balancers
	}
	route, err := p.Relay.acceptor.Open(c.from, c.listen, c, via...)
	if err != nil {
		c.stop()
		return nil, err
	}
	c.route = route
	c.breakAtEnd(ctx)
	return c, nil
}

// Bridge connects to both ends: an active client and a server that only listens. It connects to the server
// first, and to the client only after that: the client sees nothing of a transfer that the server refuses.
// Bridge returns at once; an end that cannot be connected to is a DialError in Err. The end of ctx breaks the
// connection until Close.
//
// The error says that an end is not a usable target.
func (p *Opener) Bridge(
	ctx context.Context, bridge pinhole.Bridge, dataTLS dataplane.DataTLS,
) (*Connection, error) {
	if err := bridge.Validate(); err != nil {
		return nil, fmt.Errorf("relay: bridge: %w", err)
	}
	c := p.newConnection(Client, dataTLS)
	c.work = func() error { return p.bridge(c, bridge) }
	c.armed = true
	c.breakAtEnd(ctx)
	c.start()
	return c, nil
}

// Carry connects an accepted client to its server, sends the header, and copies in clear until both have
// ended. It owns the connection. The end of ctx breaks both ends.
//
// The error is nil only if both ends closed their direction in order and all they sent was passed on. Else it
// is, or wraps, ErrClosed, a *DialError or a *BrokenError.
func (p *Opener) Carry(ctx context.Context, client *socket.Conn, to pinhole.Leg, header []byte) error {
	c := p.newConnection(Client, dataplane.DataTLS{})
	c.work = func() error {
		if err := p.dialServer(c, to, header); err != nil {
			return err
		}
		c.copyBoth()
		return nil
	}
	c.markConnected()
	c.armed = true
	c.setConn(Client, client)
	c.breakAtEnd(ctx)
	c.run()
	return c.endErr
}

// newConnection returns a connection without a goroutine. peer is the end that connects.
func (p *Opener) newConnection(peer Side, dataTLS dataplane.DataTLS) *Connection {
	c := &Connection{
		peer:          peer,
		relay:         p.Relay,
		bothConnected: make(chan struct{}),
		unused:        make(chan struct{}),
		connected:     make(chan struct{}),
		done:          make(chan struct{}),
		broken:        make(chan struct{}),
		flowing:       make(chan struct{}),
		finForwarded:  [2]chan struct{}{make(chan struct{}), make(chan struct{})},
		waitTime:      cmp.Or(p.WaitTime, pinhole.Lifetime),
		graceTime:     cmp.Or(p.graceTime, defaultGraceTime),
		idleTime:      cmp.Or(p.IdleTime, forward.DefaultIdleTime),
	}
	c.late = time.NewTimer(c.waitTime)
	c.late.Stop()
	c.ctx, c.stop = context.WithCancel(context.Background())
	if dataTLS.Client == nil && dataTLS.Server == nil {
		c.copier = clearConnection{c}
	} else {
		c.copier = p.newTLSConnection(c, dataTLS)
	}
	return c
}

// breakAtEnd breaks the connection when the caller's context ends.
func (c *Connection) breakAtEnd(ctx context.Context) {
	c.unregister = context.AfterFunc(ctx, func() {
		c.sever(fmt.Errorf("%w: %w", ErrClosed, context.Cause(ctx)))
	})
}
