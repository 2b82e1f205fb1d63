package scenario

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"unicode"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/sessionlog"
)

// session is a session of a client, and its row of the table.
type session struct {
	*ftpclient.Client
	transcript *sessionlog.Transcript
	row        *row
}

// step is an action of the client in a session. An error ends the session.
type step func(context.Context, *session) error

// list gets the listing. It must contain the server's file.
func (s *scenario) list(m ftpclient.Mode) step {
	return func(ctx context.Context, c *session) error {
		c.row.listing = failedCell
		text, err := c.List(ctx, m)
		if err != nil {
			return fmt.Errorf("listing: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			c.transcript.Printf("     %s\n", sessionlog.Printable(strings.TrimRight(line, "\r\n")))
		}
		if !strings.Contains(string(text), downloadName) {
			return fmt.Errorf("listing: it does not contain %s", downloadName)
		}
		c.row.listing = okCell
		return nil
	}
}

// listFails asks for the listing, which must fail: the client has no route to the address in the 227.
func (s *scenario) listFails(ctx context.Context, c *session) error {
	c.row.listing = failedCell
	_, err := c.List(ctx, ftpclient.PASV)
	switch {
	case err == nil:
		c.row.listing = okCell
		return errors.New("listing: it succeeded without tracking; want it to fail")
	case !errors.Is(err, ftpclient.ErrData) || !errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("listing: %w; want: %w", err, syscall.ENETUNREACH)
	}
	c.transcript.Note("Data connection failed: " + syscall.ENETUNREACH.Error())
	got, server := c.transcript.Client227.Addr(), netip.MustParseAddrPort(s.setup.server).Addr()
	if got != server {
		return fmt.Errorf("listing: the 227 names %s; want the server's own address %s", got, server)
	}
	c.row.listing = "failed, expected"
	return nil
}

// checkRewritten checks that the gateway replaced the server's address in the 227, or the client's address in
// the PORT command, by its own.
func (s *scenario) checkRewritten(m ftpclient.Mode) step {
	return func(_ context.Context, c *session) error {
		switch m {
		case ftpclient.PASV:
			gateway := netip.MustParseAddrPort(s.setup.gateway).Addr()
			server := netip.MustParseAddrPort(s.setup.server).Addr()
			sent, received := c.transcript.Server227.Addr(), c.transcript.Client227.Addr()
			if received != gateway || sent != server {
				return fmt.Errorf("227: the server sent %s and the client received %s; want %s and %s",
					sent, received, server, gateway)
			}
		case ftpclient.PORT:
			sent, received := c.transcript.ClientPORT, c.transcript.ServerPORT
			address, err := ftp.ParseHostPort([]byte(received))
			if err != nil || received == sent {
				return fmt.Errorf("PORT %s: the server received %q; want the gateway's address", sent,
					received)
			}
			c.transcript.Note("The server connected to " + address.String() + ", the gateway")
		}
		return nil
	}
}

// download gets a file and compares its contents.
func (s *scenario) download(m ftpclient.Mode) step {
	return func(ctx context.Context, c *session) error {
		c.row.download = failedCell
		buf := make([]byte, len(s.setup.download))
		if _, err := c.Retrieve(ctx, m, downloadName, buf); err != nil {
			return fmt.Errorf("download: %w", err)
		}
		got, want := sha256.Sum256(buf), sha256.Sum256(s.setup.download)
		if got != want {
			return fmt.Errorf("download: SHA-256 is %x; want %x", got, want)
		}
		c.transcript.Note(fmt.Sprintf("%d bytes; SHA-256 %x... is right", len(buf), got[:4]))
		c.row.download = okCell
		return nil
	}
}

// upload sends a file, reads it back on the server's own host, without a gateway in between, and compares the
// two byte by byte.
func (s *scenario) upload(m ftpclient.Mode) step {
	return func(ctx context.Context, c *session) error {
		c.row.upload = failedCell
		name := uploadName(*c.row)
		if _, err := c.Store(ctx, m, name, s.setup.upload); err != nil {
			return fmt.Errorf("upload: %w", err)
		}
		stored, err := s.readBack(ctx, name, c.transcript.ServerLog)
		if err != nil {
			return fmt.Errorf("upload: read back at the server: %w", err)
		}
		if !bytes.Equal(stored, s.setup.upload) {
			return errors.New("upload: the file at the server differs from the one sent")
		}
		c.transcript.Note(fmt.Sprintf("%d bytes, and the server has them byte for byte", len(stored)))
		c.row.upload = okCell
		return nil
	}
}

// uploadName differs between sessions, so that no session finds the file of an earlier one.
func uploadName(r row) string {
	notInNames := func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }
	return "upload-" + strings.Join(strings.FieldsFunc(strings.ToLower(r.tracking+" "+r.mode), notInNames),
		"-") + ".bin"
}

// readBack gets an uploaded file on the server's host. It also reads the events of its own session from log,
// if that is not nil.
func (s *scenario) readBack(ctx context.Context, name string, log *sessionlog.ServerLog) ([]byte, error) {
	c, err := s.connect(ctx, s.testbed.ServerHost(), s.setup.server, ftpserver.User, log)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	buf := make([]byte, len(s.setup.upload))
	if _, err := c.Retrieve(ctx, ftpclient.PASV, name, buf); err != nil {
		return nil, err
	}
	return buf, c.Quit(ctx)
}

// connect connects from h and logs in, without printing the dialogue. The caller closes the client.
func (s *scenario) connect(
	ctx context.Context, h Host, address, user string, log *sessionlog.ServerLog,
) (*ftpclient.Client, error) {
	c := &ftpclient.Client{Host: h, Watch: &sessionlog.Transcript{ServerLog: log, Quiet: true}}
	if err := c.Open(ctx, address); err != nil {
		return nil, err
	}
	var err error
	if s.tlsRequired {
		err = c.Encrypt(ctx, s.setup.ca.Client(hostOf(address)))
	}
	if err == nil {
		err = c.Login(ctx, user, ftpserver.Password)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
