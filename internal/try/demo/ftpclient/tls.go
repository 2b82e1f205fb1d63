package ftpclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"

	"ftpgate/internal/core/ftp"
)

// Encrypt has the control connection go on in TLS, and every data connection begin with it (RFC 4217): AUTH
// TLS, PBSZ 0, PROT P. It comes before Login. For data connections to resume the session of the control
// connection config must have a ClientSessionCache; it serves this client only.
func (c *Client) Encrypt(ctx context.Context, config *tls.Config) error {
	if _, err := c.Ask(ctx, 2, "AUTH", "TLS"); err != nil {
		return err
	}
	if n := len(c.lines.Rest()); n > 0 {
		return fmt.Errorf("AUTH: %d bytes in clear behind the answer", n)
	}
	conn, err := c.shake(ctx, c.control, config)
	if err != nil {
		return fmt.Errorf("AUTH: %w", err)
	}
	c.control, c.lines, c.private = conn, ftp.NewLineReader(conn, 0), config
	if _, err := c.Ask(ctx, 2, "PBSZ", "0"); err != nil {
		return err
	}
	_, err = c.Ask(ctx, 2, "PROT", "P")
	return err
}

// Handshakes returns what became of TLS: on the control connection, and then on each data connection.
func (c *Client) Handshakes() []tls.ConnectionState { return slices.Clone(c.handshakes) }

// shake begins TLS on conn, of which the FTP client is always the client (RFC 4217 section 7).
func (c *Client) shake(ctx context.Context, conn net.Conn, config *tls.Config) (*tls.Conn, error) {
	secure := tls.Client(whole{conn}, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", Because(ctx, err))
	}
	state := secure.ConnectionState()
	c.handshakes = append(c.handshakes, state)
	what := fmt.Sprintf("certificate of %q, verified", state.PeerCertificates[0].Subject.CommonName)
	if state.DidResume {
		what = "the control connection's session resumed"
	}
	c.Watch.Note(tls.VersionName(state.Version) + ": " + what)
	return secure, nil
}

// errTruncated is an end that nobody has said, which somebody on the way could have made (RFC 8446 section
// 6.1).
var errTruncated = fmt.Errorf("no close_notify: %w", io.ErrUnexpectedEOF)

// whole is a connection below TLS whose end is an error: crypto/tls itself takes it for close_notify where
// it falls between two records.
type whole struct{ net.Conn }

// Read implements net.Conn.
func (c whole) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		err = errTruncated
	}
	return n, err
}

// wrap begins TLS on a data connection, if that was agreed.
func (c *Client) wrap(ctx context.Context, d *data) error {
	if c.private == nil {
		return nil
	}
	conn, err := c.shake(ctx, d.conn, c.private)
	if err != nil {
		return &DataError{err}
	}
	d.conn = conn
	return nil
}

// end tells the peer that this was all: in clear by the connection's end, in TLS by close_notify. There the
// connection stays until the transfer's last reply, since tickets that nobody has read would have the
// kernel reset it over the heads of the last bytes sent.
func (d *data) end() {
	secure, ok := d.conn.(*tls.Conn)
	if !ok {
		d.close()
		return
	}
	// A peer that has said close_notify first may be gone; one that misses ours says so in its reply.
	_ = secure.CloseWrite()
	if half, ok := secure.NetConn().(whole).Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
