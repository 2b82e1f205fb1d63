package ftpserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/sessionlog"
	"ftpgate/internal/try/testca"
)

// localHost is this machine. It implements ftpclient.Host.
type localHost struct{}

func (localHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (localHost) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

// start runs a server until the test ends. It returns its address and its log.
func start(
	t *testing.T, a *testca.Authority, version uint16, tlsOnly bool,
) (address string, log *sessionlog.ServerLog) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.Issue("server", netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Serve(ctx, l, sessionlog.NewLogger(in), Config{
			Files:   map[string]File{"/f": NewFile(bytes.Repeat([]byte("0123456789"), 1<<17))},
			TLS:     &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: version},
			TLSOnly: tlsOnly,
		})
		_ = in.Close()
		ended <- err
	}()
	log = sessionlog.ReadServerLog(out)
	t.Cleanup(func() {
		cancel()
		log.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if address, err = log.Next(ctx, sessionlog.Ready); err != nil {
		t.Fatal(err)
	}
	return address, log
}

func newAuthority(t *testing.T) *testca.Authority {
	t.Helper()
	a, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func connect(t *testing.T, address string) (context.Context, *ftpclient.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a test that hangs
	t.Cleanup(cancel)
	c := &ftpclient.Client{Host: localHost{}, Watch: &sessionlog.Transcript{Quiet: true}}
	if err := c.Open(ctx, address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return ctx, c
}

// TestTLS checks that control and data connections use TLS, that data connections resume the session, and
// that files arrive whole.
func TestTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			a := newAuthority(t)
			address, log := start(t, a, version, true)
			ctx, c := connect(t, address)
			if err := c.Encrypt(ctx, a.Client("127.0.0.1")); err != nil {
				t.Fatal(err)
			}
			if err := c.Login(ctx, User, Password); err != nil {
				t.Fatal(err)
			}
			stored := bytes.Repeat([]byte("abcdefgh"), 1<<17)
			if _, err := c.Store(ctx, ftpclient.EPSV, "g", stored); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(stored))
			_, err := c.Retrieve(ctx, ftpclient.PASV, "g", got)
			if err != nil || !bytes.Equal(got, stored) {
				t.Errorf("got error %v, equal contents %v", err, bytes.Equal(got, stored))
			}
			if list, err := c.List(ctx, ftpclient.EPSV); err != nil ||
				!strings.Contains(string(list), " g\r\n") {
				t.Errorf("got %q, %v; want g in it", list, err)
			}
			if err := c.Quit(ctx); err != nil {
				t.Error(err)
			}
			var resumed []bool
			for _, state := range c.Handshakes() {
				if state.Version != version {
					t.Errorf("got %s", tls.VersionName(state.Version))
				}
				resumed = append(resumed, state.DidResume)
			}
			if want := []bool{false, true, true, true}; !slices.Equal(resumed, want) {
				t.Errorf("client: resumed %v; want %v", resumed, want)
			}
			events, err := log.Session(ctx)
			var handshakes []string
			for _, ev := range events {
				if ev.Kind == sessionlog.Encrypted {
					handshakes = append(handshakes, ev.Text)
				}
			}
			name := tls.VersionName(version)
			again := name + sessionlog.Resumed
			if want := []string{name, again, again, again}; err != nil || !slices.Equal(handshakes, want) {
				t.Errorf("server: got %q, %v; want %q", handshakes, err, want)
			}
		})
	}
}

// TestTLSOnly checks that a server with TLSOnly refuses a login in clear, and that one without accepts it.
func TestTLSOnly(t *testing.T) {
	a := newAuthority(t)
	for _, tlsOnly := range []bool{true, false} {
		address, _ := start(t, a, 0, tlsOnly)
		ctx, c := connect(t, address)
		err := c.Login(ctx, User, Password)
		if refused := err != nil &&
			strings.Contains(err.Error(), "USER: the answer is 534"); refused != tlsOnly {
			t.Errorf("TLS only %v: got %v", tlsOnly, err)
		}
	}
}

// TestTLSUnknownServer checks that a client which does not trust the CA gives up.
func TestTLSUnknownServer(t *testing.T) {
	address, _ := start(t, newAuthority(t), 0, false)
	ctx, c := connect(t, address)
	err := c.Encrypt(ctx, newAuthority(t).Client("127.0.0.1"))
	if err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got %v; want an unknown authority", err)
	}
}
