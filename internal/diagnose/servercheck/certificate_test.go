package servercheck

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/try/testca"
)

// certificate makes a certificate by an authority of its own, and trusts that.
func certificate(t *testing.T, name string, from, until time.Time) (tls.Certificate, *tlskeys.Trust) {
	t.Helper()
	authority, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	own, err := authority.Sign(name, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, until })
	if err != nil {
		t.Fatal(err)
	}
	return own.TLS(), tlskeys.TrustIn(authority.Cert)
}

// selfSigned makes a certificate that names nothing, and trusts it.
func selfSigned(t *testing.T, changes ...testca.Change) (tls.Certificate, *tlskeys.Trust) {
	t.Helper()
	own, err := testca.SelfSigned("nas", append([]testca.Change{testca.ForNames()}, changes...)...)
	if err != nil {
		t.Fatal(err)
	}
	return own.TLS(), tlskeys.TrustIn(own.Cert)
}

// sound is a certificate for localhost.
func sound(t *testing.T) (*tls.Config, *tlskeys.Trust) {
	t.Helper()
	cert, trust := certificate(t, "localhost", time.Now().Add(-time.Hour), time.Now().Add(100*24*time.Hour))
	return &tls.Config{Certificates: []tls.Certificate{cert}}, trust
}
