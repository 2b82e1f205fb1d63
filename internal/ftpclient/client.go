// Package ftpclient is the FTP client of ftpgate's own tools: the demo, doctor's check of a server, the
// benchmark.
//
// It has three layers. Control is a control connection: commands out, replies in, TLS. Data is a data
// connection of any mode. A caller that must see everything a server does uses these two and evaluates it
// itself, as servercheck does. Client is a whole client over them. It is strict: it follows the RFCs and the
// server, stops at the first unexpected reply, accepts data connections only from the server's address, and
// repairs nothing unless asked to.
package ftpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"ftpgate/internal/core/ftp"
)

// Host is where a client runs: this machine, or a host of the lab.
type Host interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
}

// Observer sees what a client sends and receives. Its errors end the client's work.
type Observer interface {
	Sent(context.Context, ftp.Command) error
	Received(context.Context, ftp.Reply) error
	Note(text string)
}

// Client is an FTP client of one session. Host and Watch must be set before Open.
type Client struct {
	Host   Host
	Watch  Observer
	Repair bool // dial the server's address in place of the one that a 227 names, as lftp does

	control    *Control
	release    func() bool // of the control connection from ctx
	dataTLS    *tls.Config // nil: data in clear
	handshakes []tls.ConnectionState
}

// Open connects to address and waits for the greeting. When ctx is done, the session ends; Close ends it
// before.
func (c *Client) Open(ctx context.Context, address string) error {
	conn, err := c.Host.Dial(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("control connection: %w", err)
	}
	// interrupts reads and writes; a second Close is harmless
	c.release = context.AfterFunc(ctx, func() { _ = conn.Close() })
	c.control = NewControl(conn, Options{})
	return c.Expect(ctx, "greeting", 2)
}

// Close ends the control connection.
func (c *Client) Close() error {
	c.release()
	return c.control.Close()
}

// Peer returns the server's address, as this end of the control connection sees it.
func (c *Client) Peer() netip.AddrPort { return c.control.Peer() }

// Handshakes returns the TLS of the control connection, and then of each data connection.
func (c *Client) Handshakes() []tls.ConnectionState { return slices.Clone(c.handshakes) }

func (c *Client) receive(ctx context.Context) (ftp.Reply, error) {
	r, err := c.control.Receive()
	if err != nil {
		return r, Because(ctx, err)
	}
	return r, c.Watch.Received(ctx, r)
}

// Because returns why ctx was done, which explains an error better than the connection that was closed
// because of it. It returns err while ctx is not done.
func Because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("broken off: %w", context.Cause(ctx))
	}
	return err
}

// Expect reads a reply, whose code must begin with class (RFC 959 section 4.2.1). what names it in the error.
func (c *Client) Expect(ctx context.Context, what string, class int) error {
	r, err := c.receive(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return checkClass(what, r, class)
}

func checkClass(what string, r ftp.Reply, class int) error {
	if r.Code/100 != class {
		return fmt.Errorf("%s: the answer is %d %q; want %dyz", what, r.Code, r.Text(), class)
	}
	return nil
}

// sendTogether sends commands in one piece, as clients do that do not wait for replies.
func (c *Client) sendTogether(ctx context.Context, commands ...ftp.Command) error {
	if err := c.control.Send(commands...); err != nil {
		return fmt.Errorf("%s: %w", commands[0].Verb, Because(ctx, err))
	}
	for _, command := range commands {
		if err := c.Watch.Sent(ctx, command); err != nil {
			return fmt.Errorf("%s: %w", command.Verb, err)
		}
	}
	return nil
}

// Ask sends a command, whose arg may be empty, and reads its one reply, which must be of class.
func (c *Client) Ask(ctx context.Context, class int, verb, arg string) (ftp.Reply, error) {
	if err := c.sendTogether(ctx, Command(verb, arg)); err != nil {
		return ftp.Reply{}, err
	}
	r, err := c.receive(ctx)
	if err != nil {
		return r, fmt.Errorf("%s: %w", verb, err)
	}
	return r, checkClass(verb, r, class)
}

// AskPASV sends PASV, together with a TYPE before it if together is set, and waits for the 227. The error
// wraps os.ErrDeadlineExceeded if no answer arrives within patience.
func (c *Client) AskPASV(ctx context.Context, together bool, patience time.Duration) (ftp.Reply, error) {
	commands := []ftp.Command{Command("PASV", "")}
	if together {
		commands = append([]ftp.Command{Command("TYPE", "I")}, commands...)
	}
	if err := c.sendTogether(ctx, commands...); err != nil {
		return ftp.Reply{}, err
	}
	if err := c.control.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return ftp.Reply{}, err
	}
	if together {
		if err := c.Expect(ctx, "TYPE", 2); err != nil {
			return ftp.Reply{}, err
		}
	}
	r, err := c.receive(ctx)
	if err != nil {
		return r, err
	}
	return r, errors.Join(checkClass("PASV", r, 2), c.control.SetReadDeadline(time.Time{}))
}

// Encrypt begins TLS on the control connection, and makes every data connection use it (RFC 4217): AUTH TLS,
// PBSZ 0, PROT P. Call it before Login. config serves this client only; with a ClientSessionCache its data
// connections resume the control connection's session.
func (c *Client) Encrypt(ctx context.Context, config *tls.Config) error {
	if _, err := c.Ask(ctx, 2, "AUTH", "TLS"); err != nil {
		return err
	}
	state, err := c.control.StartTLS(ctx, config)
	if err != nil {
		return fmt.Errorf("AUTH: %w", Because(ctx, err))
	}
	c.noteTLS(state)
	c.dataTLS = config
	if _, err := c.Ask(ctx, 2, "PBSZ", "0"); err != nil {
		return err
	}
	_, err = c.Ask(ctx, 2, "PROT", "P")
	return err
}

// noteTLS reports a handshake to the observer.
func (c *Client) noteTLS(state tls.ConnectionState) {
	c.handshakes = append(c.handshakes, state)
	what := fmt.Sprintf("certificate of %q, verified", state.PeerCertificates[0].Subject.CommonName)
	if state.DidResume {
		what = "the control connection's session resumed"
	}
	c.Watch.Note(tls.VersionName(state.Version) + ": " + what)
}

// Login logs in and sets TYPE I.
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

// ListOver is List over a passive data connection that the caller has opened. It closes conn.
func (c *Client) ListOver(ctx context.Context, conn net.Conn) ([]byte, error) {
	return c.listOver(ctx, NewPassive(conn))
}

func (c *Client) listOver(ctx context.Context, d *Data) (listing []byte, err error) {
	_, err = c.transfer(ctx, d, "LIST", "", func() (err error) {
		listing, err = io.ReadAll(io.LimitReader(d, maxListing))
		return err
	})
	return listing, err
}

// Retrieve reads a file into buf, which it must fill exactly. It returns the time from RETR to the last byte.
func (c *Client) Retrieve(ctx context.Context, m Mode, name string, buf []byte) (time.Duration, error) {
	d, err := c.negotiate(ctx, m)
	if err != nil {
		return 0, err
	}
	return c.transfer(ctx, d, "RETR", name, func() error {
		if n, err := io.ReadFull(d, buf); err != nil {
			return fmt.Errorf("%d of %d bytes: %w", n, len(buf), err)
		}
		n, err := d.Read(make([]byte, 1))
		switch {
		case n > 0:
			return fmt.Errorf("more than %d bytes", len(buf))
		case err != io.EOF:
			return fmt.Errorf("after %d bytes: %w", len(buf), err)
		}
		return nil
	})
}

// Store sends a file. It returns the time from STOR to the last byte.
func (c *Client) Store(ctx context.Context, m Mode, name string, content []byte) (time.Duration, error) {
	d, err := c.negotiate(ctx, m)
	if err != nil {
		return 0, err
	}
	return c.transfer(ctx, d, "STOR", name, func() error {
		_, err := d.Write(content)
		return err
	})
}
