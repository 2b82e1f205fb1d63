package relay

import (
	"cmp"
	"fmt"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/socket"
)

// serve takes the pinhole's connection, connects it to the far end and carries data until the end.
func (p *Opener) serve(t *Transfer, hole pinhole.Pinhole) error {
	if err := t.await(); err != nil {
		return err
	}
	t.unlisten() // nothing can come behind the one connection
	var port uint16
	if t.peer == Server { // there are clients that want the server's port 20 (RFC 959 section 3.2)
		port = t.peerPort
	}
	to := pinhole.Leg{SourceIP: hole.SourceIP, Target: hole.Target}
	if err := p.dial(t, t.peer.other(), to, port); err != nil {
		return err
	}
	t.copyBoth()
	return nil
}

// await waits for the pinhole's connection: for the wait time, or until Close while a transfer command waits
// for it.
func (t *Transfer) await() error {
	defer t.late.Stop()
	select {
	case <-t.connected:
		return nil
	case <-t.broken:
		return ErrClosed
	case <-t.late.C:
		return t.expire(fmt.Errorf("%w from %s in %s", ErrNobody, t.from, t.waitTime))
	}
}

// expire returns why nobody comes any more; nil: somebody has come in the last moment.
func (t *Transfer) expire(why error) error {
	t.unlisten()
	select {
	case <-t.connected:
		return nil
	default:
		return why
	}
}

// bridge connects to the server and then to the client, and carries data until the end.
func (p *Opener) bridge(t *Transfer, b pinhole.Bridge) error {
	if err := p.dial(t, Server, b.Server, 0); err != nil {
		return err
	}
	if err := p.dial(t, Client, b.Client, 0); err != nil {
		return err
	}
	t.mu.Lock()
	t.markConnected()
	t.mu.Unlock()
	t.copyBoth()
	return nil
}

// dial connects to an end of t, from the given port if it is free; 0: from any port.
func (p *Opener) dial(t *Transfer, side Side, leg pinhole.Leg, port uint16) error {
	c, err := socket.Dial(t.ctx, leg, port, cmp.Or(p.DialTime, DefaultDialTime))
	if err != nil {
		return &DialError{side, leg.Target, err}
	}
	if !t.setConn(side, c) {
		return ErrClosed
	}
	return nil
}
