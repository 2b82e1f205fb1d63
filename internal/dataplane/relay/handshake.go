package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// shake does the handshakes of the sealed legs at the same time, and watches over a leg that is in clear
// meanwhile. It tells whether all went well; else the transfer has failed.
func (t *Transfer) shake() bool {
	var handshakes, guard sync.WaitGroup
	var failed [2]bool
	for _, side := range []Side{From, To} {
		t.legs[side] = &leg{tcp: t.ends[side]}
		t.spoken[side] = make(chan struct{})
		if t.legTLS[side].config != nil {
			handshakes.Go(func() { failed[side] = !t.handshake(side) })
			continue
		}
		guard.Go(func() {
			if err := t.watchForReset(side); err != nil {
				failed[side] = true
				t.fail(err)
			}
		})
	}
	handshakes.Wait()
	for side, leg := range t.legs {
		if t.legTLS[side].config == nil {
			_ = leg.tcp.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed one, as the next
		}
	}
	guard.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shaken = true
	for _, leg := range t.legs {
		_ = leg.tcp.SetDeadline(time.Time{})
	}
	return !failed[From] && !failed[To]
}

// handshake does the handshake with one end, and tells whether it went well. FTP's peers begin TLS after the
// transfer command, and an end may be connected long before.
func (t *Transfer) handshake(side Side) bool {
	leg, seal := t.legs[side], t.legTLS[side]
	if !t.awaitBeginning(side) {
		return false
	}
	w, err := newBufferedConn(leg.tcp, seal.handshakeTime)
	if err == nil {
		err = t.allowSilence(side)
	}
	if err != nil {
		t.fail(&HandshakeError{side, seal.end, err})
		return false
	}
	leg.wire = w
	if seal.end == endClient {
		leg.tls = tls.Server(w, seal.config)
	} else {
		leg.tls = tls.Client(w, seal.config)
	}
	err = leg.tls.Handshake()
	w.shaking = false
	if err == nil {
		t.unresumed.Store(t.unresumed.Load() || seal.end == endServer && !leg.tls.ConnectionState().DidResume)
		return true
	}
	// An alert tells the peer why, and a reset could overtake it. Where crypto/tls sent none (the
	// connection itself has failed, or no TLS ever came from it) the reset is all that keeps the
	// peer from taking the end of the connection for that of a file.
	var noTLS tls.RecordHeaderError
	alerted := w.err == nil && w.heard && !errors.As(err, &noTLS)
	failure := &HandshakeError{side, seal.end, seal.slow(w, err)}
	if alerted {
		t.closeAfterAlert(side, failure)
	} else {
		t.fail(failure)
	}
	return false
}

// awaitBeginning waits until the handshake with an end may begin; false: the transfer is over before.
func (t *Transfer) awaitBeginning(side Side) bool {
	s := t.legTLS[side]
	if s.transferStarted == nil {
		return true
	}
	silence := time.NewTimer(s.helloTime)
	defer silence.Stop()
	select {
	case <-s.transferStarted:
		return true
	case <-t.broken:
	case <-silence.C:
		t.fail(&HandshakeError{side, s.end, fmt.Errorf("no transfer began in %s: %w", s.helloTime, os.ErrDeadlineExceeded)})
	}
	return false
}

// allowSilence sets how long an end may wait before it begins with its handshake: see hurry, which may come
// before.
func (t *Transfer) allowSilence(side Side) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.legTLS[side]
	if t.hurried {
		return t.legs[side].tcp.SetDeadline(time.Now().Add(s.handshakeTime))
	}
	return t.legs[side].tcp.SetDeadline(time.Now().Add(s.helloTime))
}

// shortenHandshake gives handshakes that have not begun no more time than those that have: a server that calls a
// transfer complete has nothing more to wait for.
func (t *Transfer) shortenHandshake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.usesTLS() || t.shaken {
		return
	}
	t.hurried = true
	for side, c := range t.ends {
		if c != nil && t.legTLS[side].config != nil {
			_ = c.SetDeadline(time.Now().Add(t.legTLS[side].handshakeTime))
		}
	}
}

// slow says of a handshake that took too long what was missing.
func (s legTLS) slow(w *bufferedConn, err error) error {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case w.heard:
		return fmt.Errorf("not done %s after it began: %w", s.handshakeTime, err)
	}
	return fmt.Errorf("not begun in %s: %w", s.helloTime, err)
}

// closeAfterAlert breaks the transfer, and resets the end at fault only when that has closed, or after the time that
// the alert needs to get there. It sends no FIN: the peer closes by itself when it reads the alert.
func (t *Transfer) closeAfterAlert(side Side, why error) {
	t.mu.Lock()
	c := t.ends[side]
	t.ends[side] = nil // from fail, which would reset it now
	t.mu.Unlock()
	t.fail(why)
	_ = c.SetDeadline(time.Now().Add(settleTime)) // fails only on a closed one
	stop := context.AfterFunc(t.ctx, func() { c.Close() })
	_, _ = io.Copy(io.Discard, c)
	stop()
	c.Close() // a reset: see abortive
}
