package demo

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/scenario"
	"ftpgate/internal/try/demo/transcript"
)

// TLSOptions is what the server does about TLS (RFC 4217). The zero value is a server without.
type TLSOptions struct {
	Cert, Key string // files in PEM
	Required  bool   // nothing is taken in clear
}

func (e TLSOptions) load() (*tls.Config, error) {
	if e == (TLSOptions{}) {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(e.Cert, e.Key)
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, err
}

// Serve is the FTP server of the story, as a process of its own: it opens passive sockets in
// goroutines of a library, and only a process has all of them in one network namespace. It
// listens at address, writes its events to out, and ends when in does or ctx is done. With port 0 it
// takes any port that is free, for data connections too.
func Serve(ctx context.Context, address string, e TLSOptions, in io.Reader, out io.Writer) error {
	secure, err := e.load()
	if err != nil {
		return fmt.Errorf("demo: serve: %w", err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("demo: serve: %w", err)
	}
	ended := make(chan struct{})
	go func() { // ends with the process at the latest: nobody can interrupt a read of a pipe
		defer close(ended)
		_, _ = io.Copy(io.Discard, in)
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	ports := scenario.PassivePorts
	if _, port, _ := net.SplitHostPort(address); port == "0" {
		ports = ""
	}
	return ftpserver.Serve(ctx, l, transcript.NewLogger(out), ftpserver.Config{
		PassivePorts: ports,
		Files:        scenario.Files(),
		TLS:          secure,
		TLSOnly:      e.Required,
	})
}
