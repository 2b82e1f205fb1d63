package testca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Certificates are valid from age ago, for clocks that are behind, until lifetime from now, unless a Change
// says otherwise. The gateway warns of certificates that expire within thirty days.
const (
	age      = 2 * time.Hour
	lifetime = 90 * 24 * time.Hour
)

// Pair is a certificate with its private key.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Change alters a certificate before it is signed.
type Change = func(*x509.Certificate)

// Expired is the Change that makes a certificate expire an hour ago.
func Expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }

// NotYetValid is the Change that makes a certificate valid only in an hour.
func NotYetValid(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }

// ForSigning is the Change that lets a certificate sign others, as an authority's or an intermediate one.
func ForSigning(c *x509.Certificate) {
	c.IsCA = true
	c.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
}

// ForClients is the Change that makes a certificate valid for TLS clients, too.
func ForClients(c *x509.Certificate) {
	c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
}

// ForAddrs returns the Change that makes a certificate valid for these addresses, and for no others.
func ForAddrs(addrs ...netip.Addr) Change {
	return func(c *x509.Certificate) {
		c.IPAddresses = nil
		for _, a := range addrs {
			c.IPAddresses = append(c.IPAddresses, net.IP(a.AsSlice()))
		}
	}
}

// ForNames returns the Change that makes a certificate valid for these host names, and for no others.
func ForNames(names ...string) Change {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

// SelfSigned makes a new key and a server's certificate for name, which signs itself. The changes are
// applied in order.
func SelfSigned(name string, changes ...Change) (Pair, error) { return sign(nil, name, changes) }

// Sign makes a new key and a server's certificate for name, signed by p. The changes are applied in order.
func (p Pair) Sign(name string, changes ...Change) (Pair, error) { return sign(&p, name, changes) }

// sign makes a certificate that signer signs; nil: it signs itself.
func sign(signer *Pair, name string, changes []Change) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("testca: key of %s: %w", name, err)
	}
	template := &x509.Certificate{ // without a serial number: x509 draws one at random
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-age), NotAfter: time.Now().Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, change := range changes {
		change(template)
	}
	if signer == nil {
		signer = &Pair{Cert: template, Key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.Cert, key.Public(), signer.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("testca: certificate of %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, fmt.Errorf("testca: certificate of %s: %w", name, err)
	}
	return Pair{Cert: cert, Key: key}, nil
}

// PEM returns the certificate.
func (p Pair) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw})
}

// KeyPEM returns the private key.
func (p Pair) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return nil, fmt.Errorf("testca: encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// TLS returns the pair as an end of TLS presents it.
func (p Pair) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.Cert.Raw}, PrivateKey: p.Key, Leaf: p.Cert}
}

// Pool returns a new pool that trusts this certificate alone.
func (p Pair) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Cert)
	return pool
}
