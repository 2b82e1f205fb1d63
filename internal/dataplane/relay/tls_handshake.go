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
// reports whether all went well; else the transfer has failed.
func (t *tlsTransfer) prepare() bool {
	var handshakes, watch sync.WaitGroup
	var failed [2]bool
	for side := range t.legs {
		t.legs[side] = leg.New(t.ends[side])
	}
	for _, side := range []Side{Client, Server} {
		if t.usesTLS(side) {
			handshakes.Go(func() { failed[side] = !t.handshake(side) })
			continue
		}
		watch.Go(func() {
			if err := t.watchForReset(side); err != nil {
				failed[side] = true
				t.fail(err)
			}
		})
	}
	handshakes.Wait()
	for side, l := range t.legs {
		if !t.usesTLS(Side(side)) {
			_ = l.TCP().SetReadDeadline(time.Unix(1, 0)) // fails on a closed connection only
		}
	}
	watch.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handshaken = true
	for _, l := range t.legs {
		_ = l.TCP().SetDeadline(time.Time{})
	}
	return !failed[Client] && !failed[Server]
}

// handshake does the handshake with one end, and reports whether it went well; else the transfer has
// failed. FTP's peers begin TLS after the transfer command, and an end may be connected long before.
func (t *tlsTransfer) handshake(side Side) bool {
	if !t.awaitTransferStarted(side) {
		return false
	}
	l, lt := t.legs[side], t.tls[side]
	err := t.setHelloDeadline(side)
	if err == nil {
		err = l.Handshake(lt.config, side == Client, lt.handshakeTime)
	}
	if err == nil {
		err = t.admit(side)
	}
	if err == nil {
		if side == Server && !l.ConnectionState().DidResume {
			t.unresumed.Store(true)
		}
		return true
	}
	failure := &HandshakeError{side, lt.explainTimeout(l, err)}
	// An alert or close_notify tells the peer, and a reset could overtake it. Where crypto/tls sent none the
	// reset is all that keeps the peer from taking the end of the connection for that of a file.
	if l.SentAlert(err) {
		t.closeAfterAlert(side, failure)
	} else {
		t.fail(failure)
	}
	return false
}

// admit asks whether an end may carry data, now that its handshake is done; the error says why not. The end
// has read that the handshake went well, so it gets close_notify instead of an alert.
func (t *tlsTransfer) admit(side Side) error {
	l, lt := t.legs[side], t.tls[side]
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
		case <-t.broken:
			wait = nil
		}
	}
	if err != nil {
		_ = l.TCP().SetWriteDeadline(time.Now().Add(t.graceTime)) // fails on a closed connection only
		_ = l.CloseWrite()
	}
	return err
}

// awaitTransferStarted waits until the handshake with an end may begin; false: the transfer is over before. A
// client may wait for its handshake before it asks for a transfer, and gets it after the grace time.
func (t *tlsTransfer) awaitTransferStarted(side Side) bool {
	lt := t.tls[side]
	if lt.transferStarted == nil {
		return true
	}
	limit := lt.helloTime
	if side == Client {
		limit = t.graceTime
	}
	silence := time.NewTimer(limit)
	defer silence.Stop()
	select {
	case <-lt.transferStarted:
		return true
	case <-t.broken:
	case <-t.unused:
		if side == Client {
			return true
		}
		t.fail(ErrClosed)
	case <-silence.C:
		if side == Client {
			return true
		}
		err := fmt.Errorf("no transfer began in %s: %w", lt.helloTime, os.ErrDeadlineExceeded)
		t.fail(&HandshakeError{side, err})
	}
	return false
}

// setHelloDeadline sets how long an end may wait before it begins with its handshake; shortenHandshake may
// have come before.
func (t *tlsTransfer) setHelloDeadline(side Side) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	lt := t.tls[side]
	if t.shortened {
		return t.legs[side].TCP().SetDeadline(time.Now().Add(lt.handshakeTime))
	}
	return t.legs[side].TCP().SetDeadline(time.Now().Add(lt.helloTime))
}

// shortenHandshake gives handshakes that have not begun no more time than those that have: a server that
// calls a transfer complete has nothing more to wait for.
func (t *tlsTransfer) shortenHandshake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handshaken {
		return
	}
	t.shortened = true
	for side, c := range t.ends {
		if c != nil && t.usesTLS(Side(side)) {
			_ = c.SetDeadline(time.Now().Add(t.tls[side].handshakeTime))
		}
	}
}

// explainTimeout says what was missing in a handshake that took too long.
func (lt legTLS) explainTimeout(l *leg.Leg, err error) error {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case l.PeerBegan():
		return fmt.Errorf("not done %s after it began: %w", lt.handshakeTime, err)
	}
	return fmt.Errorf("not begun in %s: %w", lt.helloTime, err)
}

// closeAfterAlert breaks the transfer, but resets the end at fault only when that has closed, or after the
// time that the alert needs to get there. It sends no FIN: the peer closes by itself when it reads the
// alert.
func (t *tlsTransfer) closeAfterAlert(side Side, why error) {
	t.mu.Lock()
	c := t.ends[side]
	t.ends[side] = nil // kept from fail, which would reset it now
	t.mu.Unlock()
	t.fail(why)
	_ = c.SetDeadline(time.Now().Add(t.graceTime)) // fails only on a closed one
	stop := context.AfterFunc(t.ctx, func() { c.Close() })
	_, _ = io.Copy(io.Discard, c)
	stop()
	c.Close() // a reset: see package socket
}
