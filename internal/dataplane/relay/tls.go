package relay

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/leg"
)

// tlsConnection is a connection with TLS on one leg at least: data goes through this process, and an end has
// to say that its data is complete (close_notify). Its states, once both ends stand:
//
//	TLS waits for TransferStarted; a leg in clear is watched
//	handshaking --all handshakes done--> copying --both ends have ended--> over
//	handshaking --one fails--> closing after the alert --> over
//	any --reset, or an end without close_notify--> broken
type tlsConnection struct {
	*Connection
	tls  [2]legTLS
	legs [2]*leg.Leg // once both ends stand

	// heard is closed, by side, when the end has sent data, or has ended.
	heard     [2]chan struct{}
	heardOnce [2]sync.Once

	unresumed atomic.Bool // the server has not resumed the TLS session of its control connection

	// These are guarded by Connection.mu.
	handshaken bool // the handshakes are over
	shortened  bool // shortenHandshake was called before that
}

// legTLS is the TLS of one leg. On data connections the FTP client is the TLS client, whoever has connected
// (RFC 4217 section 7): so the gateway is the TLS server on the client's leg, and the TLS client on the
// server's.
type legTLS struct {
	config              *tls.Config     // nil: in clear
	closeNotifyOptional bool            // TCP's FIN alone may end its data: anybody on the way can forge that
	transferStarted     <-chan struct{} // the handshake begins when it is closed; nil: at once
	admit               admitFunc       // judges the end after its handshake; nil: it may carry data

	helloTime, handshakeTime time.Duration
}

// admitFunc is dataplane.DataTLS.Admit.
type admitFunc = func(tls.ConnectionState) (wait <-chan struct{}, err error)

// newTLSConnection returns the TLS part of a connection.
func (p *Opener) newTLSConnection(c *Connection, d dataplane.DataTLS) *tlsConnection {
	hello := cmp.Or(p.HelloTime, DefaultHelloTime)
	handshake := cmp.Or(p.HandshakeTime, forward.HandshakeTime)
	withTLS := &tlsConnection{Connection: c, heard: [2]chan struct{}{make(chan struct{}),
		make(chan struct{})}}
	withTLS.tls[Client] = legTLS{d.Client, d.ClientCloseNotifyOptional, d.TransferStarted,
		d.Admit, hello, handshake}
	withTLS.tls[Server] = legTLS{d.Server, d.ServerCloseNotifyOptional, d.TransferStarted,
		nil, hello, handshake}
	return withTLS
}

// usesTLS reports whether the gateway speaks TLS on the leg of an end.
func (c *tlsConnection) usesTLS(side Side) bool { return c.tls[side].config != nil }

// notResumed reports that TLS with the server was set up without resuming a session.
func (c *tlsConnection) notResumed() bool { return c.unresumed.Load() }

// copy decrypts and encrypts everything that side sends. What was encrypted for an end that broke
// before all of it was sent does not count as passed on.
func (c *tlsConnection) copy(side Side) error {
	defer c.noteHeard(side)
	src, dst := c.legs[side], c.legs[side.other()]
	for {
		if err := src.Wait(); err != nil {
			return c.conclude(side, err)
		}
		buf := leg.Borrow()
		n, err := src.Read(buf[:leg.BufferSize])
		var errWrite error
		if n > 0 {
			errWrite = dst.Write(buf[:n])
		}
		leg.Return(buf)
		if errWrite != nil {
			return &BrokenError{side.other(), errWrite}
		}
		if n > 0 && c.bytes[side].Add(int64(n)) == int64(n) {
			c.noteHeard(side)
		}
		if err != nil {
			return c.conclude(side, err)
		}
	}
}

// noteHeard notes that a side has sent data, or has ended.
func (c *tlsConnection) noteHeard(side Side) { c.heardOnce[side].Do(func() { close(c.heard[side]) }) }

// conclude passes the end of a direction on: close_notify, FIN or both, as the other leg has it. err is how
// that side ended: io.EOF, or that it did not.
func (c *tlsConnection) conclude(side Side, err error) error {
	c.announceEnd(side)
	src, dst := c.legs[side], c.legs[side.other()]
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &BrokenError{side, &TruncatedError{side, true}}
	case err != io.EOF:
		return &BrokenError{side, err}
	case !src.SawCloseNotify():
		if c.brokeUnseen(side) && (src.UsesTLS() || !c.sentFIN(side)) {
			return &BrokenError{side, unix.ECONNRESET}
		}
		if src.UsesTLS() && !c.mayEndWithoutCloseNotify(side) {
			return &BrokenError{side, &TruncatedError{side, false}}
		}
	}
	c.markFINReceived(side)
	c.noteHeard(side)
	if err := dst.CloseWrite(); err != nil && !c.closedCleanly(side.other()) {
		return &BrokenError{side.other(), err}
	}
	c.markFINForwarded(side)
	return nil
}

// mayEndWithoutCloseNotify reports whether the end of a TLS connection without close_notify is the end of its
// data, and not a truncation.
//
// An end that has sent data has to say that it was all. One that only receives has nothing that could be
// cut short, and many such ends just close: clients after a download, servers after an upload. Nobody here
// knows which end is to send before data comes; and a file may be empty. If the FIN of an end that has sent
// nothing were simply passed on, then an attacker's FIN at the very start would become an empty file, with
// close_notify from us: with our word for what the sender never said.
//
// So the other end has to have shown that this one receives: it has sent data itself, or has ended in order
// (an empty file's sender comes first: the receiver closes because of it). An end that closes because of
// either does so after it was passed on through here; graceTime is for what overtakes it between two
// goroutines. If nothing comes, the connection is broken: an empty file without close_notify, or an end that
// went away before it began.
func (c *tlsConnection) mayEndWithoutCloseNotify(side Side) bool {
	if c.tls[side].closeNotifyOptional {
		return true
	}
	if c.bytes[side].Load() > 0 {
		return false
	}
	late := time.NewTimer(c.graceTime)
	defer late.Stop()
	select {
	case <-c.heard[side.other()]:
	case <-late.C:
	case <-c.ctx.Done():
	}
	return c.bytes[side.other()].Load() > 0 || c.finReceived[side.other()].Load()
}

// closedCleanly reports that an end with TLS had ended in order before its connection failed, and that
// nothing was to be delivered to it. A client does not break an upload when it closes after close_notify
// and does not read what TLS itself sends: session tickets (RFC 8446 section 4.6.1), and our close_notify.
// Its kernel resets such a connection.
func (c *tlsConnection) closedCleanly(side Side) bool {
	return c.usesTLS(side) && c.finReceived[side].Load() && c.bytes[side.other()].Load() == 0
}
