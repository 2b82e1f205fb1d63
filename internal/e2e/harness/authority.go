package harness

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

// GatewayName and ServerName are the names in the two hosts' certificates.
const (
	GatewayName = "gateway.lab.example"
	ServerName  = "ftp.lab.example"
)

// Authority signs a test's certificates. Its peers trust this authority and no other.
type Authority struct {
	T      *testing.T
	dir    string
	CAFile string // its certificate
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// KeyPair names the files of a certificate and its key. Only their owner can read them.
type KeyPair struct{ CertFile, KeyFile string }

// NewAuthority makes an authority for a test.
func NewAuthority(t *testing.T) *Authority {
	t.Helper()
	a := &Authority{T: t, dir: t.TempDir(), key: newKey(t)}
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
	a.CAFile = writePEM(t, filepath.Join(a.dir, "ca.pem"), "CERTIFICATE", der)
	return a
}

// IssueGateway issues the certificate that the gateway presents to clients.
func (a *Authority) IssueGateway(change ...func(*x509.Certificate)) KeyPair {
	a.T.Helper()
	return a.Issue(GatewayName, append([]func(*x509.Certificate){func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{lab.GatewayLAN4.AsSlice(), lab.GatewayLAN6.AsSlice()}
	}}, change...)...)
}

// IssueServer issues the server's certificate. It is also valid for the gateway's addresses: when a
// session is passed through, the client compares the name with the one it dialled.
func (a *Authority) IssueServer(change ...func(*x509.Certificate)) KeyPair {
	a.T.Helper()
	return a.Issue(ServerName, append([]func(*x509.Certificate){func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{lab.ServerAddr4.AsSlice(), lab.ServerAddr6.AsSlice(),
			lab.GatewayLAN4.AsSlice(), lab.GatewayLAN6.AsSlice()}
	}}, change...)...)
}

// Issue signs a certificate for a name. It is valid from an hour ago for three months, unless a change
// says otherwise.
func (a *Authority) Issue(name string, change ...func(*x509.Certificate)) KeyPair {
	a.T.Helper()
	template := &x509.Certificate{
		SerialNumber: newSerial(a.T), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(template)
	}
	key := newKey(a.T)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.T.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.T.Fatal(err)
	}
	dir := a.T.TempDir()
	return KeyPair{
		CertFile: writePEM(a.T, filepath.Join(dir, "cert.pem"), "CERTIFICATE", der),
		KeyFile:  writePEM(a.T, filepath.Join(dir, "key.pem"), "PRIVATE KEY", secret),
	}
}

// ClientConfig returns a client's configuration that trusts this authority alone.
func (a *Authority) ClientConfig(name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool, ServerName: name, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
}

// Load reads the pair for a scripted peer.
func (k KeyPair) Load(t *testing.T) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(k.CertFile, k.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// CombinedFile writes key and certificate into one file, for programs that want it so, and returns its
// path.
func (k KeyPair) CombinedFile(t *testing.T) string {
	t.Helper()
	var both []byte
	for _, path := range []string{k.KeyFile, k.CertFile} {
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
