package ftpclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/ftp"
)

// Mode is the command with which a client negotiates its data connections.
type Mode string

// The modes of RFC 959 and RFC 2428.
const (
	PASV Mode = "PASV"
	EPSV Mode = "EPSV"
	PORT Mode = "PORT"
	EPRT Mode = "EPRT"
)

// Active reports whether the server connects.
func (m Mode) Active() bool { return m == PORT || m == EPRT }

// Argument returns the argument of PORT or EPRT that names an address.
func (m Mode) Argument(at netip.AddrPort) string {
	if m == EPRT {
		return string(ftp.AppendEPRT(nil, at))
	}
	return string(ftp.AppendHostPort(nil, at))
}

// Place returns the address and port for data connections in a line of a 227 or a 229. A 229 names a port
// only: the address is that of the control connection's server (RFC 2428 section 3).
func (m Mode) Place(line string, server netip.Addr) (netip.AddrPort, error) {
	if m == EPSV {
		port, err := ftp.Parse229([]byte(line))
		return netip.AddrPortFrom(server, port), err
	}
	return ftp.Parse227([]byte(line))
}

// Data is the client's end of a data connection, or of one that the server is to open. One goroutine uses it
// at a time; others may set deadlines and close it.
type Data struct {
	listener net.Listener // active mode; else nil
	server   netip.Addr   // active mode: the only peer to accept

	mu       sync.Mutex
	conn     *endReader // active mode: nil until the server connected
	tlsConn  *tls.Conn  // over conn; nil: in clear
	deadline time.Time  // zero: none
	closed   bool
}

// NewPassive returns the data connection that this host has opened.
func NewPassive(conn net.Conn) *Data { return &Data{conn: &endReader{Conn: conn}} }

// NewActive returns the data connection that a server is to open to a listener, which it owns from now on.
func NewActive(l net.Listener, server netip.Addr) *Data { return &Data{listener: l, server: server} }

// Accept waits for the server of an active data connection. A connection from any other address is closed,
// since it may be an attack (RFC 2577 section 4); unexpected then decides: with nil Accept keeps waiting, an
// error ends it.
func (d *Data) Accept(unexpected func(from netip.AddrPort) error) (from netip.AddrPort, err error) {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return netip.AddrPort{}, err
		}
		if from := addrOf(conn.RemoteAddr()); from.Addr() == d.server {
			return from, d.connected(conn)
		} else if err := unexpected(from); err != nil {
			_ = conn.Close() // nothing was sent
			return from, err
		}
		_ = conn.Close()
	}
}

// connected takes over the server's connection.
func (d *Data) connected(conn net.Conn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		_ = conn.Close() // nothing was sent
		return net.ErrClosed
	}
	d.conn = &endReader{Conn: conn}
	return conn.SetDeadline(d.deadline)
}

// Connected reports whether there is a connection.
func (d *Data) Connected() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn != nil
}

// SetDeadline bounds everything, the wait for the server included. It never moves an earlier deadline.
func (d *Data) SetDeadline(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.deadline.IsZero() && t.After(d.deadline) {
		return
	}
	d.deadline = t
	if l, ok := d.listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = l.SetDeadline(t) // fails only on a closed one
	}
	if d.conn != nil {
		_ = d.conn.SetDeadline(t) // likewise
	}
}

// StartTLS begins TLS. The FTP client is always the TLS client (RFC 4217 section 7).
func (d *Data) StartTLS(ctx context.Context, config *tls.Config) (tls.ConnectionState, error) {
	tlsConn := tls.Client(d.conn, config)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tlsConn = tlsConn
	return tlsConn.ConnectionState(), nil
}

// ErrTruncated is an end of data in TLS without close_notify, which an attacker on the path could have forged
// (RFC 8446 section 6.1).
var ErrTruncated = fmt.Errorf("no close_notify: %w", io.ErrUnexpectedEOF)

// Read implements io.Reader. It returns ErrTruncated if the connection ends between two records, for which
// crypto/tls returns io.EOF.
func (d *Data) Read(p []byte) (int, error) {
	if d.tlsConn == nil {
		return d.conn.Read(p)
	}
	n, err := d.tlsConn.Read(p)
	if err == io.EOF && d.conn.ended {
		err = ErrTruncated
	}
	return n, err
}

// Write implements io.Writer.
func (d *Data) Write(p []byte) (int, error) {
	if d.tlsConn == nil {
		return d.conn.Write(p)
	}
	return d.tlsConn.Write(p)
}

// Finish marks the end of the data: in clear by the connection's end (RFC 959 section 3.4.1), in TLS by
// close_notify. In TLS the connection then stays open until Close, because the kernel would reset it over
// unread session tickets, and the last bytes might not arrive.
func (d *Data) Finish() {
	if d.tlsConn == nil {
		d.Close()
		return
	}
	// A server that has sent close_notify first may have closed; one that misses ours says so in its reply.
	_ = d.tlsConn.CloseWrite()
	if half, ok := d.conn.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// Close closes the connection and the listener. It may be called more than once.
func (d *Data) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.listener != nil {
		_ = d.listener.Close() // its errors are irrelevant, here as below
	}
	switch {
	case d.tlsConn != nil:
		_ = d.tlsConn.Close()
	case d.conn != nil:
		_ = d.conn.Close()
	}
}

// endReader is a connection that notes whether the server has ended its direction of TCP.
type endReader struct {
	net.Conn
	ended bool
}

// Read implements net.Conn.
func (r *endReader) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.ended = r.ended || err == io.EOF
	return n, err
}
