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

// tlsConnection is a connection with TLS on at least one leg: this process copies the data, and an end must
// mark its end (close_notify). Its states, once both ends are connected:
//
//	TLS waits for TransferStarted; a leg in clear is watched
//	handshaking --all handshakes done--> copying --both ends have ended--> over
//	handshaking --one fails--> closing after the alert --> over
//	any --reset, or an end without close_notify--> broken
type tlsConnection struct {
	*Connection
	tls  [2]legTLS
	legs [2]*leg.Leg // once both ends are connected

	// heard is closed, by side, when the end has sent data, or has ended.
	heard     [2]chan struct{}
	heardOnce [2]sync.Once

	unresumed atomic.Bool // the server did not resume the TLS session of its control connection

	// These are guarded by Connection.mu.
	handshaken bool // the handshakes are over
	shortened  bool // shortenHandshake was called before that
}

// legTLS is the TLS of one leg. On data connections the FTP client is the TLS client, whichever end connected
// (RFC 4217 section 7): the gateway is the TLS server on the client's leg, and the TLS client on the
// server's.
type legTLS struct {
	config *tls.Config // nil: in clear
	// TCP's FIN alone may end its data, which an attacker on the path can forge
	closeNotifyOptional bool
	transferStarted     <-chan struct{} // closed when the handshake may begin; nil: at once
	admit               admitFunc       // checks the end after its handshake; nil: it may carry data

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

// notResumed reports whether TLS with the server was set up without resuming a session.
func (c *tlsConnection) notResumed() bool { return c.unresumed.Load() }

// copy decrypts and encrypts everything that side sends. Data that was encrypted but not sent when the other
// end broke does not count as forwarded.
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

// conclude forwards the end of a direction: by close_notify, FIN or both, as the other leg requires. err is
// io.EOF if that side ended in order, else its failure.
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
// An end that has sent data must send close_notify. An end that only receives has no data to be cut short,
// and many such ends just close: clients after a download, servers after an upload. Before data arrives the
// gateway does not know which end sends, and a file may be empty. If the gateway forwarded the FIN of an end
// that has sent nothing, an attacker's FIN at the very start would become an empty file, with close_notify
// from the gateway, which the sender never sent.
//
// So the other end must have shown that this one receives: it has sent data itself, or has ended in order
// (the sender of an empty file ends first, and the receiver closes because of it). An end that closes because
// of either does so after the gateway forwarded it; graceTime allows for the order of two goroutines. If
// neither happens, the connection is broken: an empty file without close_notify, or an end that closed before
// it began.
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

// closedCleanly reports whether an end with TLS had ended in order before its connection failed, and nothing
// was left to be delivered to it. A client does not break an upload when it closes after close_notify without
// reading TLS's own records: session tickets (RFC 8446 section 4.6.1), and our close_notify. Its kernel
// resets such a connection.
func (c *tlsConnection) closedCleanly(side Side) bool {
	return c.usesTLS(side) && c.finReceived[side].Load() && c.bytes[side.other()].Load() == 0
}
