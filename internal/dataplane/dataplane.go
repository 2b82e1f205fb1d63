package dataplane

import (
	"context"
	"crypto/tls"
	"net/netip"

	"ftpgate/internal/core/pinhole"
)

// DataPath carries data connections; the relay and the kernel's tables do.
type DataPath interface {
	// Open reserves a port of the gateway for a pinhole (the port of hole.At is ignored). Nothing comes
	// through before it is armed. The error means that no port is free, or says why the path cannot.
	Open(ctx context.Context, hole pinhole.Pinhole, seals Seals) (Data, error)
	// Join connects to both ends at once: an active client and a server that only listens. It does not
	// wait for them: what becomes of it is Finish's to tell.
	Join(ctx context.Context, bridge pinhole.Bridge, seals Seals) (Data, error)
	// Pass lets a client reach a server's passive ports one to one until the gate is closed. Others
	// of the same client may have the same passage.
	Pass(passage pinhole.Passage) (Gate, error)
}

// Seals are the TLS that the gateway speaks on a data connection; nil: the leg is in clear. On data the
// FTP client is the TLS client, in active mode too (RFC 4217 section 7).
type Seals struct {
	Client, Server             *tls.Config // as the client's TLS server, as the server's TLS client
	ClientUnshut, ServerUnshut bool        // whether the end's data may end without close_notify
	// Begin is closed when the transfer begins: TLS with the server begins then and not before, because
	// there are servers that close a data connection on which anything comes sooner (pyftpdlib).
	Begin <-chan struct{}
}

// Data is one pinhole and the connection that comes through it. The session owns it and closes it.
//
// An error that has words for the client, without anything that a peer has sent, has a method
// Reply() (code int, text string); one that the operator can do something about has Remedy() string.
type Data interface {
	// At returns where the pinhole is; not valid for a bridge.
	At() netip.AddrPort
	// Arm lets the one connection come. When it returns nil the connection can come.
	Arm() error
	// Finish waits until what came through is delivered, or cancel is closed. It returns nil where all of
	// it was, where nothing came, and where the path cannot tell because the ends see for
	// themselves; else it says how the connection broke. After Close it does not wait.
	Finish(cancel <-chan struct{}) error
	// Settled tells that Finish would not wait.
	Settled() bool
	// Close ends it, with the connection if the path carries it; it is idempotent. When it returns
	// nothing can come any more.
	Close()
}

// Gate is an open passage. The session owns it and closes it.
type Gate interface {
	// Close ends this session's part in it; it is idempotent. When it returns for the last session that
	// has the passage, nothing new can come. What runs goes on.
	Close()
}
