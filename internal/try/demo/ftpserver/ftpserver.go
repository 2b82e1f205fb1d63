// Package ftpserver is the demo's FTP server: the server of a library, with one directory in memory. It is
// for the demo only.
package ftpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"goftp.io/server/v2"

	"ftpgate/internal/try/demo/sessionlog"
)

// The account of the server.
const (
	User     = "demo"
	Password = "lab-only"
)

// Welcome is the text of the greeting.
const Welcome = "the server of the lab"

// Config configures a server.
type Config struct {
	PublicIP     string          // address in the 227; empty: the address to which the client connected
	PassivePorts string          // a range, like "50000-50100"; empty: any port
	Files        map[string]File // by path
	TLS          *tls.Config     // for clients that send AUTH TLS; nil: no TLS
	TLSOnly      bool            // refuse logins in clear
}

// Serve runs the server on l until ctx is done, and closes l. It writes its events to log.
func Serve(ctx context.Context, l net.Listener, log *sessionlog.Logger, c Config) error {
	options := &server.Options{
		Driver:         &memoryDriver{files: c.Files},
		Auth:           &server.SimpleAuth{Name: User, Password: Password},
		Perm:           fixedPerm{server.NewSimplePerm("ftp", "ftp")},
		Logger:         log,
		WelcomeMessage: Welcome,
		PublicIP:       c.PublicIP,
		PassivePorts:   c.PassivePorts,
	}
	if c.TLS != nil {
		options.TLS, options.ExplicitFTPS, options.Port = true, true, invalidPort
		options.TLSConfig = logHandshakes(c.TLS, log)
	}
	srv, err := server.NewServer(options)
	if err == nil && c.TLS != nil {
		err = enableTLS(srv)
		srv.ForceTLS = c.TLSOnly // NewServer ignores this option
	}
	if err != nil {
		return fmt.Errorf("ftpserver: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	log.Write(sessionlog.Event{Kind: sessionlog.Ready, Text: l.Addr().String()})
	if err := srv.Serve(l); err != nil && ctx.Err() == nil && !errors.Is(err, server.ErrServerClosed) {
		return fmt.Errorf("ftpserver: %w", err)
	}
	return nil
}
