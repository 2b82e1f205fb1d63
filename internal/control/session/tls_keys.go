package session

import (
	"crypto/tls"
	"net/netip"

	"ftpgate/internal/control/upstream"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

// Keys makes the TLS of sessions, with clients and with servers.
type Keys interface {
	upstream.Keys
	// ForClient returns the TLS of one session with a client, which the session closes.
	ForClient(f forward.Forward, client netip.Addr) (ClientTLS, error)
}

// ClientTLS is the TLS server that the gateway is for a client.
type ClientTLS interface {
	// Control returns the configuration of the control connection.
	Control() *tls.Config
	// Admit checks the client after the handshake of the control connection: subject is the subject of its
	// certificate, "" without one, and err says why it is rejected.
	Admit(state tls.ConnectionState) (subject string, err error)
	// Explain explains an error of that handshake, or of Admit: plain is for the client.
	Explain(err error) (code verdict.Code, plain, remedy string)
	// Data returns the fields of dataplane.DataTLS for the client's leg of one data connection.
	Data() (config *tls.Config, admit func(tls.ConnectionState) (wait <-chan struct{}, err error))
	// Login sets whether a user is logged in, and who: the user's other sessions may share TLS with this one.
	Login(user string, in bool)
	// Close notes the end of the control connection: only its own data connections may still resume its TLS
	// session. It is idempotent.
	Close()
}
