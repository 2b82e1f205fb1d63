package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/socket"
)

// serve takes the pinhole's connection, connects it to the far end and carries data until the end.
func (p *Path) serve(t *Transfer, hole pinhole.Pinhole) error {
	c, err := t.accept(hole.From, orDefault(p.WaitTime, DefaultWaitTime))
	if err != nil {
		return err
	}
	if !t.setConn(From, c) {
		return ErrClosed
	}
	t.markConnected()
	if err := p.dial(t, To, pinhole.Leg{SourceIP: hole.SourceIP, Target: hole.Target}); err != nil {
		return err
	}
	t.copyBoth()
	return nil
}

// bridge connects to the server and then to the client, and carries data until the end.
func (p *Path) bridge(t *Transfer, b pinhole.Bridge) error {
	if err := p.dial(t, To, b.Server); err != nil {
		return err
	}
	if err := p.dial(t, From, b.Client); err != nil {
		return err
	}
	t.markConnected()
	t.copyBoth()
	return nil
}

// dial connects to an end of t.
func (p *Path) dial(t *Transfer, side Side, leg pinhole.Leg) error {
	c, err := socket.Dial(t.ctx, leg, orDefault(p.DialTime, DefaultDialTime))
	if err != nil {
		return &DialError{side, leg.Target, err}
	}
	if !t.setConn(side, c) {
		return ErrClosed
	}
	return nil
}

// listen makes the reserved port one where connections wait. The caller holds the lock, or nobody else has
// the transfer yet.
func (t *Transfer) listen() error {
	l, err := socket.Listen(t.reserved)
	if err != nil {
		return err
	}
	t.reserved.Close() // the listener has it
	t.listener = l
	return nil
}

// accept waits for the one connection from peer. It closes the listener, so that nothing can come behind that
// connection: the kernel resets what still waits there.
func (t *Transfer) accept(peer netip.Addr, wait time.Duration) (*net.TCPConn, error) {
	defer t.listener.Close() // closed twice where Close was faster: no harm
	if err := t.listener.SetDeadline(t.result.Armed.Add(wait)); err != nil {
		return nil, fmt.Errorf("wait for %s: %w", peer, err)
	}
	for {
		c, err := t.listener.AcceptTCP()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("%w from %s in %s", ErrNobody, peer, wait)
		case err != nil:
			return nil, fmt.Errorf("wait for %s: %w", peer, err)
		case socket.PeerAddr(c) == peer:
			return c, nil
		}
		t.result.Strangers++
		t.mu.Lock()
		t.stranger = socket.PeerAddr(c)
		t.mu.Unlock()
		c.Close() // a reset: see package socket
	}
}
