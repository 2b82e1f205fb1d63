package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
)

// The names of the two hosts that show certificates.
const (
	gatewayName = "gate.lab.example"
	serverName  = "ftp.lab.example"
)

// authority signs the certificates of a test, and is whom its peers trust.
type authority struct {
	t    *testing.T
	dir  string
	ca   string // its certificate, a file
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// keyPair is a certificate and its key, as files that their owner alone may read.
type keyPair struct{ cert, key string }

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: newSerial(t), Subject: pkix.Name{CommonName: "authority of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.ca = writePEM(t, filepath.Join(a.dir, "ca.pem"), "CERTIFICATE", der)
	return a
}

// gateway issues what the gateway shows its clients.
func (a *authority) gateway(change ...func(*x509.Certificate)) keyPair {
	a.t.Helper()
	return a.issue(gatewayName, append([]func(*x509.Certificate){func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{lab.GatewayLAN4.AsSlice(), lab.GatewayLAN6.AsSlice()}
	}}, change...)...)
}

// server issues what the server shows. It is good for the gateway's addresses too: a client whose
// session is passed through compares the name with the one that it has dialled.
func (a *authority) server(change ...func(*x509.Certificate)) keyPair {
	a.t.Helper()
	return a.issue(serverName, append([]func(*x509.Certificate){func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{lab.ServerAddr4.AsSlice(), lab.ServerAddr6.AsSlice(),
			lab.GatewayLAN4.AsSlice(), lab.GatewayLAN6.AsSlice()}
	}}, change...)...)
}

// issue signs a certificate for a name, good for an hour each way but for the changes.
func (a *authority) issue(name string, change ...func(*x509.Certificate)) keyPair {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: newSerial(a.t), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(template)
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	return keyPair{
		cert: writePEM(a.t, filepath.Join(dir, "cert.pem"), "CERTIFICATE", der),
		key:  writePEM(a.t, filepath.Join(dir, "key.pem"), "PRIVATE KEY", secret),
	}
}

// trust is a client's configuration in Go: this authority and nobody else.
func (a *authority) trust(name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool, ServerName: name, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
}

// load reads a pair for a scripted peer.
func (k keyPair) load(t *testing.T) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(k.cert, k.key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// together writes certificate and key into one file, for programs that want that.
func (k keyPair) together(t *testing.T) string {
	t.Helper()
	var both []byte
	for _, path := range []string{k.key, k.cert} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, data...)
	}
	path := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(path, both, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSerial(t *testing.T) *big.Int {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return serial.Add(serial, big.NewInt(1))
}

func writePEM(t *testing.T, path, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
