package ftpclient

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ftpgate/internal/core/ftp"
)

// ErrData says that a data connection failed, while the control connection works.
var ErrData = errors.New("data connection")

// negotiate prepares the data connection of one transfer. The error is ErrData if the client cannot connect
// to the server's address.
func (c *Client) negotiate(ctx context.Context, m Mode) (*Data, error) {
	if m.Active() {
		return c.listen(ctx, m)
	}
	r, err := c.Ask(ctx, 2, string(m), "")
	if err != nil {
		return nil, err
	}
	to, err := c.Place(m, r)
	if err != nil {
		return nil, err
	}
	c.Watch.Note("Connecting data socket to " + to.String())
	conn, err := c.Host.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return NewPassive(conn), nil
}

// Place returns the address of a 227 or a 229 to connect to.
func (c *Client) Place(m Mode, r ftp.Reply) (netip.AddrPort, error) {
	server := c.Peer().Addr()
	to, err := m.Place(r.Last(), server)
	if err == nil && c.Repair && to.Addr() != server {
		c.Watch.Note("Address returned by PASV is not the server's and is repaired")
		to = netip.AddrPortFrom(server, to.Port())
	}
	return to, err
}

// listen listens for the server's connection, and sends PORT or EPRT.
func (c *Client) listen(ctx context.Context, m Mode) (*Data, error) {
	l, err := c.Host.Listen("tcp", netip.AddrPortFrom(c.control.Local().Addr(), 0).String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	at := addrOf(l.Addr())
	c.Watch.Note("Waiting for a data connection at " + at.String())
	if _, err := c.Ask(ctx, 2, string(m), m.Argument(at)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return NewActive(l, c.Peer().Addr()), nil
}

// connect completes the data connection: the server's in active mode, and TLS if that was negotiated.
func (c *Client) connect(ctx context.Context, d *Data) error {
	if d.listener != nil {
		from, err := d.Accept(func(from netip.AddrPort) error {
			return fmt.Errorf("it came from %s; want %s", from, d.server)
		})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrData, Because(ctx, err))
		}
		c.Watch.Note("Data connection from " + from.String())
	}
	if c.dataTLS == nil {
		return nil
	}
	state, err := d.StartTLS(ctx, c.dataTLS)
	if err != nil {
		return fmt.Errorf("%w: TLS: %w", ErrData, Because(ctx, err))
	}
	c.noteTLS(state)
	return nil
}

// transfer asks for a transfer over d, moves the bytes by calling move, and waits for the last reply. It
// closes d, also when ctx is done, and returns the time from asking to the last byte.
func (c *Client) transfer(ctx context.Context, d *Data, verb, arg string, move func() error) (time.Duration,
	error) {
	defer d.Close()
	release := context.AfterFunc(ctx, d.Close)
	defer release()
	begin := time.Now()
	if _, err := c.Ask(ctx, 1, verb, arg); err != nil {
		return 0, err
	}
	if err := c.connect(ctx, d); err != nil {
		return 0, err
	}
	if err := move(); err != nil {
		return 0, fmt.Errorf("%s: %w", verb, Because(ctx, err))
	}
	took := time.Since(begin)
	d.Finish()
	return took, c.Expect(ctx, verb, 2)
}
