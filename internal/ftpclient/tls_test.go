package ftpclient

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/try/testca"
)

// tlsPeer is a server with TLS for one session: of one download, or of one upload.
type tlsPeer struct {
	config    *tls.Config
	truncated bool   // its data ends without close_notify
	sneaks    string // what is sent in clear behind the answer to AUTH
	stored    []byte
	unshut    error // how the client's data ended
}

func (p *tlsPeer) serve(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	data, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer data.Close()
	lines := ftp.NewLineReader(conn, 0)
	_, _ = io.WriteString(conn, "220 hello\r\n")
	for {
		line, _, err := lines.ReadLine()
		if err != nil {
			return nil // the client has gone
		}
		verb, _, _ := strings.Cut(string(line), " ")
		switch verb {
		case "AUTH":
			_, _ = io.WriteString(conn, "234 now\r\n"+p.sneaks)
			tlsConn := tls.Server(conn, p.config)
			conn, lines = tlsConn, ftp.NewLineReader(tlsConn, 0)
		case "EPSV":
			fmt.Fprintf(conn, "229 (|||%d|)\r\n", data.Addr().(*net.TCPAddr).Port)
		case "RETR", "STOR":
			_, _ = io.WriteString(conn, "150 go\r\n")
			if err := p.transfer(data, verb); err != nil {
				return err
			}
			_, _ = io.WriteString(conn, "226 done\r\n")
		default:
			_, _ = io.WriteString(conn, "200 ok\r\n")
		}
	}
}

func (p *tlsPeer) transfer(l net.Listener, verb string) error {
	raw, err := l.Accept()
	if err != nil {
		return err
	}
	defer raw.Close()
	conn := tls.Server(raw, p.config)
	if verb == "STOR" {
		p.stored, p.unshut = io.ReadAll(conn)
		return nil
	}
	if _, err := io.WriteString(conn, "12345"); err != nil || p.truncated {
		return err
	}
	return conn.Close()
}

// secured plays p for a client that has begun with TLS or tried to.
func secured(t *testing.T, p *tlsPeer, use func(c *Client, encrypted error) error) error {
	t.Helper()
	a, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.Issue("peer", netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	p.config = &tls.Config{Certificates: []tls.Certificate{pair}}
	l, ended := listen(t), make(chan error, 1)
	go func() { ended <- p.serve(l) }()
	ctx := testContext(t)
	c := &Client{Host: loopback{}, Watch: &log{}}
	if err := c.Open(ctx, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	err = use(c, c.Encrypt(ctx, a.Client("127.0.0.1")))
	_ = c.Close()
	if ended := <-ended; ended != nil {
		t.Error(ended)
	}
	return err
}

// TestClientTLS: data connections resume the session, and what is sent ends with close_notify.
func TestClientTLS(t *testing.T) {
	p := &tlsPeer{}
	err := secured(t, p, func(c *Client, err error) error {
		if err != nil {
			return err
		}
		buf := make([]byte, 5)
		_, err = c.Retrieve(testContext(t), EPSV, "f", buf)
		if err != nil || string(buf) != "12345" {
			t.Errorf("got %q", buf)
		}
		if err == nil {
			_, err = c.Store(testContext(t), EPSV, "g", []byte("67890"))
		}
		var resumed []bool
		for _, state := range c.Handshakes() {
			resumed = append(resumed, state.DidResume)
		}
		if want := []bool{false, true, true}; !slices.Equal(resumed, want) {
			t.Errorf("resumed: got %v; want %v", resumed, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if string(p.stored) != "67890" || p.unshut != nil {
		t.Errorf("stored: got %q, %v; want 67890 and close_notify", p.stored, p.unshut)
	}
}

// TestClientTLSTruncated: data that ends without close_notify may have lost its end.
func TestClientTLSTruncated(t *testing.T) {
	err := secured(t, &tlsPeer{truncated: true}, func(c *Client, err error) error {
		if err == nil {
			_, err = c.Retrieve(testContext(t), EPSV, "f", make([]byte, 5))
		}
		return err
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v; want %v", err, io.ErrUnexpectedEOF)
	}
}

// TestClientTLSInjected: a reply that an attacker has put after the answer to AUTH is not taken for the
// server's.
func TestClientTLSInjected(t *testing.T) {
	err := secured(t, &tlsPeer{sneaks: "200 ok\r\n"}, func(_ *Client, err error) error { return err })
	if err == nil || !strings.Contains(err.Error(), "AUTH: 8 bytes in clear after the answer") {
		t.Errorf("got %v; want it refused", err)
	}
}
