// Package story is what the demo tells: acts with gateways of their own, each in front of the same FTP
// server, what a client meets with in them, and a table of it. An error is a step that ended differently
// from what is told.
//
// Where the story plays is its Stage's matter. Nothing in here translates an address.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"ftpgate/internal/try/demo/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/sessionlog"
)

// sessionTimeout ends a session that hangs, as one does whose line the kernel's helper has
// dropped.
const sessionTimeout = 20 * time.Second

// part is a part of the story with gateways of its own.
type part struct {
	title    string
	text     string
	forwards [][]string // the arguments of each gateway's `ftpgate forward`
	run      func(*scenario, context.Context) error
	remedy   string // where a gateway cannot start
}

// parts are the parts of the story, in their order.
func parts(c Setup) []part {
	return []part{
		{
			title: "Act 1: without tracking",
			text: `The gateway translates addresses and ports, one to one, and reads nothing.
What the server says of itself reaches the client as it is.`,
			forwards: [][]string{{"--tracking", "none", "--server-ports", PassivePorts, c.gateway, c.server}},
			run:      (*scenario).runWithoutTracking,
			remedy:   "It needs nftables in the kernel; as root:\n  modprobe -a nf_tables nft_chain_nat nft_nat nft_masq",
		},
		{
			title: "Act 2: with kernel tracking",
			text: `The kernel's ftp helper reads the dialogue, lets each data connection through
and puts the gateway's address where the server's would not do.`,
			forwards: [][]string{{"--tracking", "kernel", c.gateway, c.server}},
			run:      (*scenario).runWithKernelTracking,
			remedy:   "It needs the ftp helper in the kernel; as root:\n  modprobe -a nf_conntrack_ftp nf_nat_ftp",
		},
		{
			title: "Act 3: with proxy tracking",
			text: `ftpgate reads the dialogue itself, by lines and not by packets, and has the way
of each data connection open before anybody is told of it.`,
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
			text: `What is encrypted cannot be read on the way. The gateway refuses it, passes it
through unread, or speaks TLS itself with the client or with the server. A
wiretap on each side of it tells what can be read there.`,
			run: (*scenario).runWithTLS,
		},
	}
}

// scenario is what is told, and what has become of it.
type scenario struct {
	out         io.Writer
	testbed     Testbed
	setup       Setup
	prompt      string // before the gateway's commands
	serverLog   *sessionlog.ServerLog
	rows        []row
	tlsRequired bool // the server takes nothing in clear
}

// Run plays the acts on st one after the other, and writes to out. The error names every step that went
// differently.
func Run(ctx context.Context, out io.Writer, st Testbed, c Setup) error {
	begin := time.Now()
	s := &scenario{out: out, testbed: st, setup: c, prompt: "gateway# "}
	fmt.Fprint(out, introduction)
	server, err := st.StartServer(ctx, c.server, TLSOff)
	if err != nil {
		return fmt.Errorf("demo: %w", ftpclient.Because(ctx, err))
	}
	s.serverLog, s.setup.server = server.Log, server.Address
	var faults []error
	for _, a := range parts(s.setup) {
		if err := s.runPart(ctx, a); err != nil {
			faults = append(faults, fmt.Errorf("demo: %s: %w", a.title, err))
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("demo: %w", ftpclient.Because(ctx, err)), server.Stop())
		}
	}
	s.printTable("tracking")
	return errors.Join(s.printResult(begin, faults), server.Stop())
}

// printResult says how all went, and returns what went differently.
func (s *scenario) printResult(begin time.Time, faults []error) error {
	if len(faults) > 0 {
		fmt.Fprint(s.out, "\nThe story went differently from what it should be.\n")
		return errors.Join(faults...)
	}
	fmt.Fprintf(s.out, "\nAll went as the story has it, in %.1f s. Nothing of it is left behind.\n", time.Since(begin).Seconds())
	return nil
}

const introduction = `
  client               gateway                server
  192.168.5.1 -------- 192.168.5.2
                       203.0.113.1 ---------- 203.0.113.21

Three hosts in network namespaces. The client knows the gateway only, and the
server has no way back to the client.
`

// runPart starts the act's gateways, plays the act, and stops them.
func (s *scenario) runPart(ctx context.Context, a part) (err error) {
	fmt.Fprintf(s.out, "\n%s\n%s\n%s\n", a.title, strings.Repeat("=", len(a.title)), a.text)
	if len(a.forwards) > 0 {
		fmt.Fprint(s.out, "\n")
	}
	for _, args := range a.forwards {
		gateway, refused := s.startGateway(ctx, args, a.remedy)
		if refused != nil {
			return refused
		}
		defer func() { err = errors.Join(err, gateway.Stop()) }()
	}
	return a.run(s, ctx)
}

// startGateway starts a gateway; remedy is for a machine where it cannot start.
func (s *scenario) startGateway(ctx context.Context, args []string, remedy string) (Gateway, error) {
	fmt.Fprintf(s.out, "%s%s\n", s.prompt, wrapCommand("ftpgate forward "+strings.Join(args, " ")))
	gateway, err := s.testbed.StartGateway(ctx, args)
	switch {
	case ctx.Err() != nil && err != nil:
		return gateway, ftpclient.Because(ctx, err)
	case err != nil:
		fmt.Fprintf(s.out, "\nThis act cannot be played here: the gateway says why below.\n%s\n", remedy)
	}
	return gateway, err
}

// runWithoutTracking is act 1: a strict client fails, and one that repairs what it is told does not.
func (s *scenario) runWithoutTracking(ctx context.Context) error {
	s.printHeading("A client that believes the 227, as most do")
	strict := s.runSession(ctx, sessionOptions{tracking: "none", mode: "PASV", address: s.setup.gateway, serverLog: s.serverLog}, s.listFails)
	if ctx.Err() != nil {
		return strict
	}
	s.printHeading("A client that repairs the address, as lftp does")
	repairing := s.runSession(ctx, sessionOptions{tracking: "none", mode: "PASV, client repairs it", address: s.setup.gateway, serverLog: s.serverLog, repair: true}, s.list(ftpclient.PASV))
	return errors.Join(strict, repairing)
}

// runWithKernelTracking is act 2: everything, in each mode, with the client that believes.
func (s *scenario) runWithKernelTracking(ctx context.Context) error {
	var errs []error
	for _, m := range []ftpclient.Mode{ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT} {
		s.printHeading(headingOf(m))
		v := sessionOptions{tracking: "kernel", mode: string(m), address: s.setup.gateway, serverLog: s.serverLog}
		errs = append(errs, s.runSession(ctx, v, s.list(m), s.checkRewritten(m), s.download(m), s.upload(m)))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// headingOf says what is particular about a mode.
func headingOf(m ftpclient.Mode) string {
	switch m {
	case ftpclient.EPSV:
		return "EPSV: the 229 has a port and no address, and needs no rewriting"
	case ftpclient.PORT:
		return "PORT: the server connects to where the client says"
	}
	return "PASV: the client connects to where the 227 says"
}

func (s *scenario) printHeading(title string) { fmt.Fprintf(s.out, "\n-- %s --\n", title) }

// sessionOptions is what is particular about a session.
type sessionOptions struct {
	tracking, mode string                // as the table has it
	address        string                // where the client connects to
	serverLog      *sessionlog.ServerLog // of the server's side, where both sides say the same lines; else nil
	repair         bool                  // as the client does
	quiet          bool                  // nothing of the dialogue is shown
	certName       string                // whose certificate the client wants to see; empty: it stays in clear
	noLogin        bool                  // the client does not log in
}

// runSession connects, logs in, does the steps and quits.
func (s *scenario) runSession(ctx context.Context, v sessionOptions, steps ...step) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sessionTimeout, fmt.Errorf("the session has not ended within %s", sessionTimeout))
	defer cancel()
	r := &row{tracking: v.tracking, mode: v.mode}
	defer func() {
		s.rows = append(s.rows, *r)
		if err != nil {
			err = fmt.Errorf("%s: %w", v.mode, err)
			fmt.Fprintf(s.out, "!!!! %s\n", sessionlog.Printable(err.Error()))
		}
	}()
	script := &sessionlog.Transcript{Out: s.out, ServerLog: v.serverLog, Quiet: v.quiet}
	c := &ftpclient.Client{Host: s.testbed.ClientHost(), Watch: script, Repair: v.repair}
	script.Note("Connecting to " + v.address)
	if err := c.Open(ctx, v.address); err != nil {
		return err
	}
	defer c.Close()
	if v.certName != "" {
		if err := c.Encrypt(ctx, s.setup.ca.Client(v.certName)); err != nil {
			return err
		}
	}
	if !v.noLogin {
		if err := c.Login(ctx, ftpserver.User, ftpserver.Password); err != nil {
			return err
		}
	}
	for _, do := range steps {
		if err := do(ctx, &session{c, script, r}); err != nil {
			return err
		}
	}
	return c.Quit(ctx)
}
