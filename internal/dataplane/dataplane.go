// Package dataplane is the interface between sessions and data paths: how a session requests a data
// connection and gets its outcome. The session (package session) decides what to open; package path chooses
// what carries it.
//
// It has types only, and does nothing itself.
package dataplane

import (
	"context"
	"crypto/tls"
	"net/netip"

	"ftpgate/internal/core/pinhole"
)

// Path carries data connections; package path implements it over the relay and the kernel's tables. An
// error of its methods is a *pinhole.Failure.
type Path interface {
	// Open reserves a port of the gateway for a pinhole and returns its address (the port of pinhole.Listen
	// is ignored). No peer can connect before Arm. It fails if no port is free or the path cannot carry the
	// connection. Until Close the end of ctx severs a connection that the relay carries; then it belongs to
	// the path, which the gateway drains and closes after its sessions.
	Open(ctx context.Context, pinhole pinhole.Pinhole, dataTLS DataTLS) (Data, netip.AddrPort, error)
	// Bridge connects to both ends: an active client and a server that only listens. It does not wait for
	// them; AwaitBothEnds waits, and Outcome returns what became of it.
	Bridge(ctx context.Context, bridge pinhole.Bridge, dataTLS DataTLS) (Data, error)
	// OpenPassthrough lets a client reach a server's passive ports one to one until the handle is closed.
	// Other sessions of the same client may share the passthrough.
	OpenPassthrough(p pinhole.Passthrough) (Handle, error)
}

// DataTLS is the TLS that the gateway speaks on a data connection. The zero value leaves both legs in
// clear. The FTP client is the TLS client, in active mode too (RFC 4217 section 7).
type DataTLS struct {
	// Client is for the client's leg, where the gateway is the TLS server; Server is for the server's leg,
	// where it is the TLS client. nil: that leg is in clear.
	Client, Server *tls.Config
	// Admit is called after the handshake with the client, and returns why the connection may not carry data.
	// If wait is not nil the error is not final: call again when wait is closed. Client and Admit are for one
	// connection. A nil Admit admits all.
	Admit func(tls.ConnectionState) (wait <-chan struct{}, err error)
	// An end whose close_notify is optional may end its data by TCP's FIN alone, which an attacker on
	// the path can forge: a file that was cut short then looks complete.
	ClientCloseNotifyOptional, ServerCloseNotifyOptional bool
	// TransferStarted is closed when the transfer starts. TLS with the server begins only then, because some
	// servers close a data connection that carries data sooner (pyftpdlib). TLS with the client also begins
	// then, as with other servers: a client that opens many data connections at once (curl) has one ticket
	// for all of them, and OpenSSL presents none after the first handshake is done. nil: both begin at once.
	TransferStarted <-chan struct{}
}

// Data is one pinhole or bridge, and its connection. The session owns it and closes it. Several goroutines
// may call its methods at once.
//
// Once established, the connection belongs to its two ends, over either path: the data, the FIN and the reset
// of one end reach the other one, each direction by itself, whatever the control connections do. A session
// calls Open (or Bridge), Arm, then for a transfer AwaitBothEnds, Use and perhaps Finish, and Close at the
// end.
type Data interface {
	// Arm admits the one connection: once it returns nil, the peer can connect, within pinhole.Lifetime or
	// for longer if Use is called.
	Arm() error
	// AwaitBothEnds waits until a connection whose peer has connected is established at both ends, or has
	// failed, or cancel is closed. It returns at once if no peer has connected yet, if the kernel carries the
	// connection, before Arm and after Close. Call it before a transfer command goes to the server: the
	// server then has the connection that the client believes to be established.
	AwaitBothEnds(cancel <-chan struct{})
	// Use marks the pinhole as awaited by a transfer command: from now on the peer may connect until Close,
	// however late. It never waits. Called again or too late, it does nothing.
	Use()
	// Unuse undoes Use: the server refused the command. If no peer has connected, it may connect within
	// pinhole.Lifetime from now on. It never waits.
	Unuse()
	// BeforeClientEnds sets a function that is called when the client closes or resets the connection, before
	// the server sees it. f may block briefly. Call it before Arm. Connections that the kernel carries never
	// call it.
	BeforeClientEnds(f func())
	// Outcome returns the outcome so far, without waiting. It may be called after Close.
	Outcome() pinhole.Outcome
	// Finish is called when the server says that a transfer is complete. The reply to a download is held
	// until Finish returns: it waits until the receiver has acknowledged every byte and the sender's FIN was
	// passed on. It also returns if the connection broke, if nothing has moved in it for a second, if cancel
	// is closed, and at once if no peer has connected, if the kernel carries the connection, or after Close.
	// It leaves the connection as it is: Close must follow.
	Finish(cancel <-chan struct{})
	// Close ends the pinhole, and returns the outcome so far. Once it returns, no peer can connect any more.
	// An existing connection continues until its ends close it, also while the far end is being dialled.
	// After Finish, Close also ends it in order soon after all was delivered: its client may keep it open for
	// ever. Outcome follows it to its end. Close is idempotent, and waits only for the kernel.
	Close() pinhole.Outcome
	// Ended is closed when the connection is over, and after Close if no peer has connected: the gateway
	// holds no resources for it any more. nil: the kernel carries it, and the gateway holds no descriptor and
	// no goroutine for it after Close.
	Ended() <-chan struct{}
	// Sever ends the connection with resets to both ends, over either path, as soon as possible and without
	// waiting: for kill, a limit, and the time limit of a stop. It may be called before and after Close, and
	// does not replace it.
	Sever()
}

// Handle is one session's part in a passthrough. The session owns it and closes it.
type Handle interface {
	// Arm lets the client connect to the ports: the handshake of its session is done. The error says why it
	// cannot connect. Arm waits only for the kernel. Called again, or after Close, it does nothing.
	Arm() error
	// Close ends the session's part; it is idempotent. When it returns for the last session that has armed
	// the passthrough, no new connection can be made. Existing connections continue.
	Close()
}
