package ftpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"ftpgate/internal/core/ftp"
)

// Control is the client's end of a control connection. It sends commands and returns replies, without
// evaluating them. One goroutine uses it at a time; others may set deadlines and close it.
type Control struct {
	conn  net.Conn // a *tls.Conn after StartTLS
	lines *ftp.LineReader
	scan  ftp.ReplyScanner
	heard func([]byte)
}

// Options of a control connection. The zero value has package ftp's limits.
type Options struct {
	MaxReplyLines, MaxReplyBytes int
	// gets the bytes that the server sends, decrypted, as they arrive; may be nil
	Heard func([]byte)
}

// NewControl returns the control connection over conn, which it owns from now on.
func NewControl(conn net.Conn, o Options) *Control {
	c := &Control{conn: conn, heard: o.Heard}
	c.scan = ftp.ReplyScanner{MaxLines: o.MaxReplyLines, MaxBytes: o.MaxReplyBytes}
	c.lines = ftp.NewLineReader((*controlReader)(c), 0)
	return c
}

// controlReader is a Control's stream below the lines.
type controlReader Control

// Read implements io.Reader.
func (r *controlReader) Read(p []byte) (int, error) {
	n, err := r.conn.Read(p)
	if r.heard != nil {
		r.heard(p[:n])
	}
	return n, err
}

// Local returns this end's address, as this host sees it.
func (c *Control) Local() netip.AddrPort { return addrOf(c.conn.LocalAddr()) }

// Peer returns the server's address, as this host sees it.
func (c *Control) Peer() netip.AddrPort { return addrOf(c.conn.RemoteAddr()) }

// addrOf returns a TCP address, without IPv4 mapping; not valid: it is none.
func addrOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Command returns a command; an empty argument is none.
func Command(verb, arg string) ftp.Command {
	if arg == "" {
		return ftp.Command{Verb: verb}
	}
	return ftp.Command{Verb: verb, Arg: []byte(arg)}
}

// Send sends commands in one piece, as clients do that do not wait for replies.
func (c *Control) Send(commands ...ftp.Command) error {
	var line []byte
	for _, command := range commands {
		line = command.AppendTo(line)
	}
	_, err := c.conn.Write(line)
	return err
}

// Receive returns the next reply, also a preliminary one (1yz). Its errors are those of ftp.ReadReply.
func (c *Control) Receive() (ftp.Reply, error) { return ftp.ReadReply(c.lines, &c.scan) }

// SetReadDeadline bounds Receive.
func (c *Control) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline bounds Send.
func (c *Control) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// ErrInjected reports bytes in clear after the reply with which TLS begins. An attacker could have inserted
// them, to pass them off as the server's (RFC 3207 section 4.2 describes it for SMTP).
var ErrInjected = errors.New("bytes in clear after the answer")

// StartTLS begins TLS. ctx bounds the handshake; deadlines that were set before are removed. The error is
// ErrInjected or the handshake's.
func (c *Control) StartTLS(ctx context.Context, config *tls.Config) (tls.ConnectionState, error) {
	if n := c.lines.Buffered(); n > 0 {
		return tls.ConnectionState{}, fmt.Errorf("%d %w", n, ErrInjected)
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return tls.ConnectionState{}, err
	}
	tlsConn := tls.Client(c.conn, config)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, fmt.Errorf("handshake: %w", err)
	}
	c.conn = tlsConn
	c.lines.Reset((*controlReader)(c))
	return tlsConn.ConnectionState(), nil
}

// Close closes the connection.
func (c *Control) Close() error { return c.conn.Close() }
