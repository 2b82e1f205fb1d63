package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"ftpgate/internal/dataplane/leg"
)

// prepare does the handshakes of both TLS legs at the same time, and watches a leg in clear meanwhile. It
// reports success; else the connection has failed.
func (c *tlsConnection) prepare() bool {
	var handshakes, watch sync.WaitGroup
	var failed [2]bool
	for side := range c.legs {
		c.legs[side] = leg.New(c.ends[side])
	}
	for _, side := range []Side{Client, Server} {
		if c.usesTLS(side) {
			handshakes.Go(func() { failed[side] = !c.handshake(side) })
			continue
		}
		watch.Go(func() {
			if err := c.watchForReset(side); err != nil {
				failed[side] = true
				c.fail(err)
			}
		})
	}
	handshakes.Wait()
	for side, l := range c.legs {
		if !c.usesTLS(Side(side)) {
			_ = l.TCP().SetReadDeadline(time.Unix(1, 0)) // fails on a closed connection only
		}
	}
	watch.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handshaken = true
	for _, l := range c.legs {
		_ = l.TCP().SetDeadline(time.Time{})
	}
	return !failed[Client] && !failed[Server]
}

// handshake does the handshake with one end, and reports success; else the connection has failed. FTP peers
// begin TLS after the transfer command, and an end may be connected long before.
func (c *tlsConnection) handshake(side Side) bool {
	if !c.awaitTransferStarted(side) {
		return false
	}
	l, lt := c.legs[side], c.tls[side]
	err := c.setHelloDeadline(side)
	if err == nil {
		err = l.Handshake(lt.config, side == Client, lt.handshakeTime)
	}
	if err == nil {
		err = c.admit(side)
	}
	if err == nil {
		if side == Server && !l.ConnectionState().DidResume {
			c.unresumed.Store(true)
		}
		return true
	}
	failure := &HandshakeError{side, lt.explainTimeout(l, err)}
	// An alert or close_notify informs the peer, and a reset could overtake it. If crypto/tls sent none, only
	// the reset keeps the peer from taking the end of the connection for that of a file.
	if l.SentAlert(err) {
		c.closeAfterAlert(side, failure)
	} else {
		c.fail(failure)
	}
	return false
}

// admit checks after its handshake whether an end may carry data; the error says why not. The handshake has
// succeeded for the end, so it gets close_notify instead of an alert.
func (c *tlsConnection) admit(side Side) error {
	l, lt := c.legs[side], c.tls[side]
	if lt.admit == nil {
		return nil
	}
	late := time.NewTimer(lt.handshakeTime)
	defer late.Stop()
	wait, err := lt.admit(l.ConnectionState())
	for wait != nil {
		select {
		case <-wait:
			wait, err = lt.admit(l.ConnectionState())
		case <-late.C:
			wait = nil
		case <-c.broken:
			wait = nil
		}
	}
	if err != nil {
		_ = l.TCP().SetWriteDeadline(time.Now().Add(c.graceTime)) // fails on a closed connection only
		_ = l.CloseWrite()
	}
	return err
}

// awaitTransferStarted waits until the handshake with an end may begin; false: the connection ended before. A
// client that waits for its handshake before it asks for a transfer gets it after the grace time.
func (c *tlsConnection) awaitTransferStarted(side Side) bool {
	lt := c.tls[side]
	if lt.transferStarted == nil {
		return true
	}
	limit := lt.helloTime
	if side == Client {
		limit = c.graceTime
	}
	silence := time.NewTimer(limit)
	defer silence.Stop()
	select {
	case <-lt.transferStarted:
		return true
	case <-c.broken:
	case <-c.unused:
		if side == Client {
			return true
		}
		c.fail(ErrClosed)
	case <-silence.C:
		if side == Client {
			return true
		}
		err := fmt.Errorf("no transfer began in %s: %w", lt.helloTime, os.ErrDeadlineExceeded)
		c.fail(&HandshakeError{side, err})
	}
	return false
}

// setHelloDeadline sets the deadline for the beginning of an end's handshake, a shorter one after
// shortenHandshake.
func (c *tlsConnection) setHelloDeadline(side Side) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	lt := c.tls[side]
	if c.shortened {
		return c.legs[side].TCP().SetDeadline(time.Now().Add(lt.handshakeTime))
	}
	return c.legs[side].TCP().SetDeadline(time.Now().Add(lt.helloTime))
}

// shortenHandshake limits handshakes that have not begun to HandshakeTime: after the server reported a
// complete transfer there is nothing more to wait for.
func (c *tlsConnection) shortenHandshake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handshaken {
		return
	}
	c.shortened = true
	for side, conn := range c.ends {
		if conn != nil && c.usesTLS(Side(side)) {
			_ = conn.SetDeadline(time.Now().Add(c.tls[side].handshakeTime))
		}
	}
}

// explainTimeout says what a handshake was waiting for when it timed out.
func (lt legTLS) explainTimeout(l *leg.Leg, err error) error {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case l.PeerBegan():
		return fmt.Errorf("not done %s after it began: %w", lt.handshakeTime, err)
	}
	return fmt.Errorf("not begun in %s: %w", lt.helloTime, err)
}

// closeAfterAlert breaks the connection, but resets the end at fault only after that has closed, or after the
// time that the alert needs to arrive. It sends no FIN: the peer closes by itself when it reads the alert.
func (c *tlsConnection) closeAfterAlert(side Side, why error) {
	c.mu.Lock()
	conn := c.ends[side]
	c.ends[side] = nil // hidden from fail, which would reset it now
	c.mu.Unlock()
	c.fail(why)
	_ = conn.SetDeadline(time.Now().Add(c.graceTime)) // fails only on a closed one
	stop := context.AfterFunc(c.ctx, func() { conn.Close() })
	_, _ = io.Copy(io.Discard, conn)
	stop()
	conn.Close() // a reset: see package socket
}
