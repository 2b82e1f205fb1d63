package session

import (
	"crypto/tls"

	"ftpgate/internal/control/upstream"
	"ftpgate/internal/core/forward"
)

// Keys makes the TLS of sessions: a configuration for the control connection and one for its data
// connections, which share what may be resumed.
type Keys interface {
	upstream.Keys
	// ForClient returns the TLS server that the gateway is for a client.
	ForClient(f forward.Forward) (control, data *tls.Config, err error)
}
