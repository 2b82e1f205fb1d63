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

	"ftpgate/internal/try/demo/ftpclient"
	"ftpgate/internal/try/demo/sessionlog"
	"ftpgate/internal/try/testca"
)

// localHost is the host of the test's client. It implements ftpclient.Host.
type localHost struct{}

func (localHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (localHost) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

// start serves until the test ends, and returns where, and what the server says of it.
func start(t *testing.T, a *testca.Authority, version uint16, only bool) (at string, w *sessionlog.ServerLog) {
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
			Files:   map[string][]byte{"/f": bytes.Repeat([]byte("0123456789"), 1<<17)},
			TLS:     &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: version},
			TLSOnly: only,
		})
		_ = in.Close()
		ended <- err
	}()
	w = sessionlog.ReadServerLog(out)
	t.Cleanup(func() {
		cancel()
		w.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if at, err = w.Next(ctx, sessionlog.Ready); err != nil {
		t.Fatal(err)
	}
	return at, w
}

func newAuthority(t *testing.T) *testca.Authority {
	t.Helper()
	a, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func connect(t *testing.T, at string) (context.Context, *ftpclient.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a test that hangs
	t.Cleanup(cancel)
	c := &ftpclient.Client{Host: localHost{}, Watch: &sessionlog.Transcript{Quiet: true}}
	if err := c.Open(ctx, at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return ctx, c
}

// TestTLS: control and data are encrypted, data resumes the session, and what is sent arrives whole.
func TestTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			a := newAuthority(t)
			at, w := start(t, a, version, true)
			ctx, c := connect(t, at)
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
			if _, err := c.Retrieve(ctx, ftpclient.PASV, "g", got); err != nil || !bytes.Equal(got, stored) {
				t.Errorf("got %v, the bytes are right: %v", err, bytes.Equal(got, stored))
			}
			if list, err := c.List(ctx, ftpclient.EPSV); err != nil || !strings.Contains(string(list), " g\r\n") {
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
			events, err := w.Session(ctx)
			var seen []string
			for _, ev := range events {
				if ev.Kind == sessionlog.Encrypted {
					seen = append(seen, ev.Text)
				}
			}
			name := tls.VersionName(version)
			again := name + sessionlog.Resumed
			if want := []string{name, again, again, again}; err != nil || !slices.Equal(seen, want) {
				t.Errorf("server: got %q, %v; want %q", seen, err, want)
			}
		})
	}
}

// TestTLSOnly: such a server takes no password in clear, and one that is not takes it.
func TestTLSOnly(t *testing.T) {
	a := newAuthority(t)
	for _, only := range []bool{true, false} {
		at, _ := start(t, a, 0, only)
		ctx, c := connect(t, at)
		err := c.Login(ctx, User, Password)
		if refused := err != nil && strings.Contains(err.Error(), "USER: the answer is 534"); refused != only {
			t.Errorf("TLS only %v: got %v", only, err)
		}
	}
}

// TestTLSUnknownServer: a client that does not trust the certificate goes no further.
func TestTLSUnknownServer(t *testing.T) {
	at, _ := start(t, newAuthority(t), 0, false)
	ctx, c := connect(t, at)
	if err := c.Encrypt(ctx, newAuthority(t).Client("127.0.0.1")); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got %v; want it to be unknown", err)
	}
}
