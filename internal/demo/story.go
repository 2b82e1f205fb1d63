package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"ftpgate/internal/ftp"
)

// sessionLimit ends a session that hangs, as one does whose line the kernel's helper has
// dropped.
const sessionLimit = 20 * time.Second

// stage is where the story plays: the lab, or a loopback in a test.
type stage interface {
	clientHost() host
	serverHost() host
	// startServer starts the FTP server, and returns its side of every dialogue.
	startServer(ctx context.Context, address string) (*witness, error)
	// startGateway starts a gateway with the arguments of `ftpgate forward`.
	startGateway(ctx context.Context, args []string) (stop func() error, err error)
}

// cast is who plays: where, and with what.
type cast struct {
	listen, server   string // the gateway's and the server's ADDR:PORT
	download, upload []byte // the server's file, and the client's
}

// act is a part of the story with a gateway of its own.
type act struct {
	title  string
	text   string
	flags  []string // of `ftpgate forward`
	play   func(*story, context.Context) error
	remedy string // where the gateway cannot start
}

// acts are the parts of the story, in their order.
func acts() []act {
	return []act{
		{
			title: "Act 1: without tracking",
			text: `The gateway translates addresses and ports, one to one, and reads nothing.
What the server says of itself reaches the client as it is.`,
			flags:  []string{"--tracking", "none", "--server-ports", passivePorts},
			play:   (*story).withoutTracking,
			remedy: "It needs nftables in the kernel; as root:\n  modprobe -a nf_tables nft_chain_nat nft_nat nft_masq",
		},
		{
			title: "Act 2: with kernel tracking",
			text: `The kernel's ftp helper reads the dialogue, lets each data connection through
and puts the gateway's address where the server's would not do.`,
			flags:  []string{"--tracking", "kernel"},
			play:   (*story).withKernelTracking,
			remedy: "It needs the ftp helper in the kernel; as root:\n  modprobe -a nf_conntrack_ftp nf_nat_ftp",
		},
	}
}

// story is what is told, and what has become of it.
type story struct {
	out     io.Writer
	stage   stage
	cast    cast
	witness *witness
	table   []row
}

// tell plays the acts one after the other. The error names every step that went differently.
func tell(ctx context.Context, out io.Writer, st stage, c cast) error {
	begin := time.Now()
	s := &story{out: out, stage: st, cast: c}
	fmt.Fprint(out, prologue)
	var err error
	if s.witness, err = st.startServer(ctx, c.server); err != nil {
		return fmt.Errorf("demo: %w", because(ctx, err))
	}
	var faults []error
	for _, a := range acts() {
		if err := s.perform(ctx, a); err != nil {
			faults = append(faults, fmt.Errorf("demo: %s: %w", a.title, err))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("demo: %w", because(ctx, err))
		}
	}
	s.printTable()
	if len(faults) > 0 {
		fmt.Fprint(out, "\nThe story went differently from what it should be.\n")
		return errors.Join(faults...)
	}
	fmt.Fprintf(out, "\nAll went as the story has it, in %.1f s. Nothing of it is left behind.\n", time.Since(begin).Seconds())
	return nil
}

const prologue = `
  client               gateway                server
  192.168.5.1 -------- 192.168.5.2
                       203.0.113.1 ---------- 203.0.113.21

Three hosts in network namespaces. The client knows the gateway only, and the
server has no way back to the client.
`

// perform starts the act's gateway, plays the act, and stops the gateway.
func (s *story) perform(ctx context.Context, a act) error {
	args := append(append([]string{}, a.flags...), s.cast.listen, s.cast.server)
	fmt.Fprintf(s.out, "\n%s\n%s\n%s\n\n", a.title, strings.Repeat("=", len(a.title)), a.text)
	fmt.Fprintf(s.out, "gateway# %s\n", wrap("ftpgate forward "+strings.Join(args, " ")))
	stop, err := s.stage.startGateway(ctx, args)
	if err != nil {
		fmt.Fprintf(s.out, "\nThis act cannot be played here: the gateway says why below.\n%s\n", a.remedy)
		return err
	}
	return errors.Join(a.play(s, ctx), stop())
}

// withoutTracking is act 1: a strict client fails, and one that repairs what it is told does not.
func (s *story) withoutTracking(ctx context.Context) error {
	s.scene("A client that believes the 227, as most do")
	strict := s.session(ctx, "none", "PASV", &client{}, s.strictListing)
	if ctx.Err() != nil {
		return strict
	}
	s.scene("A client that repairs the address, as lftp does")
	repairing := s.session(ctx, "none", "PASV, client repairs it", &client{repair: true}, s.listing(pasv))
	return errors.Join(strict, repairing)
}

// withKernelTracking is act 2: everything, in each mode, with the client that believes.
func (s *story) withKernelTracking(ctx context.Context) error {
	var errs []error
	for _, m := range []mode{pasv, epsv, port} {
		s.scene(m.scene())
		errs = append(errs, s.session(ctx, "kernel", string(m), &client{}, s.listing(m), s.rewritten(m), s.downloading(m), s.uploading(m)))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// scene says what is particular about a mode.
func (m mode) scene() string {
	switch m {
	case epsv:
		return "EPSV: the 229 has a port and no address, and needs no rewriting"
	case port:
		return "PORT: the server connects to where the client says"
	}
	return "PASV: the client connects to where the 227 says"
}

func (s *story) scene(title string) { fmt.Fprintf(s.out, "\n-- %s --\n", title) }

// performance is one session of a client, and the row of the table that it fills.
type performance struct {
	*client
	script *transcript
	row    *row
}

// step is something that the client does in a session. Its error ends the session.
type step func(context.Context, *performance) error

// session connects, logs in, does the steps and quits.
func (s *story) session(ctx context.Context, tracking, how string, c *client, steps ...step) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sessionLimit, fmt.Errorf("the session has not ended within %s", sessionLimit))
	defer cancel()
	r := &row{tracking: tracking, how: how}
	defer func() {
		s.table = append(s.table, *r)
		if err != nil {
			err = fmt.Errorf("%s: %w", how, err)
			fmt.Fprintf(s.out, "!!!! %s\n", printable(err.Error()))
		}
	}()
	script := &transcript{out: s.out, witness: s.witness}
	c.host, c.watch = s.stage.clientHost(), script
	fmt.Fprintf(s.out, "---- Connecting to %s\n", s.cast.listen)
	if err := c.open(ctx, s.cast.listen); err != nil {
		return err
	}
	defer c.close()
	if err := c.login(ctx, user, password); err != nil {
		return err
	}
	for _, do := range steps {
		if err := do(ctx, &performance{c, script, r}); err != nil {
			return err
		}
	}
	return c.quit(ctx)
}

// listing asks for the listing, which must have the server's file in it.
func (s *story) listing(m mode) step {
	return func(ctx context.Context, p *performance) error {
		p.row.listing = failedCell
		text, err := p.list(ctx, m)
		if err != nil {
			return fmt.Errorf("listing: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			fmt.Fprintf(s.out, "     %s\n", printable(strings.TrimRight(line, "\r\n")))
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
	_, err := p.list(ctx, pasv)
	var data *dataError
	switch {
	case err == nil:
		p.row.listing = okCell
		return errors.New("listing: the client got it, and should not have got it without tracking")
	case !errors.As(err, &data) || !errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("listing: %w; want: %w", err, syscall.ENETUNREACH)
	}
	p.script.Note("Data connection failed: " + syscall.ENETUNREACH.Error())
	if server := netip.MustParseAddrPort(s.cast.server).Addr(); p.script.told.Addr() != server {
		return fmt.Errorf("listing: the 227 names %s; want the server's own address %s", p.script.told.Addr(), server)
	}
	p.row.listing = "failed, as told"
	return nil
}

// rewritten looks at what became of the address on its way: the client was told the gateway's
// in place of the server's, or the server the gateway's in place of the client's.
func (s *story) rewritten(m mode) step {
	return func(_ context.Context, p *performance) error {
		switch m {
		case pasv:
			gateway, server := netip.MustParseAddrPort(s.cast.listen).Addr(), netip.MustParseAddrPort(s.cast.server).Addr()
			if p.script.told.Addr() != gateway || p.script.announced.Addr() != server {
				return fmt.Errorf("227: the server said %s and the client was told %s; want %s and %s",
					p.script.announced.Addr(), p.script.told.Addr(), server, gateway)
			}
		case port:
			heard, err := ftp.ParseHostPort([]byte(p.script.heard))
			if err != nil || p.script.heard == p.script.named {
				return fmt.Errorf("PORT %s: the server received %q; want the gateway's address", p.script.named, p.script.heard)
			}
			p.script.Note("The server has connected to " + heard.String() + ", the gateway")
		}
		return nil
	}
}

// downloading gets the big file, measures, and compares.
func (s *story) downloading(m mode) step {
	return func(ctx context.Context, p *performance) error {
		p.row.download = failedCell
		buf := make([]byte, len(s.cast.download))
		took, err := p.retrieve(ctx, m, downloadName, buf)
		if err != nil {
			return fmt.Errorf("download: %w", err)
		}
		got, want := sha256.Sum256(buf), sha256.Sum256(s.cast.download)
		if got != want {
			return fmt.Errorf("download: SHA-256 is %x; want %x", got, want)
		}
		rate := float64(len(buf)) / (1 << 20) / took.Seconds()
		p.script.Note(fmt.Sprintf("%d bytes in %.3f s, %.0f MiB/s; SHA-256 %x... is right", len(buf), took.Seconds(), rate, got[:4]))
		p.row.download = fmt.Sprintf("ok, %.0f MiB/s", rate)
		return nil
	}
}

// uploading sends a file, reads it back on the server's own host, where there is no gateway in
// between, and compares the two byte by byte.
func (s *story) uploading(m mode) step {
	return func(ctx context.Context, p *performance) error {
		p.row.upload = failedCell
		name := "upload-" + strings.ToLower(string(m)) + ".bin"
		if _, err := p.store(ctx, m, name, s.cast.upload); err != nil {
			return fmt.Errorf("upload: %w", err)
		}
		stored, err := s.readBack(ctx, name)
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

// readBack gets an uploaded file on the server's host.
func (s *story) readBack(ctx context.Context, name string) ([]byte, error) {
	c := &client{host: s.stage.serverHost(), watch: &transcript{witness: s.witness, quiet: true}}
	if err := c.open(ctx, s.cast.server); err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.login(ctx, user, password); err != nil {
		return nil, err
	}
	buf := make([]byte, len(s.cast.upload))
	if _, err := c.retrieve(ctx, pasv, name, buf); err != nil {
		return nil, err
	}
	return buf, c.quit(ctx)
}

// row is a line of the table: a session.
type row struct {
	tracking, how             string
	listing, download, upload string // empty: not tried
}

const (
	okCell     = "ok"
	failedCell = "FAILED"
)

// printTable writes what became of each session, in 80 columns.
func (s *story) printTable() {
	const format = "%-9s %-24s %-16s %-16s %s\n"
	fmt.Fprint(s.out, "\n")
	fmt.Fprintf(s.out, format, "tracking", "data connections", "listing", "download", "upload")
	fmt.Fprintf(s.out, format, "--------", "----------------", "-------", "--------", "------")
	for _, r := range s.table {
		fmt.Fprintf(s.out, format, r.tracking, r.how, orDash(r.listing), orDash(r.download), orDash(r.upload))
	}
}

func orDash(cell string) string {
	if cell == "" {
		return "-"
	}
	return cell
}

// wrap breaks a long command line before its last two words, which are LISTEN and SERVER.
func wrap(command string) string {
	const room = 80 - len("gateway# ")
	if len(command) <= room {
		return command
	}
	words := strings.Fields(command)
	last := len(words) - 2
	return strings.Join(words[:last], " ") + " \\\n           " + strings.Join(words[last:], " ")
}
