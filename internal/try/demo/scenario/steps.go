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
	"ftpgate/internal/try/demo/transcript"
)

// performance is one session of a client, and the row of the table that it fills.
type performance struct {
	*ftpclient.Client
	script *transcript.Transcript
	row    *row
}

// step is something that the client does in a session. Its error ends the session.
type step func(context.Context, *performance) error

// listing asks for the listing, which must have the server's file in it.
func (s *story) listing(m ftpclient.Mode) step {
	return func(ctx context.Context, p *performance) error {
		p.row.listing = failedCell
		text, err := p.List(ctx, m)
		if err != nil {
			return fmt.Errorf("listing: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			p.script.Printf("     %s\n", transcript.Printable(strings.TrimRight(line, "\r\n")))
		}
		if !strings.Contains(string(text), downloadName) {
			return fmt.Errorf("listing: %s is not in it", downloadName)
		}
		p.row.listing = okCell
		return nil
	}
}

// strictListing must fail, since the 227 names an address that the client has no way to.
func (s *story) strictListing(ctx context.Context, p *performance) error {
	p.row.listing = failedCell
	_, err := p.List(ctx, ftpclient.PASV)
	var data *ftpclient.DataError
	switch {
	case err == nil:
		p.row.listing = okCell
		return errors.New("listing: the client got it, and should not have got it without tracking")
	case !errors.As(err, &data) || !errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("listing: %w; want: %w", err, syscall.ENETUNREACH)
	}
	p.script.Note("Data connection failed: " + syscall.ENETUNREACH.Error())
	if server := netip.MustParseAddrPort(s.cast.server).Addr(); p.script.Told.Addr() != server {
		return fmt.Errorf("listing: the 227 names %s; want the server's own address %s", p.script.Told.Addr(), server)
	}
	p.row.listing = "failed, as told"
	return nil
}

// rewritten looks at what became of the address on its way: the client was told the gateway's
// in place of the server's, or the server the gateway's in place of the client's.
func (s *story) rewritten(m ftpclient.Mode) step {
	return func(_ context.Context, p *performance) error {
		switch m {
		case ftpclient.PASV:
			gateway, server := netip.MustParseAddrPort(s.cast.listen).Addr(), netip.MustParseAddrPort(s.cast.server).Addr()
			if p.script.Told.Addr() != gateway || p.script.Announced.Addr() != server {
				return fmt.Errorf("227: the server said %s and the client was told %s; want %s and %s",
					p.script.Announced.Addr(), p.script.Told.Addr(), server, gateway)
			}
		case ftpclient.PORT:
			heard, err := ftp.ParseHostPort([]byte(p.script.Heard))
			if err != nil || p.script.Heard == p.script.Named {
				return fmt.Errorf("PORT %s: the server received %q; want the gateway's address", p.script.Named, p.script.Heard)
			}
			p.script.Note("The server has connected to " + heard.String() + ", the gateway")
		}
		return nil
	}
}

// downloading gets the big file, measures, and compares.
func (s *story) downloading(m ftpclient.Mode) step {
	return func(ctx context.Context, p *performance) error {
		p.row.download = failedCell
		buf := make([]byte, len(s.cast.download))
		took, err := p.Retrieve(ctx, m, downloadName, buf)
		if err != nil {
			return fmt.Errorf("download: %w", err)
		}
		got, want := sha256.Sum256(buf), sha256.Sum256(s.cast.download)
		if got != want {
			return fmt.Errorf("download: SHA-256 is %x; want %x", got, want)
		}
		rate := float64(len(buf)) / (1 << 20) / took.Seconds()
		p.script.Note(fmt.Sprintf("%d bytes in %.3f s, %.0f MiB/s; SHA-256 %x... is right", len(buf), took.Seconds(), rate, got[:4]))
		p.row.download, p.row.rate = fmt.Sprintf("ok, %.0f MiB/s", rate), rate
		return nil
	}
}

// uploading sends a file, reads it back on the server's own host, where there is no gateway in
// between, and compares the two byte by byte.
func (s *story) uploading(m ftpclient.Mode) step {
	return func(ctx context.Context, p *performance) error {
		p.row.upload = failedCell
		name := uploadName(*p.row)
		if _, err := p.Store(ctx, m, name, s.cast.upload); err != nil {
			return fmt.Errorf("upload: %w", err)
		}
		stored, err := s.readBack(ctx, name, p.script.Witness)
		if err != nil {
			return fmt.Errorf("upload: read back at the server: %w", err)
		}
		if !bytes.Equal(stored, s.cast.upload) {
			return errors.New("upload: the server has other bytes than were sent")
		}
		p.script.Note(fmt.Sprintf("%d bytes, and the server has them byte for byte", len(stored)))
		p.row.upload = okCell
		return nil
	}
}

// uploadName is another one in each session, so that none finds the file of an earlier one.
func uploadName(r row) string {
	notInNames := func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }
	return "upload-" + strings.Join(strings.FieldsFunc(strings.ToLower(r.way+" "+r.how), notInNames), "-") + ".bin"
}

// readBack gets an uploaded file on the server's host. A witness of the session that has sent it hears
// of this one, too.
func (s *story) readBack(ctx context.Context, name string, w *transcript.Witness) ([]byte, error) {
	c, err := s.enter(ctx, s.stage.ServerHost(), s.cast.server, ftpserver.User, w)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	buf := make([]byte, len(s.cast.upload))
	if _, err := c.Retrieve(ctx, ftpclient.PASV, name, buf); err != nil {
		return nil, err
	}
	return buf, c.Quit(ctx)
}

// enter connects from h and logs in, and shows nothing of it; the caller closes the client.
func (s *story) enter(ctx context.Context, h Host, at, user string, w *transcript.Witness) (*ftpclient.Client, error) {
	c := &ftpclient.Client{Host: h, Watch: &transcript.Transcript{Witness: w, Quiet: true}}
	if err := c.Open(ctx, at); err != nil {
		return nil, err
	}
	var err error
	if s.private {
		err = c.Encrypt(ctx, s.cast.authority.Client(addressOf(at)))
	}
	if err == nil {
		err = c.Login(ctx, user, ftpserver.Password)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
