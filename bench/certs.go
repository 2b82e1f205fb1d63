package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"ftpgate/internal/try/testca"
)

// certDir is a directory with the PEM files that all contestants use for TLS: an authority, and one
// certificate with its key for gateway and origin. Both are ECDSA on P-256.
type certDir string

func (s certDir) ca() string   { return filepath.Join(string(s), "ca.pem") }
func (s certDir) cert() string { return filepath.Join(string(s), "cert.pem") }
func (s certDir) key() string  { return filepath.Join(string(s), "key.pem") }

// makeCerts makes the files in dir, for servers at these addresses.
func makeCerts(dir string, at ...netip.Addr) (certDir, error) {
	s := certDir(dir)
	authority, err := testca.New()
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	cert, key, err := authority.Issue("bench", at...)
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	for path, content := range map[string][]byte{s.ca(): authority.PEM(), s.cert(): cert, s.key(): key} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return "", fmt.Errorf("bench: %w", err)
		}
	}
	return s, nil
}

// curves are the key exchanges that are allowed. Go's first choice, a hybrid with ML-KEM, is missing in
// OpenSSL 3.0, and would be more work for those that have it.
func curves() []tls.CurveID { return []tls.CurveID{tls.X25519} }

// serverConfig is the TLS configuration of the origin.
func (s certDir) serverConfig() (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(s.cert(), s.key())
	if err != nil {
		return nil, fmt.Errorf("bench: origin: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13,
		CurvePreferences: curves()}, nil
}

// clientConfig is the TLS configuration of one session of the load, for its control and data connections:
// with one configuration, data connections can resume the control connection's TLS session. All contestants
// use AES-128-GCM: it is the first choice of Go's TLS 1.3, and mod_proxy is configured for it.
func (s certDir) clientConfig(server netip.Addr) (*tls.Config, error) {
	text, err := os.ReadFile(s.ca())
	if err != nil {
		return nil, fmt.Errorf("bench: load: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("bench: load: no certificate in %s", s.ca())
	}
	return &tls.Config{
		RootCAs: roots, ServerName: server.String(), MinVersion: tls.VersionTLS13,
		CurvePreferences:   curves(),
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}, nil
}
