package tlskeys

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/try/testca"
)

// patience is how long a test waits for what must come. No test waits it out unless it fails.
const patience = 20 * time.Second

// versions of TLS that must do the same.
var bothVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// signed is a certificate with its key.
type signed struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (s signed) certPEM() []byte { return s.asPair().PEM() }

func (s signed) keyPEM() []byte {
	text, err := s.asPair().KeyPEM()
	if err != nil {
		panic("test key: " + err.Error())
	}
	return text
}

func (s signed) pair() tls.Certificate { return s.asPair().TLS() }

func (s signed) asPair() testca.Pair { return testca.Pair{Cert: s.cert, Key: s.key} }

// sign makes a certificate for gateway.test and 127.0.0.1 that is valid for a year. change alters it before
// it is signed; nil: as it is. With a zero signer it signs itself.
func sign(t testing.TB, by signed, change testca.Change) signed {
	t.Helper()
	changes := []testca.Change{
		testca.ForAddrs(netip.MustParseAddr("127.0.0.1")),
		func(c *x509.Certificate) { c.NotAfter = time.Now().Add(365 * 24 * time.Hour) },
	}
	if change != nil {
		changes = append(changes, change)
	}
	signer := by.asPair().Sign
	if by.key == nil {
		signer = testca.SelfSigned
	}
	p, err := signer("gateway.test", changes...)
	if err != nil {
		t.Fatal(err)
	}
	return signed{cert: p.Cert, key: p.Key}
}

// authority makes one that signs.
func authority(t testing.TB) signed {
	t.Helper()
	a, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	return signed{cert: a.Cert, key: a.Key}
}

// expired is for sign.
func expired(c *x509.Certificate) { testca.Expired(c) }

// put writes a file below the test's directory, or anew, and returns its path.
func put(t testing.TB, path string, parts ...[]byte) string {
	t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(t.TempDir(), path)
	}
	if err := os.WriteFile(path, bytes.Join(parts, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// terminated is a forward that shows a certificate to clients.
func terminated(cert, key string) forward.Forward {
	return forward.Forward{Name: "archive", TLS: forward.TLS{Client: forward.ClientTLSOptional, Cert: cert,
		Key: key}}
}

// originated is a forward that trusts the authority in a file.
func originated(ca string) forward.Forward {
	return forward.Forward{Name: "archive", Server: forward.Server{Host: "gateway.test", Port: 21},
		TLS: forward.TLS{Server: forward.ServerTLSRequired, CA: ca}}
}

// clock is the time of a test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	return c.at
}

// logged is what a test's Keys have logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns the lines since the last call.
func (l *logged) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return strings.Split(strings.TrimSuffix(l.text.String(), "\n"), "\n")
}

// wantLog asserts that what was logged since the last time is one line with all parts in it, or nothing.
func (l *logged) wantLog(t *testing.T, parts ...string) {
	t.Helper()
	lines := l.take()
	if len(lines) != 1 || (len(parts) == 0) != (lines[0] == "") {
		t.Errorf("logged %q; want %d line with %q", lines, min(1, len(parts)), parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(lines[0], part) {
			t.Errorf("logged %q; want %q in it", lines[0], part)
		}
	}
}

// keys returns Keys with a clock of their own that have loaded a forward, and their log.
func keys(t testing.TB, forwards ...forward.Forward) (*Keys, *clock, *logged) {
	t.Helper()
	l, c := &logged{}, &clock{at: time.Now()}
	k := New(filepath.Join(t.TempDir(), "state"), slog.New(slog.NewTextHandler(l, nil)))
	k.now = c.now
	for _, f := range k.Load(forwards, nil) {
		if f.IsFault() {
			t.Fatalf("fault %s", f)
		}
	}
	return k, c, l
}

// end is one side of a handshake: its state or its error.
type end struct {
	tls.ConnectionState
	err error
}

// shake has two configurations meet on loopback. After the handshake each side says one byte, so that the
// records after a handshake of TLS 1.3 (tickets, late refusals) have arrived.
func shake(t testing.TB, server, client *tls.Config) (atServer, atClient end) {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan end)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			served <- end{err: err}
			return
		}
		served <- meet(conn, tls.Server(conn, server))
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	atClient = meet(conn, tls.Client(conn, client))
	return <-served, atClient
}

func meet(conn net.Conn, c *tls.Conn) end {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return end{err: err}
	}
	if err := c.Handshake(); err != nil {
		return end{err: err}
	}
	_, writeErr := c.Write([]byte{'x'})
	_, readErr := io.ReadFull(c, make([]byte, 1))
	// A refusal is read, also where the write has failed because of it.
	return end{c.ConnectionState(), errors.Join(readErr, writeErr)}
}

// trusting is an FTP client's TLS, of one version.
func trusting(ca signed, version uint16) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &tls.Config{RootCAs: roots, ServerName: "gateway.test", MinVersion: version, MaxVersion: version,
		ClientSessionCache: tls.NewLRUClientSessionCache(0)}
}

// wantShown asserts which certificate a client was shown.
func wantShown(t *testing.T, k *Keys, f forward.Forward, client *tls.Config, want signed) {
	t.Helper()
	s, err := k.ForClient(f, theClient)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, c := shake(t, s.Control(), client)
	if c.err != nil {
		t.Fatal(c.err)
	}
	if got := c.PeerCertificates[0]; !got.Equal(want.cert) {
		t.Errorf("shown certificate %v; want %v", got.SerialNumber, want.cert.SerialNumber)
	}
}

// wantWords asserts that an error's words have parts in them.
func wantWords(t *testing.T, err error, reason, remedy string) {
	t.Helper()
	gotReason, gotRemedy := Explain(err)
	if gotReason != reason || !strings.Contains(gotRemedy, remedy) {
		t.Errorf("error %v: got %q, remedy %q; want %q, remedy with %q", err, gotReason, gotRemedy, reason,
			remedy)
	}
}

func texts(faults []finding.Finding) []string {
	var s []string
	for _, f := range faults {
		s = append(s, f.String())
	}
	slices.Sort(s)
	return s
}

// rsaServer makes a certificate with the kind of key that old devices know.
func rsaServer(t testing.TB, by signed) signed {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := sign(t, by, nil).cert
	template.KeyUsage |= x509.KeyUsageKeyEncipherment
	template.PublicKey, template.PublicKeyAlgorithm, template.SubjectKeyId = nil, 0, nil
	template.SignatureAlgorithm = 0
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed{cert: cert, key: key}
}
