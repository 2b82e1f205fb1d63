package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/try/testca"
)

// fakeKeys have one certificate for all clients.
type fakeKeys struct {
	cert  tls.Certificate
	roots *x509.CertPool // that clients trust, and the gateway as a client
	err   error

	subject string // of the certificates that clients present
	refused error  // why clients must not come in

	client *fakeClientTLS // of the last session
}

func newKeys(t *testing.T) *fakeKeys {
	t.Helper()
	own, err := testca.SelfSigned("ftp.test", testca.ForAddrs(netip.MustParseAddr("127.0.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	return &fakeKeys{cert: own.TLS(), roots: own.Pool()}
}

func (k *fakeKeys) ForClient(_ forward.Forward, client netip.Addr) (ClientTLS, error) {
	k.client = &fakeClientTLS{config: k.serving(), address: client, subject: k.subject, refused: k.refused}
	return k.client, k.err
}

// serving is the TLS of a server.
func (k *fakeKeys) serving() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{k.cert}}
}

// fakeClientTLS records the calls of a session.
type fakeClientTLS struct {
	config  *tls.Config
	address netip.Addr
	subject string // of the client's certificate
	refused error  // by Admit

	mu    sync.Mutex
	calls []string
}

func (c *fakeClientTLS) Control() *tls.Config { return c.config }

func (c *fakeClientTLS) Data() (*tls.Config, func(tls.ConnectionState) (<-chan struct{}, error)) {
	return c.config, func(tls.ConnectionState) (<-chan struct{}, error) { return nil, nil }
}

func (c *fakeClientTLS) Login(user string, in bool) { c.tell(fmt.Sprintf("login %s %t", user, in)) }

func (c *fakeClientTLS) Admit(tls.ConnectionState) (subject string, err error) {
	return c.subject, c.refused
}

func (c *fakeClientTLS) Explain(error) (code verdict.Code, plain, remedy string) {
	return verdict.CodeClientTLS, "explained", "mended"
}

func (c *fakeClientTLS) Close() { c.tell("close") }

func (c *fakeClientTLS) tell(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, text)
}

// wantCalls expects the calls of a session so far.
func (c *fakeClientTLS) wantCalls(t *testing.T, want string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := strings.Join(c.calls, ", "); got != want {
		t.Errorf("the session calls %q; want %q", got, want)
	}
}

func (k *fakeKeys) ForServer(forward.Forward) (control, data *tls.Config, err error) {
	c := &tls.Config{RootCAs: k.roots, ServerName: "127.0.0.1"}
	return c, c, k.err
}

func (k *fakeKeys) Explain(error) (plain, remedy string) { return "explained", "mended" }
