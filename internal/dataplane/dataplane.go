package dataplane

import (
	"context"
	"crypto/tls"
	"net/netip"

	"ftpgate/internal/core/pinhole"
)

// Path carries data connections; package path implements it over the relay and the kernel's tables.
// An error of its methods is a *Failure.
type Path interface {
	// Open reserves a port of the gateway for a pinhole and returns where it is (the port of hole.At is
	// ignored). Nothing comes through before Arm. It fails where no port is free or the path cannot
	// carry the connection.
	Open(ctx context.Context, hole pinhole.Pinhole, dataTLS DataTLS) (Data, netip.AddrPort, error)
	// Bridge connects to both ends at once: an active client and a server that only listens. It does not
	// wait for them: Finish returns what became of it.
	Bridge(ctx context.Context, bridge pinhole.Bridge, dataTLS DataTLS) (Data, error)
	// OpenPassthrough lets a client reach a server's passive ports one to one until the gate is closed. Others
	// of the same client may have the same passage.
	OpenPassthrough(passage pinhole.Passthrough) (Handle, error)
}

// DataTLS are the TLS that the gateway speaks on a data connection; nil: the leg is in clear. On data the
// FTP client is the TLS client, in active mode too (RFC 4217 section 7).
type DataTLS struct {
	Client, Server                                       *tls.Config // as the client's TLS server, as the server's TLS client
	ClientCloseNotifyOptional, ServerCloseNotifyOptional bool        // whether the end's data may end without close_notify
	// TransferStarted is closed when the transfer begins: TLS with the server begins then and not before, because
	// there are servers that close a data connection on which anything comes sooner (pyftpdlib).
	TransferStarted <-chan struct{}
}

// Data is one pinhole and the connection that comes through it. The session owns it and closes it.
type Data interface {
	// Arm lets the one connection come. When it returns nil the connection can come.
	Arm() error
	// Outcome returns what has become of it so far, without waiting. It may be called after Close.
	Outcome() Outcome
	// Finish waits until what came through is delivered, or cancel is closed, and returns what became
	// of it. After Close it does not wait.
	Finish(cancel <-chan struct{}) Outcome
	// Sever ends a connection that would go on without ftpgate, which is one that the kernel carries.
	Sever()
	// Close ends it, with the connection if the relay carries it, and returns what became of it. It is
	// idempotent. When it returns, nothing new can come.
	Close() Outcome
}

// Handle is an open passage. The session owns it and closes it.
type Handle interface {
	// Close ends this session's part in it; it is idempotent. When it returns for the last session that
	// has the passage, nothing new can come. What runs goes on.
	Close()
}
