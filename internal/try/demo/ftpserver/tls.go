package ftpserver

import (
	"crypto/tls"
	"errors"
	"net"

	"goftp.io/server/v2"

	"ftpgate/internal/try/demo/sessionlog"
)

// invalidPort is a port on which no listener can be opened.
const invalidPort = -1

// enableTLS makes the library load its TLS configuration. The library loads it only in ListenAndServe, which
// accepts no listener and cannot be stopped without a race. With invalidPort ListenAndServe fails right after
// it has loaded the configuration, and the server can then serve any listener. When the control connection
// uses TLS, so do passive data connections; the library leaves those of active mode in clear.
func enableTLS(srv *server.Server) error {
	err := srv.ListenAndServe()
	if wrong := (*net.AddrError)(nil); errors.As(err, &wrong) {
		return nil
	}
	return errors.Join(errors.New("the library listens on an invalid port"), err, srv.Shutdown())
}

// logHandshakes returns a copy of config that writes every handshake to log.
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
