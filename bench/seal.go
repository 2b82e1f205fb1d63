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

// seal is a directory with what all contestants use for TLS, in PEM: an authority, and one certificate
// for gateway and origin, with its key. Both are ECDSA on P-256.
type seal string

func (s seal) ca() string   { return filepath.Join(string(s), "ca.pem") }
func (s seal) cert() string { return filepath.Join(string(s), "cert.pem") }
func (s seal) key() string  { return filepath.Join(string(s), "key.pem") }

// sealed is how long the certificates are good: longer than any measurement.
const sealed = 30 * 24 * time.Hour

// newSeal makes the files in dir, for servers of these addresses.
func newSeal(dir string, at ...netip.Addr) (seal, error) {
	s := seal(dir)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(sealed),
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
		certify(s.ca(), authority, authority, &signer.PublicKey, signer),
		certify(s.cert(), own, authority, &key.PublicKey, signer),
		writePEM(s.key(), "PRIVATE KEY", encoded),
	)
}

// certify signs a certificate and writes it.
func certify(path string, cert, by *x509.Certificate, key *ecdsa.PublicKey, signer *ecdsa.PrivateKey) error {
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

// curves are what keys are agreed on with: of those that Go would take, OpenSSL 3.0 has not the first, a
// hybrid with ML-KEM, and whoever had that would have more work to do.
func curves() []tls.CurveID { return []tls.CurveID{tls.X25519} }

// forOrigin is how the origin speaks TLS.
func (s seal) forOrigin() (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(s.cert(), s.key())
	if err != nil {
		return nil, fmt.Errorf("bench: origin: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13, CurvePreferences: curves()}, nil
}

// forClient is how one session of the load speaks TLS, control and data alike, so that data
// connections can resume the session of the control connection. Whoever is measured has the
// same cipher, AES-128-GCM: Go's TLS 1.3 asks for it first, and mod_proxy is set to it.
func (s seal) forClient(server netip.Addr) (*tls.Config, error) {
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
