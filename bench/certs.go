package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// certDir is a directory with the PEM files that all contestants use for TLS: an authority, and one
// certificate with its key for gateway and origin. Both are ECDSA on P-256.
type certDir string

func (s certDir) ca() string   { return filepath.Join(string(s), "ca.pem") }
func (s certDir) cert() string { return filepath.Join(string(s), "cert.pem") }
func (s certDir) key() string  { return filepath.Join(string(s), "key.pem") }

// certLifetime is longer than any measurement.
const certLifetime = 30 * 24 * time.Hour

// makeCerts makes the files in dir, for servers at these addresses.
func makeCerts(dir string, at ...netip.Addr) (certDir, error) {
	s := certDir(dir)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certLifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, a := range at {
		own.IPAddresses = append(own.IPAddresses, net.IP(a.AsSlice()))
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("bench: key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("bench: key: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("bench: key: %w", err)
	}
	return s, errors.Join(
		writeCert(s.ca(), authority, authority, &signer.PublicKey, signer),
		writeCert(s.cert(), own, authority, &key.PublicKey, signer),
		writePEM(s.key(), "PRIVATE KEY", encoded),
	)
}

// writeCert signs a certificate and writes it.
func writeCert(path string, cert, by *x509.Certificate, key *ecdsa.PublicKey,
	signer *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, by, key, signer)
	if err != nil {
		return fmt.Errorf("bench: certificate: %w", err)
	}
	return writePEM(path, "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
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
