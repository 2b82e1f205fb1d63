// Package ftpserver is the FTP server of the story: a library's, with one directory in memory. It is not
// for use outside the demo.
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

// Welcome is the text of its greeting.
const Welcome = "the server of the lab"

// Config is what differs between servers.
type Config struct {
	PublicIP     string // what a 227 names; empty: the address that the client came to
	PassivePorts string // empty: any
	Files        map[string][]byte
	TLS          *tls.Config // for clients that say AUTH TLS; nil: there is none
	TLSOnly      bool        // nothing but AUTH is answered in clear
}

// Serve runs the server on l until ctx is done, and closes l. What goes through is written to log.
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
		options.TLS, options.ExplicitFTPS, options.TLSConfig, options.Port = true, true, logHandshakes(c.TLS, log), invalidPort
	}
	srv, err := server.NewServer(options)
	if err == nil && c.TLS != nil {
		err = enableTLS(srv)
		srv.ForceTLS = c.TLSOnly // which NewServer forgets
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
