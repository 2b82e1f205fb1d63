// Package relay is the data path that needs no privilege: for one pinhole it reserves a port of the gateway,
// takes exactly one connection from exactly one peer, connects to the far end from the address that
// this end knows, and splices the two until both have ended. Where it is to speak TLS on a leg, it
// copies.
//
// It never looks at data, never translates an address, never decides who may come or where a
// pinhole leads, and never logs: what happened is in the Result. What one end breaks it breaks for
// the other, so that a transfer cut short never looks complete.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

const (
	// DefaultWaitTime is how long a pinhole waits for its connection: a client connects at once, or
	// after a few lost SYNs (sent again after 1, 3, 7 and 15 seconds), or never.
	DefaultWaitTime = 30 * time.Second
	// DefaultDialTime is how long an end may take to answer: three lost SYNs, and less than the
	// patience of the client that waits for its transfer.
	DefaultDialTime = 10 * time.Second
	// DefaultHelloTime is how long a sealed end may be silent before its TLS handshake: a client may
	// connect after PASV and ask for the file minutes later, and its server says nothing before. That
	// is bounded by the session; this bounds it where the session does not, and is the least that
	// RFC 1123 section 4.1.3.2 gives an idle session.
	DefaultHelloTime = 5 * time.Minute
	// DefaultHandshakeTime is how long a TLS handshake may take from the peer's first byte on: two round
	// trips and a signature by a slow device, with lost segments, and no more for one that dribbles.
	DefaultHandshakeTime = 30 * time.Second
)

var (
	// ErrNoPorts says that no port for a pinhole is free.
	ErrNoPorts = errors.New("no passive port is free")
	// ErrNobody says that the peer of a pinhole did not connect in time.
	ErrNobody = errors.New("nobody connected")
	// ErrClosed says that the transfer was closed before it had ended.
	ErrClosed = errors.New("closed")
	// ErrUnfinished says that the wait for the end of a transfer was called off.
	ErrUnfinished = errors.New("not finished")
)

// Side names an end of a transfer.
type Side uint8

const (
	From Side = iota // the peer that the pinhole lets in; of a bridge the client
	To               // the far end; of a bridge the server
)

// String returns "from" or "to".
func (s Side) String() string {
	if s == From {
		return "from"
	}
	return "to"
}

// other returns the opposite end.
func (s Side) other() Side { return s ^ 1 }

// DialError says that an end did not let itself be connected to.
type DialError struct {
	Side Side
	To   netip.AddrPort
	Err  error
}

func (e *DialError) Error() string { return fmt.Sprintf("dial %s: %v", e.To, e.Err) }
func (e *DialError) Unwrap() error { return e.Err }

// BrokenError says which end broke a running transfer, by a reset or by silence.
type BrokenError struct {
	Side Side
	Err  error
}

func (e *BrokenError) Error() string { return fmt.Sprintf("broken by the end %q: %v", e.Side, e.Err) }
func (e *BrokenError) Unwrap() error { return e.Err }

// Path opens transfers. It keeps no state and may be used by several goroutines at once.
type Path struct {
	Ports    forward.PortRange         // where pinholes open, drawn at random; an empty range has no free port
	Avoid    func(netip.AddrPort) bool // ports that are not to be used though nobody listens there; nil: none
	WaitTime time.Duration             // from Arm to the connection; 0: DefaultWaitTime
	DialTime time.Duration             // for each end that is dialled; 0: DefaultDialTime

	HelloTime     time.Duration // from both ends to the first byte of a sealed one; 0: DefaultHelloTime
	HandshakeTime time.Duration // from that to the end of its handshake; 0: DefaultHandshakeTime
}

// Open reserves a port for the pinhole (the port of hole.At is ignored): nobody else gets it, and a
// peer that connects to it is refused until Arm; that of an active pinhole is kept waiting. A transfer that is never armed holds its port
// until it is closed. The end of ctx closes the transfer, and the caller has to see it to its end.
//
// The error is ErrNoPorts where every port of the range is taken, and of the operating system where
// hole.At is not the gateway's address. Every port is tried before ErrNoPorts: four
// system calls each, some 40 ms for the 16,384 of dnat.DefaultPassivePorts.
func (p *Path) Open(ctx context.Context, hole pinhole.Pinhole, seals DataTLS) (*Transfer, error) {
	hole = unmap(hole)
	if err := check(hole); err != nil {
		return nil, fmt.Errorf("relay: open %s: %w", hole, err)
	}
	reserved, at, err := p.reserve(ctx, hole.Listen.Addr())
	if err != nil {
		return nil, fmt.Errorf("relay: open %s: %w", hole, err)
	}
	t := newTransfer(ctx)
	t.reserved, t.at = reserved, at
	t.work = func() error { return p.serve(t, hole) }
	client := From
	if hole.Active {
		client = To
	}
	p.seal(t, client, seals)
	if hole.Active {
		if err := t.listen(); err != nil {
			t.cancel(nil)
			return nil, errors.Join(fmt.Errorf("relay: open %s: %w", hole, err), reserved.Close())
		}
	}
	t.release = context.AfterFunc(t.ctx, t.callOff)
	return t, nil
}

// Bridge connects to both ends and joins them: an active client and a server that only listens. The
// server comes first, and the client is not connected to before that stands: a transfer that the
// server refuses shows itself to the client as none. Join returns at once; an end that cannot be
// connected to is a DialError in the result, To for the server and From for the client. The end of
// ctx closes the transfer, and the caller has to see it to its end.
//
// The error says that an end is nowhere to connect to.
func (p *Path) Bridge(ctx context.Context, bridge pinhole.Bridge, seals DataTLS) (*Transfer, error) {
	for _, leg := range []pinhole.Leg{bridge.Client, bridge.Server} {
		if err := checkFar(leg.Target); err != nil {
			return nil, fmt.Errorf("relay: join: %w", err)
		}
	}
	t := newTransfer(ctx)
	t.work = func() error { return p.bridge(t, bridge) }
	p.seal(t, From, seals)
	t.armed = true
	t.release = context.AfterFunc(t.ctx, t.callOff)
	go t.run()
	return t, nil
}

// unmap writes IPv4 addresses as such, however the caller's sockets call them.
func unmap(hole pinhole.Pinhole) pinhole.Pinhole {
	hole.From, hole.SourceIP = hole.From.Unmap(), hole.SourceIP.Unmap()
	hole.Listen = netip.AddrPortFrom(hole.Listen.Addr().Unmap(), hole.Listen.Port())
	hole.Target = netip.AddrPortFrom(hole.Target.Addr().Unmap(), hole.Target.Port())
	return hole
}

// check refuses a pinhole that is not exact: a listener on all addresses would be a gate.
func check(hole pinhole.Pinhole) error {
	switch at := hole.Listen.Addr(); {
	case !hole.From.IsValid() || hole.From.IsUnspecified():
		return errors.New("who may connect is not said")
	case !at.IsValid() || at.IsUnspecified():
		return errors.New("the gateway's address is not said")
	case at.Is4() != hole.From.Is4():
		return errors.New("who may connect and the gateway's address are of two families")
	}
	return checkFar(hole.Target)
}

// checkFar refuses what nothing can listen on.
func checkFar(to netip.AddrPort) error {
	if !to.IsValid() || to.Addr().IsUnspecified() || to.Port() == 0 {
		return fmt.Errorf("%s is nowhere to connect to", to)
	}
	return nil
}

// orDefault returns d, or its default where it is not set.
func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}
