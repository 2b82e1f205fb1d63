package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/diagnose/doctor"
	"ftpgate/internal/diagnose/preflight"
	"ftpgate/internal/diagnose/servercheck"
)

// consultation is what doctor is asked for.
type consultation struct {
	file  string
	words []*keyFlag // of a forward without a file

	json, all          bool
	noTry, active      bool
	user, passwordFile string
	tryTime            time.Duration
	password           string
	table              string
	forwards           []forward.Forward
}

func newDoctor() *cobra.Command {
	c := &consultation{words: keyFlags()}
	cmd := &cobra.Command{
		Use:   "doctor [flags] [FORWARD | LISTEN SERVER]",
		Short: "Tell what is in the way of forwards, and what to do",
		Long: `Tell what is in the way of the forwards of a file, of its FORWARD alone, or of
one without a file: LISTEN SERVER, with the flags of "ftpgate forward". It looks
at this host, then it tries each forward's server as clients do: login, PASV and
EPSV, in clear or TLS, with a listing of one directory over each.

It changes nothing, here or on the server, and may be run beside a running
ftpgate. Any user may run it; what only root can see is named then.

Exit status: 0 nothing is wrong, though there may be warnings; 1 there are faults,
or it was interrupted; 2 the words or the file are wrong.`,
		Example: `  ftpgate doctor
  ftpgate doctor --no-try -c ftpgate.toml
  ftpgate doctor --active --user alice archive
  ftpgate doctor --tls-server required 2121 ftp.example.com`,
		Args:                  cobra.ArbitraryArgs,
		RunE:                  func(cmd *cobra.Command, args []string) error { return c.run(cmd, args) },
		DisableFlagsInUseLine: true,
	}
	addKeyFlags(cmd, c.words)
	set := cmd.Flags()
	for _, k := range c.words { // the help of forward has them
		set.Lookup(flagName(k.key)).Hidden = true
	}
	set.StringVarP(&c.file, "config", "c", defaultFile, "the configuration `FILE`")
	set.BoolVar(&c.json, "json", false, "as JSON: docs/doctor.md")
	set.BoolVar(&c.all, "all", false, "tell what is sound, too")
	set.BoolVar(&c.noTry, "no-try", false, "look at this host only: do not connect to servers")
	set.BoolVar(&c.active, "active", false, "try PORT and EPRT, too: the server connects to this host")
	set.StringVar(&c.user, "user", "", "log in as `NAME`, with a password that is asked for (default anonymous)")
	set.StringVar(&c.passwordFile, "password-file", "", "read the password from `FILE`, which its owner alone can read")
	set.DurationVar(&c.tryTime, "try-time", servercheck.DefaultTimeouts().Whole, "how long the try of one forward may take")
	return cmd
}

// run examines, tries and tells.
func (c *consultation) run(cmd *cobra.Command, args []string) error {
	if err := c.understand(cmd, args); err != nil {
		return err
	}
	ctx, stop := untilSignal(cmd.Context(), endSignals...)
	defer stop()
	if err := c.askPassword(ctx); err != nil {
		return err
	}
	e := preflight.Examine(ctx, c.table, c.forwards)
	if ctx.Err() != nil { // names were not resolved: what they say of them is not so
		return failed(errors.New("interrupted"))
	}
	found := doctor.Examine(e.Facts, e.Forwards)
	if !c.noTry {
		if screenOf(cmd.ErrOrStderr()).isTerminal() {
			fmt.Fprintf(cmd.ErrOrStderr(), "ftpgate: trying the server of %s, for up to %s each\n", plural(len(e.Forwards), "forward"), c.tryTime)
		}
		found = append(found, c.try(ctx, e)...)
	}
	if err := c.tell(cmd.OutOrStdout(), e.Forwards, found); err != nil {
		return orFailed(err)
	}
	switch {
	case ctx.Err() != nil:
		return failed(errors.New("interrupted: not everything has been tried"))
	case finding.Worst(found) == finding.Fault:
		return failure{status: exitFailed}
	}
	return nil
}

// understand reads the words, and the file where they do not say everything.
func (c *consultation) understand(cmd *cobra.Command, args []string) error {
	given := cmd.Flags().Changed
	switch {
	case len(args) > 2:
		return fmt.Errorf("%q is one word too many: want %s", args[2], cmd.UseLine())
	case given("password-file") && !given("user"):
		return errors.New("--password-file goes with --user NAME")
	case given("user") && c.user == "":
		return errors.New("--user: want a name")
	case c.noTry && given("user"), c.noTry && c.active, c.noTry && given("try-time"):
		return errors.New("--no-try connects to no server: leave out --user, --active and --try-time")
	case c.tryTime <= 0:
		return errors.New("--try-time: want a time like 30s or 3m")
	}
	if len(args) == 2 {
		return c.fromWords(cmd, args[0], args[1])
	}
	for _, k := range c.words {
		if len(k.given) > 0 {
			return fmt.Errorf("--%s goes with LISTEN SERVER: of other forwards the file says it", flagName(k.key))
		}
	}
	return c.fromFile(cmd, args)
}

func (c *consultation) fromWords(cmd *cobra.Command, listen, server string) error {
	if cmd.Flags().Changed("config") {
		return errors.New("-c FILE goes with one FORWARD of it, or with none: LISTEN SERVER is a forward without a file")
	}
	wanted, err := fromWords(listen, server, c.words)
	if err != nil {
		return err
	}
	c.forwards, c.table = wanted.Forwards, forwardTable(wanted.Forwards[0].Listen)
	return nil
}

// fromFile takes the forwards of the file, or the one that is named.
func (c *consultation) fromFile(cmd *cobra.Command, args []string) error {
	wanted, err := load(cmd, c.file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config"):
		return failure{exitWrong, fmt.Errorf("%w: name another with -c FILE, or give LISTEN SERVER", err)}
	case err != nil:
		return err
	}
	c.forwards, c.table = wanted.Forwards, ruleset.DefaultTable
	if len(args) == 1 {
		i := slices.IndexFunc(c.forwards, func(f forward.Forward) bool { return f.Name == args[0] })
		if i < 0 {
			return failure{exitWrong, noForward(args[0], c.file, c.forwards)}
		}
		c.forwards = c.forwards[i : i+1]
	}
	if c.user != "" && len(c.forwards) > 1 {
		return failure{exitWrong, fmt.Errorf("--user goes with one FORWARD: %s has %s, and the password is for one server", c.file, plural(len(c.forwards), "forward"))}
	}
	return nil
}

// noForward says which there are, as long as that can be read.
func noForward(name, file string, forwards []forward.Forward) error {
	const most = 8
	var names []string
	for _, f := range forwards[:min(most, len(forwards))] {
		names = append(names, strconv.Quote(f.Name))
	}
	if more := len(forwards) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("no forward %q in %s, which has %s", name, file, strings.Join(names, ", "))
}

// triesAtOnce keeps a file with many forwards from taking hours where a network is down.
const triesAtOnce = 8

// try drives the servers, those with one name one after the other: a server may count connections of one address.
func (c *consultation) try(ctx context.Context, e *preflight.Examination) []finding.Finding {
	found := make([][]finding.Finding, len(e.Forwards))
	byHost := map[string][]int{}
	for i, f := range e.Forwards {
		byHost[f.Server.Host] = append(byHost[f.Server.Host], i)
	}
	room := make(chan struct{}, triesAtOnce)
	var wait sync.WaitGroup
	for _, indexes := range byHost {
		wait.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			for _, i := range indexes {
				found[i] = c.tryOne(ctx, e, e.Forwards[i])
			}
		})
	}
	wait.Wait()
	return slices.Concat(found...)
}

// tryOne drives one server.
func (c *consultation) tryOne(ctx context.Context, e *preflight.Examination, f forward.Resolved) []finding.Finding {
	if !f.Server4.IsValid() && !f.Server6.IsValid() && len(f.Servers) == 0 {
		return nil // and a finding of its name says so
	}
	config, sound := e.ServerTLS(f.Forward)
	if !sound {
		return []finding.Finding{{Code: servercheck.CodeUnfinished, Severity: finding.Info, Forward: f.Name,
			Text:   "the server was not tried: the files of the forward's TLS with the server come first",
			Remedy: "mend what is said of them; or where they could not be read, run ftpgate doctor as root"}}
	}
	o := servercheck.Options{User: c.user, Password: c.password, TLS: config, Timeouts: c.timeouts(f)}
	if c.active {
		o.Active = netip.IPv4Unspecified() // that of the control connection, of either family
	}
	return servercheck.Run(ctx, f, o)
}

// timeouts are shorter than trial's where its time would be over before a server that is silent is found to be.
func (c *consultation) timeouts(f forward.Resolved) servercheck.Timeouts {
	t := servercheck.DefaultTimeouts()
	share := c.tryTime / time.Duration(max(1, len(f.Servers))) // of an address
	t.Dial, t.Reply, t.Data, t.Whole = min(t.Dial, share/2), min(t.Reply, share/2), min(t.Data, share/4), c.tryTime
	return t
}
