package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"ftpgate/internal/ftp"
)

// host is where a program runs: a host of the lab.
type host interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
}

// observer hears what a client says and is told. Its errors end the client's work.
type observer interface {
	Sent(context.Context, ftp.Command) error
	Received(context.Context, ftp.Reply) error
	Note(text string)
}

// mode is how a client comes to its data connections.
type mode string

const (
	pasv mode = "PASV"
	epsv mode = "EPSV"
	port mode = "PORT"
	eprt mode = "EPRT"
)

func (m mode) active() bool { return m == port || m == eprt }

// client is a small FTP client. It is strict: it does what it is told by the RFC and by the
// server, and takes a data connection from nobody but the host at the other end of its control
// connection (RFC 2577 section 4). It is not for use outside the story.
type client struct {
	host    host
	watch   observer
	repair  bool // takes the control connection's address in place of a 227's, as lftp does
	control net.Conn
	peer    netip.AddrPort // the other end of the control connection, as this end sees it
	lines   *ftp.LineReader
	replies ftp.ReplyScanner
}

// bind closes a connection, or a listener, when ctx ends: its deadline, or somebody's impatience.
func bind(ctx context.Context, c io.Closer) (release func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.Close() })
}

// open connects to address and waits for the greeting. The client serves as long as ctx; close
// ends it before.
func (c *client) open(ctx context.Context, address string) error {
	conn, err := c.host.Dial(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("control connection: %w", err)
	}
	if c.peer, err = netip.ParseAddrPort(conn.RemoteAddr().String()); err != nil {
		_ = conn.Close()
		return fmt.Errorf("control connection: %w", err)
	}
	bind(ctx, conn)
	c.control, c.lines = conn, ftp.NewLineReader(conn, 0)
	return c.expect(ctx, "greeting", 2)
}

func (c *client) close() error { return c.control.Close() }

// reply reads the next reply.
func (c *client) reply(ctx context.Context) (ftp.Reply, error) {
	r, err := ftp.ReadReply(c.lines, &c.replies)
	if err != nil {
		return r, because(ctx, err)
	}
	return r, c.watch.Received(ctx, r)
}

// because prefers the reason why ctx ended to the closed connection that it left.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("broken off: %w", context.Cause(ctx))
	}
	return err
}

// expect reads a reply whose code begins with class (RFC 959 section 4.2.1).
func (c *client) expect(ctx context.Context, what string, class int) error {
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
func (c *client) send(ctx context.Context, verb, arg string) error {
	cmd := ftp.Command{Verb: verb}
	if arg != "" {
		cmd.Arg = []byte(arg)
	}
	return c.sendTogether(ctx, cmd)
}

// sendTogether sends commands in one piece, as a client does that does not wait for replies.
func (c *client) sendTogether(ctx context.Context, commands ...ftp.Command) error {
	var wire []byte
	for _, cmd := range commands {
		wire = cmd.AppendTo(wire)
	}
	if _, err := c.control.Write(wire); err != nil {
		return fmt.Errorf("%s: %w", commands[0].Verb, because(ctx, err))
	}
	for _, cmd := range commands {
		if err := c.watch.Sent(ctx, cmd); err != nil {
			return fmt.Errorf("%s: %w", cmd.Verb, err)
		}
	}
	return nil
}

// ask sends a command and reads its one reply, which must be of class.
func (c *client) ask(ctx context.Context, class int, verb, arg string) (ftp.Reply, error) {
	if err := c.send(ctx, verb, arg); err != nil {
		return ftp.Reply{}, err
	}
	r, err := c.reply(ctx)
	if err != nil {
		return r, fmt.Errorf("%s: %w", verb, err)
	}
	return r, wantClass(verb, r, class)
}

// login logs in and asks for bytes as they are.
func (c *client) login(ctx context.Context, user, password string) error {
	if _, err := c.ask(ctx, 3, "USER", user); err != nil {
		return err
	}
	if _, err := c.ask(ctx, 2, "PASS", password); err != nil {
		return err
	}
	_, err := c.ask(ctx, 2, "TYPE", "I")
	return err
}

// quit says goodbye.
func (c *client) quit(ctx context.Context) error {
	_, err := c.ask(ctx, 2, "QUIT", "")
	return err
}

// dataError is a data connection that did not come about, while the control connection is well.
type dataError struct{ err error }

func (e *dataError) Error() string { return "data connection: " + e.err.Error() }
func (e *dataError) Unwrap() error { return e.err }

// data is a data connection that has been negotiated.
type data struct {
	conn     net.Conn     // passive: there before the transfer is asked for
	listener net.Listener // active: the connection comes with the transfer
}

// negotiate makes ready for one transfer. The error is a *dataError where the client cannot
// connect to where it was told to.
func (c *client) negotiate(ctx context.Context, m mode) (*data, error) {
	if m.active() {
		return c.listen(ctx, m)
	}
	to, err := c.passive(ctx, m)
	if err != nil {
		return nil, err
	}
	c.watch.Note("Connecting data socket to " + to.String())
	conn, err := c.host.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, &dataError{err}
	}
	return &data{conn: conn}, nil
}

// passive asks the server for a place to connect to.
func (c *client) passive(ctx context.Context, m mode) (netip.AddrPort, error) {
	r, err := c.ask(ctx, 2, string(m), "")
	if err != nil {
		return netip.AddrPort{}, err
	}
	return c.place(m, r)
}

// place is where a 227 or a 229 says that data connections are taken.
func (c *client) place(m mode, r ftp.Reply) (netip.AddrPort, error) {
	if m == epsv { // the address is the control connection's (RFC 2428 section 3)
		p, err := ftp.Parse229([]byte(r.Last()))
		return netip.AddrPortFrom(c.peer.Addr(), p), err
	}
	to, err := ftp.Parse227([]byte(r.Last()))
	if err != nil {
		return netip.AddrPort{}, err
	}
	if c.repair && to.Addr() != c.peer.Addr() {
		c.watch.Note("Address returned by PASV is not the server's and is repaired")
		to = netip.AddrPortFrom(c.peer.Addr(), to.Port())
	}
	return to, nil
}

// listen makes a place for the server to connect to, and names it.
func (c *client) listen(ctx context.Context, m mode) (*data, error) {
	local, err := netip.ParseAddrPort(c.control.LocalAddr().String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	l, err := c.host.Listen("tcp", netip.AddrPortFrom(local.Addr(), 0).String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err == nil {
		c.watch.Note("Waiting for a data connection at " + at.String())
		named := ftp.AppendHostPort
		if m == eprt {
			named = ftp.AppendEPRT
		}
		_, err = c.ask(ctx, 2, string(m), string(named(nil, at)))
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &data{listener: l}, nil
}

// connect returns the data connection, which ends with ctx. It must come from the address of
// the control connection's other end.
func (c *client) connect(ctx context.Context, d *data) (net.Conn, error) {
	if d.listener != nil {
		release := bind(ctx, d.listener)
		conn, err := d.listener.Accept()
		release()
		if err != nil {
			return nil, &dataError{because(ctx, err)}
		}
		d.conn = conn
		c.watch.Note("Data connection from " + conn.RemoteAddr().String())
		if from, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err != nil || from.Addr() != c.peer.Addr() {
			return nil, &dataError{fmt.Errorf("it came from %s; want %s", conn.RemoteAddr(), c.peer.Addr())}
		}
	}
	bind(ctx, d.conn)
	return d.conn, nil
}

// close ends what is left of a data connection; the second time does no harm.
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
func (c *client) transfer(ctx context.Context, m mode, verb, arg string, move func(net.Conn) error) (time.Duration, error) {
	d, err := c.negotiate(ctx, m)
	if err != nil {
		return 0, err
	}
	return c.carry(ctx, d, verb, arg, move)
}

// carry is transfer behind the negotiation; it closes d.
func (c *client) carry(ctx context.Context, d *data, verb, arg string, move func(net.Conn) error) (time.Duration, error) {
	defer d.close()
	begin := time.Now()
	if _, err := c.ask(ctx, 1, verb, arg); err != nil {
		return 0, err
	}
	conn, err := c.connect(ctx, d)
	if err != nil {
		return 0, err
	}
	if err := move(conn); err != nil {
		return 0, fmt.Errorf("%s: %w", verb, because(ctx, err))
	}
	took := time.Since(begin)
	d.close() // its end is the end of what is stored (RFC 959 section 3.4.1)
	return took, c.expect(ctx, verb, 2)
}

// maxListing bounds a listing, in bytes.
const maxListing = 1 << 20

// list returns the listing of the directory.
func (c *client) list(ctx context.Context, m mode) ([]byte, error) {
	d, err := c.negotiate(ctx, m)
	if err != nil {
		return nil, err
	}
	return c.listOver(ctx, d)
}

// listOver is list behind the negotiation; it closes d.
func (c *client) listOver(ctx context.Context, d *data) (listing []byte, err error) {
	_, err = c.carry(ctx, d, "LIST", "", func(conn net.Conn) (err error) {
		listing, err = io.ReadAll(io.LimitReader(conn, maxListing))
		return err
	})
	return listing, err
}

// retrieve reads a file into buf, which it must fill exactly.
func (c *client) retrieve(ctx context.Context, m mode, name string, buf []byte) (time.Duration, error) {
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

// store sends a file.
func (c *client) store(ctx context.Context, m mode, name string, content []byte) (time.Duration, error) {
	return c.transfer(ctx, m, "STOR", name, func(conn net.Conn) error {
		_, err := conn.Write(content)
		return err
	})
}
