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
	"unicode"

	"ftpgate/internal/ftp"
)

// sessionLimit ends a session that hangs, as one does whose line the kernel's helper has
// dropped.
const sessionLimit = 20 * time.Second

// stage is where the story plays: the lab, or a loopback in a test.
type stage interface {
	clientHost() host
	serverHost() host
	// startServer starts the FTP server, and returns its side of every dialogue, and where it is.
	startServer(ctx context.Context, address string) (w *witness, at string, err error)
	// startGateway starts a gateway with the arguments of `ftpgate forward`.
	startGateway(ctx context.Context, args []string) (stop func() error, err error)
}

// act is a part of the story with gateways of its own.
type act struct {
	title    string
	text     string
	forwards [][]string // the arguments of each gateway's `ftpgate forward`
	play     func(*story, context.Context) error
	remedy   string // where a gateway cannot start
}

// acts are the parts of the story, in their order.
func acts(c cast) []act {
	return []act{
		{
			title: "Act 1: without tracking",
			text: `The gateway translates addresses and ports, one to one, and reads nothing.
What the server says of itself reaches the client as it is.`,
			forwards: [][]string{{"--tracking", "none", "--server-ports", passivePorts, c.listen, c.server}},
			play:     (*story).withoutTracking,
			remedy:   "It needs nftables in the kernel; as root:\n  modprobe -a nf_tables nft_chain_nat nft_nat nft_masq",
		},
		{
			title: "Act 2: with kernel tracking",
			text: `The kernel's ftp helper reads the dialogue, lets each data connection through
and puts the gateway's address where the server's would not do.`,
			forwards: [][]string{{"--tracking", "kernel", c.listen, c.server}},
			play:     (*story).withKernelTracking,
			remedy:   "It needs the ftp helper in the kernel; as root:\n  modprobe -a nf_conntrack_ftp nf_nat_ftp",
		},
		{
			title: "Act 3: with proxy tracking",
			text: `ftpgate reads the dialogue itself, by lines and not by packets, and has the way
of each data connection open before anybody is told of it.`,
			forwards: [][]string{
				{c.listen, c.server},
				{c.listen6, c.server},
				{"--tracking", "kernel", c.byKernel, c.quirks},
				{c.byProxy, c.quirks},
			},
			play:   (*story).withProxyTracking,
			remedy: "It needs what acts 1 and 2 need.",
		},
	}
}

// story is what is told, and what has become of it.
type story struct {
	out     io.Writer
	stage   stage
	cast    cast
	prompt  string // before the gateway's commands
	witness *witness
	table   []row
}

// tell plays the acts one after the other. The error names every step that went differently.
func tell(ctx context.Context, out io.Writer, st stage, c cast) error {
	begin := time.Now()
	s := &story{out: out, stage: st, cast: c, prompt: "gateway# "}
	fmt.Fprint(out, prologue)
	var err error
	if s.witness, s.cast.server, err = st.startServer(ctx, c.server); err != nil {
		return fmt.Errorf("demo: %w", because(ctx, err))
	}
	var faults []error
	for _, a := range acts(s.cast) {
		if err := s.perform(ctx, a); err != nil {
			faults = append(faults, fmt.Errorf("demo: %s: %w", a.title, err))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("demo: %w", because(ctx, err))
		}
	}
	s.printTable("tracking")
	return s.end(begin, faults)
}

// end says how all went, and returns what went differently.
func (s *story) end(begin time.Time, faults []error) error {
	if len(faults) > 0 {
		fmt.Fprint(s.out, "\nThe story went differently from what it should be.\n")
		return errors.Join(faults...)
	}
	fmt.Fprintf(s.out, "\nAll went as the story has it, in %.1f s. Nothing of it is left behind.\n", time.Since(begin).Seconds())
	return nil
}

const prologue = `
  client               gateway                server
  192.168.5.1 -------- 192.168.5.2
                       203.0.113.1 ---------- 203.0.113.21

Three hosts in network namespaces. The client knows the gateway only, and the
server has no way back to the client.
`

// perform starts the act's gateways, plays the act, and stops them.
func (s *story) perform(ctx context.Context, a act) (err error) {
	fmt.Fprintf(s.out, "\n%s\n%s\n%s\n\n", a.title, strings.Repeat("=", len(a.title)), a.text)
	for _, args := range a.forwards {
		fmt.Fprintf(s.out, "%s%s\n", s.prompt, wrap("ftpgate forward "+strings.Join(args, " ")))
		stop, refused := s.stage.startGateway(ctx, args)
		if refused != nil {
			if ctx.Err() != nil {
				return because(ctx, refused)
			}
			fmt.Fprintf(s.out, "\nThis act cannot be played here: the gateway says why below.\n%s\n", a.remedy)
			return refused
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	return a.play(s, ctx)
}

// withoutTracking is act 1: a strict client fails, and one that repairs what it is told does not.
func (s *story) withoutTracking(ctx context.Context) error {
	s.scene("A client that believes the 227, as most do")
	strict := s.session(ctx, visit{way: "none", how: "PASV", at: s.cast.listen, witness: s.witness}, s.strictListing)
	if ctx.Err() != nil {
		return strict
	}
	s.scene("A client that repairs the address, as lftp does")
	repairing := s.session(ctx, visit{way: "none", how: "PASV, client repairs it", at: s.cast.listen, witness: s.witness, repair: true}, s.listing(pasv))
	return errors.Join(strict, repairing)
}

// withKernelTracking is act 2: everything, in each mode, with the client that believes.
func (s *story) withKernelTracking(ctx context.Context) error {
	var errs []error
	for _, m := range []mode{pasv, epsv, port} {
		s.scene(m.scene())
		v := visit{way: "kernel", how: string(m), at: s.cast.listen, witness: s.witness}
		errs = append(errs, s.session(ctx, v, s.listing(m), s.rewritten(m), s.downloading(m), s.uploading(m)))
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

// visit is what is particular about a session.
type visit struct {
	way, how string   // as the table has it
	at       string   // where the client connects to
	witness  *witness // of the server's side, where both sides say the same lines; else nil
	repair   bool     // as the client does
	quiet    bool     // nothing of the dialogue is shown
}

// performance is one session of a client, and the row of the table that it fills.
type performance struct {
	*client
	script *transcript
	row    *row
}

// step is something that the client does in a session. Its error ends the session.
type step func(context.Context, *performance) error

// session connects, logs in, does the steps and quits.
func (s *story) session(ctx context.Context, v visit, steps ...step) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sessionLimit, fmt.Errorf("the session has not ended within %s", sessionLimit))
	defer cancel()
	r := &row{way: v.way, how: v.how}
	defer func() {
		s.table = append(s.table, *r)
		if err != nil {
			err = fmt.Errorf("%s: %w", v.how, err)
			fmt.Fprintf(s.out, "!!!! %s\n", printable(err.Error()))
		}
	}()
	script := &transcript{out: s.out, witness: v.witness, quiet: v.quiet}
	c := &client{host: s.stage.clientHost(), watch: script, repair: v.repair}
	script.Note("Connecting to " + v.at)
	if err := c.open(ctx, v.at); err != nil {
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
			p.script.printf("     %s\n", printable(strings.TrimRight(line, "\r\n")))
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
		p.row.download, p.row.rate = fmt.Sprintf("ok, %.0f MiB/s", rate), rate
		return nil
	}
}

// uploading sends a file, reads it back on the server's own host, where there is no gateway in
// between, and compares the two byte by byte.
func (s *story) uploading(m mode) step {
	return func(ctx context.Context, p *performance) error {
		p.row.upload = failedCell
		name := uploadName(*p.row)
		if _, err := p.store(ctx, m, name, s.cast.upload); err != nil {
			return fmt.Errorf("upload: %w", err)
		}
		stored, err := s.readBack(ctx, name, p.script.witness)
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
func (s *story) readBack(ctx context.Context, name string, w *witness) ([]byte, error) {
	c, err := enter(ctx, s.stage.serverHost(), s.cast.server, user, w)
	if err != nil {
		return nil, err
	}
	defer c.close()
	buf := make([]byte, len(s.cast.upload))
	if _, err := c.retrieve(ctx, pasv, name, buf); err != nil {
		return nil, err
	}
	return buf, c.quit(ctx)
}

// enter connects from h and logs in, and shows nothing of it; the caller closes the client.
func enter(ctx context.Context, h host, at, user string, w *witness) (*client, error) {
	c := &client{host: h, watch: &transcript{witness: w, quiet: true}}
	if err := c.open(ctx, at); err != nil {
		return nil, err
	}
	if err := c.login(ctx, user, password); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}
