package harness

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// ControlConn is one end of a control connection. The test scripts both ends: they can send what no
// well-behaved client or server would send, at the worst moment.
type ControlConn struct {
	net.Conn
	T      *testing.T
	Name   string // in messages: "the client"
	Reader *bufio.Reader
}

// NewControlConn takes over one end of a control connection, with a deadline. name stands in messages.
func NewControlConn(t *testing.T, name string, c net.Conn) *ControlConn {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(Timeout)); err != nil {
		t.Fatal(err)
	}
	return &ControlConn{c, t, name, bufio.NewReader(c)}
}

// Extend gives the next operation its whole time: the deadline bounds a wait, not the test.
func (w *ControlConn) Extend() { _ = w.SetDeadline(time.Now().Add(Timeout)) } // what fails here fails next

// Send sends a line. CRLF is added.
func (w *ControlConn) Send(format string, args ...any) {
	w.T.Helper()
	w.Extend()
	if _, err := fmt.Fprintf(w.Conn, format+"\r\n", args...); err != nil {
		w.T.Fatalf("%s: send %q: %v", w.Name, fmt.Sprintf(format, args...), err)
	}
}

// Expect reads a line, which must begin with prefix, and returns it without CRLF.
func (w *ControlConn) Expect(prefix string) string {
	w.T.Helper()
	w.Extend()
	line, err := w.Reader.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		w.T.Fatalf("%s: got %q, error %v; want %q", w.Name, line, err, prefix)
	}
	return strings.TrimRight(line, "\r\n")
}

// ExpectClose expects that the gateway closes the connection. It returns what came before that.
func (w *ControlConn) ExpectClose() string {
	w.T.Helper()
	w.Extend()
	rest, err := io.ReadAll(w.Reader)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.T.Errorf("%s: the connection is still open; want it closed", w.Name)
	}
	return string(rest)
}

// Handshake starts TLS on the control connection.
func (w *ControlConn) Handshake(c *tls.Conn) {
	w.T.Helper()
	if err := c.Handshake(); err != nil {
		w.T.Fatalf("%s: handshake: %v", w.Name, err)
	}
	w.Conn, w.Reader = c, bufio.NewReader(c)
}
