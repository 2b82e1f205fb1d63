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
	// Admit judges the client after the handshake of the control connection: subject is whose certificate it
	// presents, "" without one, and err says why it must not come in.
	Admit(state tls.ConnectionState) (subject string, err error)
	// Explain explains an error of that handshake, or of Admit: plain is for the client.
	Explain(err error) (code verdict.Code, plain, remedy string)
	// Data returns what dataplane.DataTLS wants for the client's leg of one data connection.
	Data() (config *tls.Config, admit func(tls.ConnectionState) (wait <-chan struct{}, err error))
	// Login says whether a user is logged in, and who: their other sessions may share TLS with this one.
	Login(user string, in bool)
	// Close ends what data connections may resume. It is idempotent.
	Close()
}
