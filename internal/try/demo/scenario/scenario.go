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

// act is a part of the scenario, with gateways of its own.
type act struct {
	title    string
	text     string
	forwards [][]string // the arguments of each gateway's `ftpgate forward`
	run      func(*scenario, context.Context) error
	remedy   string // printed if a gateway cannot start
}

func acts(c Setup) []act {
	return []act{
		{
			title: "Act 1: without tracking",
			text: `The gateway translates addresses and ports, one to one, and reads nothing.
The client receives the address that the server announces.`,
			forwards: [][]string{{"--tracking", "none", "--server-ports", PassivePorts, c.gateway, c.server}},
			run:      (*scenario).runWithoutTracking,
			remedy: "It needs nftables in the kernel; as root:\n" +
				"  modprobe -a nf_tables nft_chain_nat nft_nat nft_masq",
		},
		{
			title: "Act 2: with kernel tracking",
			text: `The kernel's ftp helper reads the dialogue, lets each data connection through,
and replaces the server's address by the gateway's.`,
			forwards: [][]string{{"--tracking", "kernel", c.gateway, c.server}},
			run:      (*scenario).runWithKernelTracking,
			remedy: "It needs the ftp helper in the kernel; as root:\n" +
				"  modprobe -a nf_conntrack_ftp nf_nat_ftp",
		},
		{
			title: "Act 3: with proxy tracking",
			text: `ftpgate reads the dialogue itself, line by line and not packet by packet. It
lets each data connection through before client or server learn its address.`,
			forwards: [][]string{
				{c.gateway, c.server},
				{c.gateway6, c.server},
				{"--tracking", "kernel", c.kernelToQuirks, c.quirkServer},
				{c.proxyToQuirks, c.quirkServer},
			},
			run:    (*scenario).runWithProxyTracking,
			remedy: "It needs what acts 1 and 2 need.",
		},
		{
			title: "Act 4: FTPS",
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
	tlsRequired bool // the server refuses logins in clear

	// For the end; each is empty if its act did not run.
	rows       []row
	comparison string // the table of act 3
	ftps       string // the table of act 4
	explained  string // what `ftpgate explain` says of the session of act 4 that failed
}

// ErrNoAct reports that the scenario has no act of this number.
var ErrNoAct = errors.New("there is no such act")

// CheckAct returns ErrNoAct if the scenario has no act of this number; 0 stands for all.
func CheckAct(number int) error {
	if most := len(acts(Setup{})); number < 0 || number > most {
		return fmt.Errorf("demo: %w: they are 1 to %d", ErrNoAct, most)
	}
	return nil
}

// Run runs all acts on a testbed, one after the other, or the one act with this number (from 1) if it is not
// 0, and writes the report to out. The error joins those of all steps that failed, or is ErrNoAct.
func Run(ctx context.Context, out io.Writer, testbed Testbed, setup Setup, number int) error {
	if err := CheckAct(number); err != nil {
		return err
	}
	chosen := acts(setup)
	if number > 0 {
		chosen = chosen[number-1 : number]
	}
	s := &scenario{out: out, testbed: testbed, setup: setup, prompt: "gateway# "}
	server, err := s.start(ctx, introduction)
	if err != nil {
		return err
	}
	end := end{column: "tracking", next: `On your own gateway, with your server in place of SERVER:
  sudo ftpgate doctor 2121 SERVER      what is wrong here and at the server
  sudo ftpgate forward :2121 SERVER    publish it at port 2121 until Ctrl-C
`}
	return errors.Join(s.runActs(ctx, end, chosen...), server.Stop())
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

// end is what the report ends with.
type end struct {
	column string // title of the first column of the table
	next   string // what the reader may do next
}

// runActs runs acts one after the other, and prints the end, and whether all steps succeeded. It joins the
// errors of those that failed.
func (s *scenario) runActs(ctx context.Context, end end, acts ...act) error {
	var errs []error
	for _, a := range acts {
		if err := s.runAct(ctx, a); err != nil {
			errs = append(errs, fmt.Errorf("demo: %s: %w", a.title, err))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("demo: %w", ftpclient.Because(ctx, errors.Join(errs...)))
		}
	}
	s.printResults(end.column)
	if len(errs) > 0 {
		fmt.Fprint(s.out, "\nSome steps did not end as expected.\n")
		return errors.Join(errs...)
	}
	fmt.Fprintf(s.out, "\nAll steps ended as expected, in %.1f s. Nothing of it is left behind.\n\n%s",
		time.Since(s.began).Seconds(), end.next)
	return nil
}

const introduction = `
  client               gateway                server
  192.168.5.1 -------- 192.168.5.2
                       203.0.113.1 ---------- 203.0.113.21

Three hosts in network namespaces. The client has a route to the gateway only,
and the server has none to the client.
`

// runAct starts the gateways of an act, runs the act, and stops them.
func (s *scenario) runAct(ctx context.Context, a act) (err error) {
	s.printTitle(a.title)
	fmt.Fprintln(s.out, a.text)
	if len(a.forwards) > 0 {
		fmt.Fprint(s.out, "\n")
	}
	for _, args := range a.forwards {
		gateway, startErr := s.startGateway(ctx, args, a.remedy)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, gateway.Stop()) }()
	}
	return a.run(s, ctx)
}

// startGateway starts a gateway, and prints the remedy if it cannot start.
func (s *scenario) startGateway(ctx context.Context, args []string, remedy string) (Gateway, error) {
	fmt.Fprintf(s.out, "%s%s\n", s.prompt, wrapCommand("ftpgate forward "+strings.Join(args, " ")))
	gateway, err := s.testbed.StartGateway(ctx, args)
	switch {
	case ctx.Err() != nil && err != nil:
		return gateway, ftpclient.Because(ctx, err)
	case err != nil:
		fmt.Fprintf(s.out, "\nThis act cannot run on this machine; the gateway's reason is below.\n%s\n",
			remedy)
	}
	return gateway, err
}

// runWithoutTracking is act 1: a client that trusts the 227 fails, and one that repairs it succeeds.
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

// runWithKernelTracking is act 2: a listing, a download and an upload in each mode.
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

func (s *scenario) printTitle(title string) {
	fmt.Fprintf(s.out, "\n%s\n%s\n", title, strings.Repeat("=", len(title)))
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
