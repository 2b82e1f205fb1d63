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

	"ftpgate/internal/ftpclient"
	"ftpgate/internal/try/demo/ftpserver"
	"ftpgate/internal/try/demo/transcript"
)

// sessionLimit ends a session that hangs, as one does whose line the kernel's helper has
// dropped.
const sessionLimit = 20 * time.Second

// act is a part of the story with gateways of its own.
type act struct {
	title    string
	text     string
	forwards [][]string // the arguments of each gateway's `ftpgate forward`
	play     func(*story, context.Context) error
	remedy   string // where a gateway cannot start
}

// acts are the parts of the story, in their order.
func acts(c Cast) []act {
	return []act{
		{
			title: "Act 1: without tracking",
			text: `The gateway translates addresses and ports, one to one, and reads nothing.
What the server says of itself reaches the client as it is.`,
			forwards: [][]string{{"--tracking", "none", "--server-ports", PassivePorts, c.listen, c.server}},
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
		{
			title: "Act 4: FTPS",
			text: `What is encrypted cannot be read on the way. The gateway refuses it, passes it
through unread, or speaks TLS itself with the client or with the server. A
wiretap on each side of it tells what can be read there.`,
			play: (*story).withTLS,
		},
	}
}

// story is what is told, and what has become of it.
type story struct {
	out     io.Writer
	stage   Stage
	cast    Cast
	prompt  string // before the gateway's commands
	witness *transcript.Witness
	table   []row
	private bool // the server takes nothing in clear
}

// Tell plays the acts on st one after the other, and writes to out. The error names every step that went
// differently.
func Tell(ctx context.Context, out io.Writer, st Stage, c Cast) error {
	begin := time.Now()
	s := &story{out: out, stage: st, cast: c, prompt: "gateway# "}
	fmt.Fprint(out, prologue)
	server, err := st.StartServer(ctx, c.server, InClear)
	if err != nil {
		return fmt.Errorf("demo: %w", ftpclient.Because(ctx, err))
	}
	s.witness, s.cast.server = server.Witness, server.At
	var faults []error
	for _, a := range acts(s.cast) {
		if err := s.perform(ctx, a); err != nil {
			faults = append(faults, fmt.Errorf("demo: %s: %w", a.title, err))
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("demo: %w", ftpclient.Because(ctx, err)), server.Stop())
		}
	}
	s.printTable("tracking")
	return errors.Join(s.end(begin, faults), server.Stop())
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
	fmt.Fprintf(s.out, "\n%s\n%s\n%s\n", a.title, strings.Repeat("=", len(a.title)), a.text)
	if len(a.forwards) > 0 {
		fmt.Fprint(s.out, "\n")
	}
	for _, args := range a.forwards {
		gateway, refused := s.publish(ctx, args, a.remedy)
		if refused != nil {
			return refused
		}
		defer func() { err = errors.Join(err, gateway.Stop()) }()
	}
	return a.play(s, ctx)
}

// publish starts a gateway; remedy is for a machine where it cannot start.
func (s *story) publish(ctx context.Context, args []string, remedy string) (Gateway, error) {
	fmt.Fprintf(s.out, "%s%s\n", s.prompt, wrap("ftpgate forward "+strings.Join(args, " ")))
	gateway, err := s.stage.StartGateway(ctx, args)
	switch {
	case ctx.Err() != nil && err != nil:
		return gateway, ftpclient.Because(ctx, err)
	case err != nil:
		fmt.Fprintf(s.out, "\nThis act cannot be played here: the gateway says why below.\n%s\n", remedy)
	}
	return gateway, err
}

// withoutTracking is act 1: a strict client fails, and one that repairs what it is told does not.
func (s *story) withoutTracking(ctx context.Context) error {
	s.scene("A client that believes the 227, as most do")
	strict := s.session(ctx, visit{way: "none", how: "PASV", at: s.cast.listen, witness: s.witness}, s.strictListing)
	if ctx.Err() != nil {
		return strict
	}
	s.scene("A client that repairs the address, as lftp does")
	repairing := s.session(ctx, visit{way: "none", how: "PASV, client repairs it", at: s.cast.listen, witness: s.witness, repair: true}, s.listing(ftpclient.PASV))
	return errors.Join(strict, repairing)
}

// withKernelTracking is act 2: everything, in each mode, with the client that believes.
func (s *story) withKernelTracking(ctx context.Context) error {
	var errs []error
	for _, m := range []ftpclient.Mode{ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT} {
		s.scene(sceneOf(m))
		v := visit{way: "kernel", how: string(m), at: s.cast.listen, witness: s.witness}
		errs = append(errs, s.session(ctx, v, s.listing(m), s.rewritten(m), s.downloading(m), s.uploading(m)))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// sceneOf says what is particular about a mode.
func sceneOf(m ftpclient.Mode) string {
	switch m {
	case ftpclient.EPSV:
		return "EPSV: the 229 has a port and no address, and needs no rewriting"
	case ftpclient.PORT:
		return "PORT: the server connects to where the client says"
	}
	return "PASV: the client connects to where the 227 says"
}

func (s *story) scene(title string) { fmt.Fprintf(s.out, "\n-- %s --\n", title) }

// visit is what is particular about a session.
type visit struct {
	way, how string              // as the table has it
	at       string              // where the client connects to
	witness  *transcript.Witness // of the server's side, where both sides say the same lines; else nil
	repair   bool                // as the client does
	quiet    bool                // nothing of the dialogue is shown
	verify   string              // whose certificate the client wants to see; empty: it stays in clear
	stranger bool                // the client does not log in
}

// session connects, logs in, does the steps and quits.
func (s *story) session(ctx context.Context, v visit, steps ...step) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sessionLimit, fmt.Errorf("the session has not ended within %s", sessionLimit))
	defer cancel()
	r := &row{way: v.way, how: v.how}
	defer func() {
		s.table = append(s.table, *r)
		if err != nil {
			err = fmt.Errorf("%s: %w", v.how, err)
			fmt.Fprintf(s.out, "!!!! %s\n", transcript.Printable(err.Error()))
		}
	}()
	script := &transcript.Transcript{Out: s.out, Witness: v.witness, Quiet: v.quiet}
	c := &ftpclient.Client{Host: s.stage.ClientHost(), Watch: script, Repair: v.repair}
	script.Note("Connecting to " + v.at)
	if err := c.Open(ctx, v.at); err != nil {
		return err
	}
	defer c.Close()
	if v.verify != "" {
		if err := c.Encrypt(ctx, s.cast.authority.Client(v.verify)); err != nil {
			return err
		}
	}
	if !v.stranger {
		if err := c.Login(ctx, ftpserver.User, ftpserver.Password); err != nil {
			return err
		}
	}
	for _, do := range steps {
		if err := do(ctx, &performance{c, script, r}); err != nil {
			return err
		}
	}
	return c.Quit(ctx)
}
