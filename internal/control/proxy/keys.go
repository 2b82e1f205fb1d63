package proxy

import (
	"crypto/tls"

	"ftpgate/internal/core/forward"
)

// Keys makes the TLS of sessions: a pair of configurations for the control connection and its data
// connections, which share what may be resumed.
type Keys interface {
	// ForClient is what the gateway is to a client: its TLS server.
	ForClient(f forward.Forward) (control, data *tls.Config, err error)
	// ForServer is what the gateway is to a server: its TLS client.
	ForServer(f forward.Forward) (control, data *tls.Config, err error)
	// Explain says why TLS was not agreed upon: in words for a client, without anything that the peer has
	// sent, and what the operator can do about it.
	Explain(err error) (plain, remedy string)
}
