package relay

import (
	"cmp"
	"fmt"
	"net/netip"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/socket"
)

// serve waits for the pinhole's connection, connects to the far end and copies data until the end.
func (p *Opener) serve(c *Connection, spec pinhole.Pinhole) error {
	if err := c.await(); err != nil {
		return err
	}
	c.unlisten() // the pinhole is for one connection
	to := pinhole.Leg{SourceIP: spec.SourceIP, Own: spec.OwnSource, Target: spec.Target}
	c.mu.Lock()
	peer := c.peerAt
	c.mu.Unlock()
	var err error
	if c.peer == Server { // some clients require the server's port 20 (RFC 959 section 3.2)
		err = p.dial(c, Client, to, peer.From.Port())
	} else {
		err = p.dialServer(c, to, peer.Header(spec.ProxyProtocol))
	}
	if err != nil {
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
	// The client accepts the connection: the port is the one from which a server connects.
	client := port.Peer{From: b.Client.Target, Dialled: netip.AddrPortFrom(b.Client.SourceIP, serverDataPort)}
	if err := p.dialServer(c, b.Server, client.Header(b.ProxyProtocol)); err != nil {
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

// serverDataPort is the port from which servers open data connections (RFC 959 section 8).
const serverDataPort = 20

// dialServer connects to the server, and sends the header, if there is any.
func (p *Opener) dialServer(c *Connection, leg pinhole.Leg, header []byte) error {
	conn, err := p.connect(c, leg, 0)
	if err == nil && len(header) > 0 {
		if _, err = conn.Write(header); err != nil {
			conn.Close()
		}
	}
	return c.dialled(Server, leg, conn, err)
}

// dial connects to an end of the connection, from the given port if it is free; 0: from any port.
func (p *Opener) dial(c *Connection, side Side, leg pinhole.Leg, port uint16) error {
	conn, err := p.connect(c, leg, port)
	return c.dialled(side, leg, conn, err)
}

// connect connects to an end, from the given port if it is free; 0: from any port.
func (p *Opener) connect(c *Connection, leg pinhole.Leg, port uint16) (*socket.Conn, error) {
	dialer := socket.Dialer{Timeout: cmp.Or(p.DialTime, forward.DefaultDialTime), Show: p.Show}
	return dialer.Dial(c.ctx, leg, port)
}

// dialled takes over a connection to an end, or returns why there is none.
func (c *Connection) dialled(side Side, leg pinhole.Leg, conn *socket.Conn, err error) error {
	if err != nil {
		return &DialError{side, leg.Target, err}
	}
	if !c.setConn(side, conn) {
		return ErrClosed
	}
	return nil
}
