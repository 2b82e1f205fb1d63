// Package scenario is what the demo does: it starts gateways in front of an FTP server, connects a client
// through each, prints the dialogue and a table of the results, and reports every step that did not end as
// expected.
//
// A Testbed provides hosts, servers and gateways. No code in this package translates an address.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/sessionlog"
)

// sessionTimeout ends a session that hangs. A session hangs for example when the kernel's helper drops a
// line.
const sessionTimeout = 2 * time.Minute

// part is a part of the scenario, with gateways of its own.
type part struct {
	title    string
	text     string
	forwards [][]string // the arguments of each gateway's `ftpgate forward`
	run      func(*scenario, context.Context) error
	remedy   string // printed if a gateway cannot start
}

func parts(c Setup) []part {
	return []part{
		{
			title: "Part 1: without tracking",
			text: `The gateway translates addresses and ports, one to one, and reads nothing.
The client receives the address that the server announces.`,
			forwards: [][]string{{"--tracking", "none", "--server-ports", PassivePorts, c.gateway, c.server}},
			run:      (*scenario).runWithoutTracking,
			remedy: "It needs nftables in the kernel; as root:\n" +
				"  modprobe -a nf_tables nft_chain_nat nft_nat nft_masq",
		},
		{
			title: "Part 2: with kernel tracking",
			text: `The kernel's ftp helper reads the dialogue, lets each data connection through,
and replaces the server's address by the gateway's.`,
			forwards: [][]string{{"--tracking", "kernel", c.gateway, c.server}},
			run:      (*scenario).runWithKernelTracking,
			remedy: "It needs the ftp helper in the kernel; as root:\n" +
				"  modprobe -a nf_conntrack_ftp nf_nat_ftp",
		},
		{
			title: "Part 3: with proxy tracking",
			text: `ftpgate reads the dialogue itself, line by line and not packet by packet. It
lets each data connection through before client or server learn its address.`,
			forwards: [][]string{
				{c.gateway, c.server},
				{c.gateway6, c.server},
				{"--tracking", "kernel", c.kernelToQuirks, c.quirkServer},
				{c.proxyToQuirks, c.quirkServer},
			},
			run:    (*scenario).runWithProxyTracking,
			remedy: "It needs what parts 1 and 2 need.",
		},
		{
			title: "Part 4: FTPS",
			text: `The gateway cannot read an encrypted dialogue. It refuses FTPS, passes it
through unread, or speaks TLS itself with the client or with the server. A
wiretap on each side of the gateway shows what can be read there.`,
			run: (*scenario).runWithTLS,
		},
	}
}

// scenario is a run of the demo and its results.
type scenario struct {
	out         io.Writer
	testbed     Testbed
	setup       Setup
	prompt      string // printed before the gateway's commands
	began       time.Time
	serverLog   *sessionlog.ServerLog
	rows        []row
	tlsRequired bool // the server refuses logins in clear
}

// Run runs all parts on a testbed, one after the other, and writes the report to out. The error joins those
// of all steps that failed.
func Run(ctx context.Context, out io.Writer, testbed Testbed, setup Setup) error {
	s := &scenario{out: out, testbed: testbed, setup: setup, prompt: "gateway# "}
	server, err := s.start(ctx, introduction)
	if err != nil {
		return err
	}
	return errors.Join(s.runParts(ctx, "tracking", parts(s.setup)...), server.Stop())
}

// start prints the introduction and starts the server.
func (s *scenario) start(ctx context.Context, introduction string) (Server, error) {
	s.began = time.Now()
	fmt.Fprint(s.out, introduction)
	server, err := s.testbed.StartServer(ctx, s.setup.server, TLSOff)
	if err != nil {
		return server, fmt.Errorf("demo: %w", ftpclient.Because(ctx, err))
	}
	s.serverLog, s.setup.server = server.Log, server.Address
	return server, nil
}

// runParts runs parts one after the other, and prints the table of the results, whose first column has a
// title, and whether all steps succeeded. It joins the errors of those that failed.
func (s *scenario) runParts(ctx context.Context, title string, parts ...part) error {
	var errs []error
	for _, p := range parts {
		if err := s.runPart(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("demo: %s: %w", p.title, err))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("demo: %w", ftpclient.Because(ctx, errors.Join(errs...)))
		}
	}
	s.printTable(title)
	if len(errs) > 0 {
		fmt.Fprint(s.out, "\nSome steps did not end as expected.\n")
		return errors.Join(errs...)
	}
	fmt.Fprintf(s.out, "\nAll steps ended as expected, in %.1f s. Nothing of it is left behind.\n",
		time.Since(s.began).Seconds())
	return nil
}

const introduction = `
  client               gateway                server
  192.168.5.1 -------- 192.168.5.2
                       203.0.113.1 ---------- 203.0.113.21

Three hosts in network namespaces. The client has a route to the gateway only,
and the server has none to the client.
`

// runPart starts the gateways of a part, runs the part, and stops them.
func (s *scenario) runPart(ctx context.Context, p part) (err error) {
	fmt.Fprintf(s.out, "\n%s\n%s\n%s\n", p.title, strings.Repeat("=", len(p.title)), p.text)
	if len(p.forwards) > 0 {
		fmt.Fprint(s.out, "\n")
	}
	for _, args := range p.forwards {
		gateway, startErr := s.startGateway(ctx, args, p.remedy)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, gateway.Stop()) }()
	}
	return p.run(s, ctx)
}

// startGateway starts a gateway, and prints the remedy if it cannot start.
func (s *scenario) startGateway(ctx context.Context, args []string, remedy string) (Gateway, error) {
	fmt.Fprintf(s.out, "%s%s\n", s.prompt, wrapCommand("ftpgate forward "+strings.Join(args, " ")))
	gateway, err := s.testbed.StartGateway(ctx, args)
	switch {
	case ctx.Err() != nil && err != nil:
		return gateway, ftpclient.Because(ctx, err)
	case err != nil:
		fmt.Fprintf(s.out, "\nThis part cannot run on this machine; the gateway's reason is below.\n%s\n",
			remedy)
	}
	return gateway, err
}

// runWithoutTracking is part 1: a client that trusts the 227 fails, and one that repairs it succeeds.
func (s *scenario) runWithoutTracking(ctx context.Context) error {
	s.printHeading("A client that trusts the address in the 227, as most do")
	opts := sessionOptions{tracking: "none", mode: "PASV", address: s.setup.gateway, serverLog: s.serverLog}
	err := s.runSession(ctx, opts, s.listFails)
	if ctx.Err() != nil {
		return err
	}
	s.printHeading("A client that repairs the address, as lftp does")
	opts.mode, opts.repair = "PASV, client repairs it", true
	return errors.Join(err, s.runSession(ctx, opts, s.list(ftpclient.PASV)))
}

// runWithKernelTracking is part 2: a listing, a download and an upload in each mode.
func (s *scenario) runWithKernelTracking(ctx context.Context) error {
	var errs []error
	for _, m := range []ftpclient.Mode{ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT} {
		s.printHeading(headingOf(m))
		opts := sessionOptions{
			tracking: "kernel", mode: string(m), address: s.setup.gateway, serverLog: s.serverLog,
		}
		errs = append(errs, s.runSession(ctx, opts, s.list(m), s.checkRewritten(m), s.download(m),
			s.upload(m)))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func headingOf(m ftpclient.Mode) string {
	switch m {
	case ftpclient.EPSV:
		return "EPSV: the 229 has no address, only a port, and needs no rewriting"
	case ftpclient.PORT:
		return "PORT: the server connects to the address in the PORT command"
	}
	return "PASV: the client connects to the address in the 227"
}

func (s *scenario) printHeading(title string) { fmt.Fprintf(s.out, "\n-- %s --\n", title) }

type sessionOptions struct {
	tracking, mode string // columns of the table
	address        string // ADDR:PORT that the client connects to
	// serverLog is the server's side of the session, if both sides have the same lines; else nil.
	serverLog *sessionlog.ServerLog
	repair    bool   // replace the address of a 227 by the gateway's
	quiet     bool   // do not print the dialogue
	certName  string // name in the certificate that the client expects; empty: no TLS
	noLogin   bool   // do not log in
}

// runSession connects, logs in, runs the steps and quits. It adds a row to the table.
func (s *scenario) runSession(ctx context.Context, opts sessionOptions, steps ...step) (err error) {
	ctx, cancel := withSessionTimeout(ctx)
	defer cancel()
	r := &row{tracking: opts.tracking, mode: opts.mode}
	defer func() {
		s.rows = append(s.rows, *r)
		if err != nil {
			err = fmt.Errorf("%s: %w", opts.mode, err)
			fmt.Fprintf(s.out, "!!!! %s\n", sessionlog.Printable(err.Error()))
		}
	}()
	transcript := &sessionlog.Transcript{Out: s.out, ServerLog: opts.serverLog, Quiet: opts.quiet}
	c := &ftpclient.Client{Host: s.testbed.ClientHost(), Watch: transcript, Repair: opts.repair}
	transcript.Note("Connecting to " + opts.address)
	if err := c.Open(ctx, opts.address); err != nil {
		return err
	}
	defer c.Close()
	if opts.certName != "" {
		if err := c.Encrypt(ctx, s.setup.ca.Client(opts.certName)); err != nil {
			return err
		}
	}
	if !opts.noLogin {
		if err := c.Login(ctx, ftpserver.User, ftpserver.Password); err != nil {
			return err
		}
	}
	for _, do := range steps {
		if err := do(ctx, &session{c, transcript, r}); err != nil {
			return err
		}
	}
	return c.Quit(ctx)
}

func withSessionTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, sessionTimeout,
		fmt.Errorf("the session did not end within %s", sessionTimeout))
}
