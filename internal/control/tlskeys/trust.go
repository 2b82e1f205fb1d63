package tlskeys

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// Trust is the set of authorities and certificates that a forward trusts for a peer, mostly its server. The
// zero value trusts this host's authorities. Several goroutines may use it at once.
type Trust struct {
	roots *x509.CertPool // nil: the host's
	certs []*x509.Certificate
}

// TrustIn trusts certificates: authorities, and servers that present one of them.
func TrustIn(certs ...*x509.Certificate) *Trust {
	t := &Trust{x509.NewCertPool(), certs}
	for _, cert := range certs {
		t.roots.AddCert(cert)
	}
	return t
}

// Verify verifies the certificates that a server presents, its own first. The errors are those of
// crypto/x509.
//
// A server whose own certificate is trusted, byte for byte, has its key: that certificate is pinned. It needs
// no matching name or usage, which most self-signed certificates of FTP servers lack. It only must not have
// expired.
func (t *Trust) Verify(chain []*x509.Certificate, name string, now time.Time) error {
	leaf := chain[0]
	options := x509.VerifyOptions{Roots: t.roots, CurrentTime: now, Intermediates: x509.NewCertPool()}
	if slices.ContainsFunc(t.certs, leaf.Equal) {
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	} else {
		options.DNSName = strings.TrimSuffix(name, ".") // certificates never have that dot
	}
	for _, cert := range chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := leaf.Verify(options)
	return err
}

// Trust returns the Trust of a loaded forward.
func (k *Keys) Trust(f forward.Forward) *Trust {
	if n := k.state.Load().forwards[f.Name]; n != nil && n.ca != nil {
		return n.ca.get(k.now())
	}
	return &Trust{}
}

// keyClientCA names the file of the authorities of clients.
const keyClientCA = "tls.client_ca"

// warning warns of the first certificate of clients' authorities that has expired, or will in the time of
// WarnBefore; nil: there is none.
func (t *Trust) warning(now time.Time) *finding.Finding {
	first := t.firstToEnd()
	remedy := "have it renewed, and put the new one into the file of tls.client_ca, which is taken up " +
		"without " +
		"a restart"
	switch left := first.NotAfter.Sub(now); {
	case left < 0:
		return newWarning(keyClientCA, fmt.Sprintf("the certificate of %q has expired on %s: "+
			"clients with a certificate of that authority are refused", subjectOf(first),
			first.NotAfter.Format(time.DateOnly)), remedy)
	case left < WarnBefore:
		return newWarning(keyClientCA, fmt.Sprintf("the certificate of %q expires on %s: "+
			"clients with a certificate of that authority are refused from then on", subjectOf(first),
			first.NotAfter.Format(time.DateOnly)), remedy)
	}
	return nil
}

// firstToEnd returns the certificate that expires first.
func (t *Trust) firstToEnd() *x509.Certificate {
	return slices.MinFunc(t.certs, func(a, b *x509.Certificate) int {
		return a.NotAfter.Compare(b.NotAfter)
	})
}
