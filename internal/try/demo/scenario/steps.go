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
	"ftpgate/internal/try/demo/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/sessionlog"
)

// session is one session of a client, and the row of the table that it fills.
type session struct {
	*ftpclient.Client
	transcript *sessionlog.Transcript
	row        *row
}

// step is something that the client does in a session. Its error ends the session.
type step func(context.Context, *session) error

// list asks for the listing, which must have the server's file in it.
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
			return fmt.Errorf("listing: %s is not in it", downloadName)
		}
		c.row.listing = okCell
		return nil
	}
}

// listFails must fail, since the 227 names an address that the client has no way to.
func (s *scenario) listFails(ctx context.Context, c *session) error {
	c.row.listing = failedCell
	_, err := c.List(ctx, ftpclient.PASV)
	var data *ftpclient.DataError
	switch {
	case err == nil:
		c.row.listing = okCell
		return errors.New("listing: the client got it, and should not have got it without tracking")
	case !errors.As(err, &data) || !errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("listing: %w; want: %w", err, syscall.ENETUNREACH)
	}
	c.transcript.Note("Data connection failed: " + syscall.ENETUNREACH.Error())
	if server := netip.MustParseAddrPort(s.setup.server).Addr(); c.transcript.Client227.Addr() != server {
		return fmt.Errorf("listing: the 227 names %s; want the server's own address %s", c.transcript.Client227.Addr(), server)
	}
	c.row.listing = "failed, as told"
	return nil
}

// checkRewritten looks at what became of the address on its way: the client was told the gateway's
// in place of the server's, or the server the gateway's in place of the client's.
func (s *scenario) checkRewritten(m ftpclient.Mode) step {
	return func(_ context.Context, c *session) error {
		switch m {
		case ftpclient.PASV:
			gateway, server := netip.MustParseAddrPort(s.setup.gateway).Addr(), netip.MustParseAddrPort(s.setup.server).Addr()
			if c.transcript.Client227.Addr() != gateway || c.transcript.Server227.Addr() != server {
				return fmt.Errorf("227: the server said %s and the client was told %s; want %s and %s",
					c.transcript.Server227.Addr(), c.transcript.Client227.Addr(), server, gateway)
			}
		case ftpclient.PORT:
			heard, err := ftp.ParseHostPort([]byte(c.transcript.ServerPORT))
			if err != nil || c.transcript.ServerPORT == c.transcript.ClientPORT {
				return fmt.Errorf("PORT %s: the server received %q; want the gateway's address", c.transcript.ClientPORT, c.transcript.ServerPORT)
			}
			c.transcript.Note("The server has connected to " + heard.String() + ", the gateway")
		}
		return nil
	}
}

// download gets the big file, measures, and compares.
func (s *scenario) download(m ftpclient.Mode) step {
	return func(ctx context.Context, c *session) error {
		c.row.download = failedCell
		buf := make([]byte, len(s.setup.download))
		took, err := c.Retrieve(ctx, m, downloadName, buf)
		if err != nil {
			return fmt.Errorf("download: %w", err)
		}
		got, want := sha256.Sum256(buf), sha256.Sum256(s.setup.download)
		if got != want {
			return fmt.Errorf("download: SHA-256 is %x; want %x", got, want)
		}
		rate := float64(len(buf)) / (1 << 20) / took.Seconds()
		c.transcript.Note(fmt.Sprintf("%d bytes in %.3f s, %.0f MiB/s; SHA-256 %x... is right", len(buf), took.Seconds(), rate, got[:4]))
		c.row.download, c.row.rate = fmt.Sprintf("ok, %.0f MiB/s", rate), rate
		return nil
	}
}

// upload sends a file, reads it back on the server's own host, where there is no gateway in
// between, and compares the two byte by byte.
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
			return errors.New("upload: the server has other bytes than were sent")
		}
		c.transcript.Note(fmt.Sprintf("%d bytes, and the server has them byte for byte", len(stored)))
		c.row.upload = okCell
		return nil
	}
}

// uploadName is another one in each session, so that none finds the file of an earlier one.
func uploadName(r row) string {
	notInNames := func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }
	return "upload-" + strings.Join(strings.FieldsFunc(strings.ToLower(r.tracking+" "+r.mode), notInNames), "-") + ".bin"
}

// readBack gets an uploaded file on the server's host. A witness of the session that has sent it hears
// of this one, too.
func (s *scenario) readBack(ctx context.Context, name string, w *sessionlog.ServerLog) ([]byte, error) {
	c, err := s.connect(ctx, s.testbed.ServerHost(), s.setup.server, ftpserver.User, w)
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

// connect connects from h and logs in, and shows nothing of it; the caller closes the client.
func (s *scenario) connect(ctx context.Context, h Host, at, user string, w *sessionlog.ServerLog) (*ftpclient.Client, error) {
	c := &ftpclient.Client{Host: h, Watch: &sessionlog.Transcript{ServerLog: w, Quiet: true}}
	if err := c.Open(ctx, at); err != nil {
		return nil, err
	}
	var err error
	if s.tlsRequired {
		err = c.Encrypt(ctx, s.setup.ca.Client(hostOf(at)))
	}
	if err == nil {
		err = c.Login(ctx, user, ftpserver.Password)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
