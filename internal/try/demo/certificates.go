package demo

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"ftpgate/internal/try/demo/scenario"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/testca"
)

// The server's files; package scenario names those of the gateway.
const (
	serverFile    = "server.pem"
	serverKeyFile = "server.key"
)

// withCertificates calls use with a temporary directory that has certificates for server and gateway, and
// removes the directory afterwards.
func withCertificates(use func(a *testca.Authority, dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "ftpgate-demo-")
	if err != nil {
		return fmt.Errorf("demo: certificates: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a, err := testca.New()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := writeCertificates(a, dir); err != nil {
		return fmt.Errorf("demo: certificates: %w", err)
	}
	return use(a, dir)
}

func writeCertificates(a *testca.Authority, dir string) error {
	for _, host := range []struct {
		name, file, key string
		addr            netip.Addr
	}{
		{"the server", serverFile, serverKeyFile, lab.ServerAddr4},
		{"the gateway", scenario.GatewayFile, scenario.GatewayKeyFile, lab.GatewayLAN4},
	} {
		certificate, key, err := a.Issue(host.name, host.addr)
		if err == nil {
			err = errors.Join(write(dir, host.file, certificate), write(dir, host.key, key))
		}
		if err != nil {
			return err
		}
	}
	return write(dir, scenario.AuthorityFile, a.PEM())
}

func write(dir, name string, content []byte) error {
	return os.WriteFile(filepath.Join(dir, name), content, 0o600)
}
