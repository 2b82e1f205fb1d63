package servercheck

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"ftpgate/internal/try/testca"
)

// certificate makes a certificate that signs itself, and a pool that trusts it.
func certificate(t *testing.T, name string, from, until time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	own, err := testca.SelfSigned(name, testca.ForSigning, func(c *x509.Certificate) {
		c.Subject.CommonName = "authority of " + name
		c.NotBefore, c.NotAfter = from, until
	})
	if err != nil {
		t.Fatal(err)
	}
	return own.TLS(), own.Pool()
}

// sound is a certificate for localhost.
func sound(t *testing.T) (*tls.Config, *tls.Config) {
	t.Helper()
	cert, pool := certificate(t, "localhost", time.Now().Add(-time.Hour), time.Now().Add(100*24*time.Hour))
	return &tls.Config{Certificates: []tls.Certificate{cert}},
		&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
