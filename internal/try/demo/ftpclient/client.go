// Package ftpclient is the small FTP client of the story. It is strict: it does what it is told by the
// RFC and by the server, takes a data connection from nobody but the host at the other end of its control
// connection (RFC 2577 section 4), and repairs nothing that it was not asked to. It is not for use
// outside the demo.
package ftpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"ftpgate/internal/core/ftp"
)

// Host is where a program runs: a host of the lab.
type Host interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
}

// Observer hears what a client says and is told. Its errors end the client's work.
type Observer interface {
	Sent(context.Context, ftp.Command) error
	Received(context.Context, ftp.Reply) error
	Note(text string)
}

// Mode is how a client comes to its data connections: the command that it sends.
type Mode string

// The modes of RFC 959 and RFC 2428.
const (
	PASV Mode = "PASV"
	EPSV Mode = "EPSV"
	PORT Mode = "PORT"
	EPRT Mode = "EPRT"
)

func (m Mode) active() bool { return m == PORT || m == EPRT }

// Client is an FTP client of one session. Host and Watch must be set before Open.
type Client struct {
	Host    Host
	Watch   Observer
	Repair  bool // takes the control connection's address in place of a 227's, as lftp does
	control net.Conn
	peer    netip.AddrPort // the other end of the control connection, as this end sees it
	lines   *ftp.LineReader
	replies ftp.ReplyScanner

	private    *tls.Config // of data connections; nil: they are in clear
	handshakes []tls.ConnectionState
}

// bind closes a connection, or a listener, when ctx ends: its deadline, or somebody's impatience.
func bind(ctx context.Context, c io.Closer) (release func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.Close() })
}

// Open connects to address and waits for the greeting. The client serves as long as ctx; Close
// ends it before.
func (c *Client) Open(ctx context.Context, address string) error {
	conn, err := c.Host.Dial(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("control connection: %w", err)
	}
	if c.peer, err = netip.ParseAddrPort(conn.RemoteAddr().String()); err != nil {
		_ = conn.Close()
		return fmt.Errorf("control connection: %w", err)
	}
	bind(ctx, conn)
	c.control, c.lines = conn, ftp.NewLineReader(conn, 0)
	return c.Expect(ctx, "greeting", 2)
}

// Close ends the control connection.
func (c *Client) Close() error { return c.control.Close() }

// Peer returns the other end of the control connection, as this end sees it.
func (c *Client) Peer() netip.AddrPort { return c.peer }

// reply reads the next reply.
func (c *Client) reply(ctx context.Context) (ftp.Reply, error) {
	r, err := ftp.ReadReply(c.lines, &c.replies)
	if err != nil {
		return r, Because(ctx, err)
	}
	return r, c.Watch.Received(ctx, r)
}

// Because prefers the reason why ctx ended to the closed connection that it left.
func Because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("broken off: %w", context.Cause(ctx))
	}
	return err
}

// Expect reads a reply whose code begins with class (RFC 959 section 4.2.1).
func (c *Client) Expect(ctx context.Context, what string, class int) error {
	r, err := c.reply(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return wantClass(what, r, class)
}

func wantClass(what string, r ftp.Reply, class int) error {
	if r.Code/100 != class {
		return fmt.Errorf("%s: the answer is %d %q; want %dyz", what, r.Code, r.Text(), class)
	}
	return nil
}

// send sends a command; arg may be empty.
func (c *Client) send(ctx context.Context, verb, arg string) error {
	cmd := ftp.Command{Verb: verb}
	if arg != "" {
		cmd.Arg = []byte(arg)
	}
	return c.SendTogether(ctx, cmd)
}

// SendTogether sends commands in one piece, as a client does that does not wait for replies.
func (c *Client) SendTogether(ctx context.Context, commands ...ftp.Command) error {
	var wire []byte
	for _, cmd := range commands {
		wire = cmd.AppendTo(wire)
	}
	if _, err := c.control.Write(wire); err != nil {
		return fmt.Errorf("%s: %w", commands[0].Verb, Because(ctx, err))
	}
	for _, cmd := range commands {
		if err := c.Watch.Sent(ctx, cmd); err != nil {
			return fmt.Errorf("%s: %w", cmd.Verb, err)
		}
	}
	return nil
}

// Ask sends a command and reads its one reply, which must be of class.
func (c *Client) Ask(ctx context.Context, class int, verb, arg string) (ftp.Reply, error) {
	if err := c.send(ctx, verb, arg); err != nil {
		return ftp.Reply{}, err
	}
	r, err := c.reply(ctx)
	if err != nil {
		return r, fmt.Errorf("%s: %w", verb, err)
	}
	return r, wantClass(verb, r, class)
}

// Login logs in and asks for bytes as they are.
func (c *Client) Login(ctx context.Context, user, password string) error {
	if _, err := c.Ask(ctx, 3, "USER", user); err != nil {
		return err
	}
	if _, err := c.Ask(ctx, 2, "PASS", password); err != nil {
		return err
	}
	_, err := c.Ask(ctx, 2, "TYPE", "I")
	return err
}

// Quit says goodbye.
func (c *Client) Quit(ctx context.Context) error {
	_, err := c.Ask(ctx, 2, "QUIT", "")
	return err
}

// DataError is a data connection that did not come about, while the control connection is well.
type DataError struct{ err error }

// Error implements error.
func (e *DataError) Error() string { return "data connection: " + e.err.Error() }

// Unwrap returns the cause.
func (e *DataError) Unwrap() error { return e.err }

// data is a data connection that has been negotiated.
type data struct {
	conn     net.Conn     // passive: there before the transfer is asked for
	listener net.Listener // active: the connection comes with the transfer
}

// negotiate makes ready for one transfer. The error is a *DataError where the client cannot
// connect to where it was told to.
func (c *Client) negotiate(ctx context.Context, m Mode) (*data, error) {
	if m.active() {
		return c.listen(ctx, m)
	}
	to, err := c.passive(ctx, m)
	if err != nil {
		return nil, err
	}
	c.Watch.Note("Connecting data socket to " + to.String())
	conn, err := c.Host.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, &DataError{err}
	}
	return &data{conn: conn}, nil
}

// passive asks the server for a place to connect to.
func (c *Client) passive(ctx context.Context, m Mode) (netip.AddrPort, error) {
	r, err := c.Ask(ctx, 2, string(m), "")
	if err != nil {
		return netip.AddrPort{}, err
	}
	return c.Place(m, r)
}

// Place is where a 227 or a 229 says that data connections are taken.
func (c *Client) Place(m Mode, r ftp.Reply) (netip.AddrPort, error) {
	if m == EPSV { // the address is the control connection's (RFC 2428 section 3)
		p, err := ftp.Parse229([]byte(r.Last()))
		return netip.AddrPortFrom(c.peer.Addr(), p), err
	}
	to, err := ftp.Parse227([]byte(r.Last()))
	if err != nil {
		return netip.AddrPort{}, err
	}
	if c.Repair && to.Addr() != c.peer.Addr() {
		c.Watch.Note("Address returned by PASV is not the server's and is repaired")
		to = netip.AddrPortFrom(c.peer.Addr(), to.Port())
	}
	return to, nil
}

// listen makes a place for the server to connect to, and names it.
func (c *Client) listen(ctx context.Context, m Mode) (*data, error) {
	local, err := netip.ParseAddrPort(c.control.LocalAddr().String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	l, err := c.Host.Listen("tcp", netip.AddrPortFrom(local.Addr(), 0).String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err == nil {
		c.Watch.Note("Waiting for a data connection at " + at.String())
		named := ftp.AppendHostPort
		if m == EPRT {
			named = ftp.AppendEPRT
		}
		_, err = c.Ask(ctx, 2, string(m), string(named(nil, at)))
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &data{listener: l}, nil
}

// connect returns the data connection, which ends with ctx. It must come from the address of
// the control connection's other end.
func (c *Client) connect(ctx context.Context, d *data) (net.Conn, error) {
	if d.listener != nil {
		release := bind(ctx, d.listener)
		conn, err := d.listener.Accept()
		release()
		if err != nil {
			return nil, &DataError{Because(ctx, err)}
		}
		d.conn = conn
		c.Watch.Note("Data connection from " + conn.RemoteAddr().String())
		if from, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err != nil || from.Addr() != c.peer.Addr() {
			return nil, &DataError{fmt.Errorf("it came from %s; want %s", conn.RemoteAddr(), c.peer.Addr())}
		}
	}
	bind(ctx, d.conn)
	err := c.wrap(ctx, d)
	return d.conn, err
}

// Close ends what is left of a data connection; the second time does no harm.
func (d *data) close() {
	if d.listener != nil {
		_ = d.listener.Close()
	}
	if d.conn != nil {
		_ = d.conn.Close()
	}
}

// transfer negotiates a data connection, asks for the transfer, and lets move move the bytes.
// It returns how long that took: from asking until the last byte.
func (c *Client) transfer(ctx context.Context, m Mode, verb, arg string, move func(net.Conn) error) (time.Duration, error) {
	d, err := c.negotiate(ctx, m)
	if err != nil {
		return 0, err
	}
	return c.carry(ctx, d, verb, arg, move)
}

// carry is transfer behind the negotiation; it closes d.
func (c *Client) carry(ctx context.Context, d *data, verb, arg string, move func(net.Conn) error) (time.Duration, error) {
	defer d.close()
	begin := time.Now()
	if _, err := c.Ask(ctx, 1, verb, arg); err != nil {
		return 0, err
	}
	conn, err := c.connect(ctx, d)
	if err != nil {
		return 0, err
	}
	if err := move(conn); err != nil {
		return 0, fmt.Errorf("%s: %w", verb, Because(ctx, err))
	}
	took := time.Since(begin)
	d.end() // which is the end of what is stored (RFC 959 section 3.4.1)
	return took, c.Expect(ctx, verb, 2)
}

// maxListing bounds a listing, in bytes.
const maxListing = 1 << 20

// List returns the listing of the directory.
func (c *Client) List(ctx context.Context, m Mode) ([]byte, error) {
	d, err := c.negotiate(ctx, m)
	if err != nil {
		return nil, err
	}
	return c.listOver(ctx, d)
}

// ListOver is List over a passive data connection that is there already; it closes conn.
func (c *Client) ListOver(ctx context.Context, conn net.Conn) ([]byte, error) {
	return c.listOver(ctx, &data{conn: conn})
}

func (c *Client) listOver(ctx context.Context, d *data) (listing []byte, err error) {
	_, err = c.carry(ctx, d, "LIST", "", func(conn net.Conn) (err error) {
		listing, err = io.ReadAll(io.LimitReader(conn, maxListing))
		return err
	})
	return listing, err
}

// Retrieve reads a file into buf, which it must fill exactly.
func (c *Client) Retrieve(ctx context.Context, m Mode, name string, buf []byte) (time.Duration, error) {
	return c.transfer(ctx, m, "RETR", name, func(conn net.Conn) error {
		if n, err := io.ReadFull(conn, buf); err != nil {
			return fmt.Errorf("%d of %d bytes: %w", n, len(buf), err)
		}
		n, err := conn.Read(make([]byte, 1))
		switch {
		case n > 0:
			return fmt.Errorf("more than %d bytes", len(buf))
		case err != io.EOF:
			return fmt.Errorf("behind %d bytes: %w", len(buf), err)
		}
		return nil
	})
}

// Store sends a file.
func (c *Client) Store(ctx context.Context, m Mode, name string, content []byte) (time.Duration, error) {
	return c.transfer(ctx, m, "STOR", name, func(conn net.Conn) error {
		_, err := conn.Write(content)
		return err
	})
}
