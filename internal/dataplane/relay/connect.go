package relay

import (
	"cmp"
	"fmt"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/socket"
)

// serve waits for the pinhole's connection, connects to the far end and copies data until the end.
func (p *Opener) serve(c *Connection, spec pinhole.Pinhole) error {
	if err := c.await(); err != nil {
		return err
	}
	c.unlisten() // the pinhole is for one connection
	var port uint16
	if c.peer == Server { // some clients require the server's port 20 (RFC 959 section 3.2)
		port = c.peerPort
	}
	to := pinhole.Leg{SourceIP: spec.SourceIP, Own: spec.OwnSource, Target: spec.Target}
	if err := p.dial(c, c.peer.other(), to, port); err != nil {
		return err
	}
	c.copyBoth()
	return nil
}

// await waits for the pinhole's connection: for the wait time, or until Close while a transfer command waits
// for it.
func (c *Connection) await() error {
	defer c.late.Stop()
	select {
	case <-c.connected:
		return nil
	case <-c.broken:
		return ErrClosed
	case <-c.late.C:
		return c.expire(fmt.Errorf("%w from %s in %s", ErrNoPeer, c.from, c.waitTime))
	}
}

// expire ends the wait, and returns why no peer can connect any more; nil: one has just connected.
func (c *Connection) expire(why error) error {
	c.unlisten()
	select {
	case <-c.connected:
		return nil
	default:
		return why
	}
}

// bridge connects to the server and then to the client, and copies data until the end.
func (p *Opener) bridge(c *Connection, b pinhole.Bridge) error {
	if err := p.dial(c, Server, b.Server, 0); err != nil {
		return err
	}
	if err := p.dial(c, Client, b.Client, 0); err != nil {
		return err
	}
	c.mu.Lock()
	c.markConnected()
	c.mu.Unlock()
	c.copyBoth()
	return nil
}

// dial connects to an end of the connection, from the given port if it is free; 0: from any port.
func (p *Opener) dial(c *Connection, side Side, leg pinhole.Leg, port uint16) error {
	dialer := socket.Dialer{Timeout: cmp.Or(p.DialTime, forward.DefaultDialTime), Show: p.Show}
	conn, err := dialer.Dial(c.ctx, leg, port)
	if err != nil {
		return &DialError{side, leg.Target, err}
	}
	if !c.setConn(side, conn) {
		return ErrClosed
	}
	return nil
}
