package tracker

import (
	"context"
	"net/netip"

	"ftpgate/internal/dnat"
)

// DataPath carries data connections; the relay and the kernel's tables do.
type DataPath interface {
	// Open reserves a port of the gateway for a pinhole (the port of hole.At is ignored). Nothing comes
	// through before it is armed. The error means that no port is free, or says why the path cannot.
	Open(ctx context.Context, hole dnat.Pinhole) (Data, error)
	// Join connects to both ends at once: an active client and a server that only listens. It does not
	// wait for them: what becomes of it is Finish's to tell.
	Join(ctx context.Context, bridge dnat.Bridge) (Data, error)
}

// Data is one pinhole and the connection that comes through it. The session owns it and closes it.
type Data interface {
	// At returns where the pinhole is; not valid for a bridge.
	At() netip.AddrPort
	// Arm lets the one connection come. When it returns nil the connection can come.
	Arm() error
	// Finish waits until what came through is delivered, or cancel is closed. It returns nil where all of
	// it was, where nothing came, and where the path cannot tell because the ends see for
	// themselves; else it says how the connection broke.
	Finish(cancel <-chan struct{}) error
	// Settled tells that Finish would not wait.
	Settled() bool
	// Close ends it, with the connection if the path carries it; it is idempotent. When it returns
	// nothing can come any more.
	Close()
}
