// Package dataplane is what a session and the data paths agree on: how a data connection is asked for, and
// what becomes of it. The session (package proxy) decides what to open; package path chooses what carries
// it.
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
// error of its methods is a *Failure.
type Path interface {
	// Open reserves a port of the gateway for a pinhole and returns where it is (the port of hole.Listen is
	// ignored). Nothing comes through before Arm. It fails where no port is free or the path cannot carry
	// the connection.
	Open(ctx context.Context, hole pinhole.Pinhole, dataTLS DataTLS) (Data, netip.AddrPort, error)
	// Bridge connects to both ends: an active client and a server that only listens. It does not wait for
	// them: Finish returns what became of it.
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
	// An end whose close_notify is optional may end its data by TCP's FIN alone, which anybody on the way
	// can forge: a file that was cut short then looks complete.
	ClientCloseNotifyOptional, ServerCloseNotifyOptional bool
	// TransferStarted is closed when the transfer starts. TLS with the server begins then and not before,
	// because there are servers that close a data connection on which anything comes sooner (pyftpdlib).
	// nil: it begins at once.
	TransferStarted <-chan struct{}
}

// Data is one pinhole or bridge, and the connection that comes through it. The session owns it and closes it.
// Several goroutines may call its methods at once.
type Data interface {
	// Arm lets the one connection come. When it returns nil the connection can come.
	Arm() error
	// Outcome returns what has become of it so far, without waiting. It may be called after Close.
	Outcome() Outcome
	// Finish waits until what came through is delivered, or cancel is closed, and returns what became of
	// it. After Close it does not wait.
	Finish(cancel <-chan struct{}) Outcome
	// Sever ends a connection that would go on without ftpgate, which is one that the kernel carries.
	Sever()
	// Close ends it, with the connection if the relay carries it, and returns what became of it. It is
	// idempotent. When it returns, nothing new can come.
	Close() Outcome
}

// Handle is one session's part in an open passthrough. The session owns it and closes it.
type Handle interface {
	// Close ends the session's part; it is idempotent. When it returns for the last session that has the
	// passthrough, nothing new can come. Connections that have come go on.
	Close()
}
