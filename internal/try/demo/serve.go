package demo

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/scenario"
	"ftpgate/internal/try/demo/sessionlog"
)

// TLSOptions configure the server's TLS (RFC 4217). The zero value is a server without TLS.
type TLSOptions struct {
	Cert, Key string // files in PEM
	Required  bool   // refuse logins in clear
}

func (o TLSOptions) load() (*tls.Config, error) {
	if o == (TLSOptions{}) {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, err
}

// Serve is the demo's FTP server. It must be the main job of a process: its library opens passive sockets in
// goroutines of its own, and only a process has all of them in one network namespace. Serve listens at
// address, writes its events to out, and ends when in ends or ctx is done. With port 0 it takes any free
// port, also for data connections.
func Serve(ctx context.Context, address string, o TLSOptions, in io.Reader, out io.Writer) error {
	tlsConfig, err := o.load()
	if err != nil {
		return fmt.Errorf("demo: serve: %w", err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("demo: serve: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process at the latest: a read of a pipe cannot be interrupted
		defer cancel()
		_, _ = io.Copy(io.Discard, in)
	}()
	ports := scenario.PassivePorts
	if _, port, _ := net.SplitHostPort(address); port == "0" {
		ports = ""
	}
	return ftpserver.Serve(ctx, l, sessionlog.NewLogger(out), ftpserver.Config{
		PassivePorts: ports,
		Files:        scenario.Files(),
		TLS:          tlsConfig,
		TLSOnly:      o.Required,
	})
}
