// Package testca is the certificate authority of the demo, the benchmark and the tests. No other program
// trusts it: an Authority lives in memory, and its key is never written. All keys are ECDSA on P-256. testca
// makes sound certificates only; a test of a malformed one writes that itself.
package testca

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"time"
)

// authorityLifetime is longer than any test, and than any certificate that an authority signs by default.
const authorityLifetime = 365 * 24 * time.Hour

// Authority signs certificates. Its methods may be called by several goroutines.
type Authority struct{ Pair }

// New makes an authority that is valid for a year.
func New() (*Authority, error) {
	own, err := SelfSigned("test authority", ForSigning, func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = nil, nil
		c.NotAfter = time.Now().Add(authorityLifetime)
	})
	if err != nil {
		return nil, err
	}
	return &Authority{Pair: own}, nil
}

// Issue returns a certificate for a host with this name and these addresses, and its key, both in PEM.
func (a *Authority) Issue(name string, addrs ...netip.Addr) (certificate, key []byte, err error) {
	p, err := a.Sign(name, ForAddrs(addrs...))
	if err != nil {
		return nil, nil, err
	}
	key, err = p.KeyPEM()
	return p.PEM(), key, err
}

// Client returns a new configuration for the control and data connections of one session. It trusts this
// authority alone, expects the certificate of name (a host name or an address) and resumes TLS sessions.
func (a *Authority) Client(name string) *tls.Config {
	return &tls.Config{
		RootCAs:            a.Pool(),
		ServerName:         name,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
}
