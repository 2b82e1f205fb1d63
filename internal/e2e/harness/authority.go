package harness

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/testca"
)

// GatewayName and ServerName are the names in the two hosts' certificates.
const (
	GatewayName = "gateway.lab.example"
	ServerName  = "ftp.lab.example"
)

// Authority signs a test's certificates. Its peers trust this authority and no other.
type Authority struct {
	T      *testing.T
	CAFile string // its certificate
	ca     *testca.Authority
}

// KeyPair names the files of a certificate and its key. Only their owner can read them.
type KeyPair struct{ CertFile, KeyFile string }

// NewAuthority makes an authority for a test.
func NewAuthority(t *testing.T) *Authority {
	t.Helper()
	ca, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{T: t, CAFile: writeSecret(t, filepath.Join(t.TempDir(), "ca.pem"), ca.PEM()), ca: ca}
}

// IssueGateway issues the certificate that the gateway presents to clients.
func (a *Authority) IssueGateway(changes ...testca.Change) KeyPair {
	a.T.Helper()
	addrs := testca.ForAddrs(lab.GatewayLAN4, lab.GatewayLAN6)
	return a.Issue(GatewayName, append([]testca.Change{addrs}, changes...)...)
}

// IssueServer issues the server's certificate. It is also valid for the gateway's addresses: when a
// session is passed through, the client compares the name with the one it dialled.
func (a *Authority) IssueServer(changes ...testca.Change) KeyPair {
	a.T.Helper()
	addrs := testca.ForAddrs(lab.ServerAddr4, lab.ServerAddr6, lab.GatewayLAN4, lab.GatewayLAN6)
	return a.Issue(ServerName, append([]testca.Change{addrs}, changes...)...)
}

// Issue signs a certificate for a name, for TLS servers and clients. It is valid for three months, unless
// a change says otherwise.
func (a *Authority) Issue(name string, changes ...testca.Change) KeyPair {
	a.T.Helper()
	p, err := a.ca.Sign(name, append([]testca.Change{testca.ForClients}, changes...)...)
	if err != nil {
		a.T.Fatal(err)
	}
	key, err := p.KeyPEM()
	if err != nil {
		a.T.Fatal(err)
	}
	dir := a.T.TempDir()
	return KeyPair{
		CertFile: writeSecret(a.T, filepath.Join(dir, "cert.pem"), p.PEM()),
		KeyFile:  writeSecret(a.T, filepath.Join(dir, "key.pem"), key),
	}
}

// RevocationList returns the authority's revocation list of these certificates, in PEM.
func (a *Authority) RevocationList(next time.Time, revoked ...KeyPair) []byte {
	a.T.Helper()
	var certs []*x509.Certificate
	for _, pair := range revoked {
		certs = append(certs, pair.Load(a.T).Leaf)
	}
	text, err := a.ca.Revoke(next, certs...)
	if err != nil {
		a.T.Fatal(err)
	}
	return text
}

// ClientTLSFlags are the flags of a gateway that requires TLS of clients, with a certificate of this
// authority.
func (a *Authority) ClientTLSFlags() []string {
	a.T.Helper()
	pair := a.IssueGateway()
	return []string{"--tls-client", "required", "--tls-cert", pair.CertFile, "--tls-key", pair.KeyFile}
}

// ServerTLSFlags are the flags of a gateway that requires TLS of the server, signed by this authority.
func (a *Authority) ServerTLSFlags() []string {
	return []string{"--tls-server", "required", "--tls-ca", a.CAFile}
}

// ClientConfig returns a client's configuration that trusts this authority alone.
func (a *Authority) ClientConfig(name string) *tls.Config { return a.ca.Client(name) }

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
	both := ReadFile(t, k.KeyFile) + ReadFile(t, k.CertFile)
	return writeSecret(t, filepath.Join(t.TempDir(), "both.pem"), []byte(both))
}

// writeSecret writes a file that only its owner can read, and returns its path.
func writeSecret(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
