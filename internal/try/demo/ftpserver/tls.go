package ftpserver

import (
	"crypto/tls"
	"errors"
	"net"

	"goftp.io/server/v2"

	"ftpgate/internal/try/demo/sessionlog"
)

// invalidPort is where nobody can listen.
const invalidPort = -1

// enableTLS has the library take its configuration of TLS. It does so in ListenAndServe only, which can neither
// be told a listener nor be ended without a race: asked to listen where nobody can, it gives up right behind
// that, and serves any listener from then on. Its data connections are TLS as soon as the control connection
// is, where the client connects to them; the library leaves those of active mode in clear.
func enableTLS(srv *server.Server) error {
	err := srv.ListenAndServe()
	if wrong := (*net.AddrError)(nil); errors.As(err, &wrong) {
		return nil
	}
	return errors.Join(errors.New("the library listens where nobody can"), err, srv.Shutdown())
}

// logHandshakes has every handshake written to log.
func logHandshakes(config *tls.Config, log *sessionlog.Logger) *tls.Config {
	config = config.Clone()
	config.VerifyConnection = func(state tls.ConnectionState) error {
		text := tls.VersionName(state.Version)
		if state.DidResume {
			text += sessionlog.Resumed
		}
		log.Write(sessionlog.Event{Kind: sessionlog.Encrypted, Text: text})
		return nil
	}
	return config
}
