package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/config"
	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/diagnose/doctor"
	"ftpgate/internal/diagnose/preflight"
	"ftpgate/internal/diagnose/servercheck"
	"ftpgate/internal/gateway/bans"
)

// doctorCommand is the command doctor with its flags, and what they ask for.
type doctorCommand struct {
	file string
	keys []*keyFlag // of a forward without a file

	outputFormat
	all, noTry, active bool
	user, passwordFile string
	tryTime            time.Duration
	password           string
	table              string
	forwards           []forward.Forward
	deny               ban.Deny // of the file
}

func newDoctor() *cobra.Command {
	c := &doctorCommand{keys: keyFlags(config.ForwardKeys())}
	cmd := &cobra.Command{
		Use:   "doctor [flags] [FORWARD | LISTEN SERVER]",
		Short: "Report what is in the way of forwards, and what to do",
		Long: `Check every forward of the file, one of them (FORWARD), or one without a file
(LISTEN SERVER, with the flags of "ftpgate forward"). doctor looks at this host,
then it tries each forward's server as clients do: login, PASV and EPSV, in clear
or TLS, with a listing of one directory over each.

It reports what is in the way, and what to do.

It changes nothing, here or on the server, and does not disturb a running
ftpgate. Any user may run it; as an ordinary user it lists what it could not read.

Exit status: 0 nothing is wrong, though there may be warnings; 1 there are faults,
or it was interrupted; 2 the command line or the file is wrong.`,
		Example: `  ftpgate doctor
  ftpgate doctor --no-try -c ftpgate.toml
  ftpgate doctor --active --user alice archive
  ftpgate doctor --tls-server required 2121 ftp.example.com`,
		Args:                  cobra.ArbitraryArgs,
		ValidArgsFunction:     first(offer(forwardsOfFile)),
		RunE:                  func(cmd *cobra.Command, args []string) error { return c.run(cmd, args) },
		DisableFlagsInUseLine: true,
	}
	addKeyFlags(cmd, c.keys)
	set := cmd.Flags()
	for _, k := range c.keys { // the help of forward lists them
		set.Lookup(k.Flag()).Hidden = true
	}
	set.StringVarP(&c.file, "config", "c", defaultFile, "the configuration `FILE`")
	completeFlag(cmd, "config", completeFiles)
	c.add(cmd, "docs/doctor.md")
	set.BoolVar(&c.all, "all", false, "also list checks that passed")
	set.BoolVar(&c.noTry, "no-try", false, "check this host only: do not connect to servers")
	set.BoolVar(&c.active, "active", false, "also try PORT and EPRT: the server connects to this host")
	set.StringVar(&c.user, "user", "",
		"log in as `NAME`; the terminal asks for the password (default anonymous)")
	set.StringVar(&c.passwordFile, "password-file", "",
		"read the password from `FILE`, which only its owner may read")
	completeFlag(cmd, "password-file", completeFiles)
	set.DurationVar(&c.tryTime, "try-time", servercheck.DefaultTimeouts().Whole,
		"how long to try one forward")
	return cmd
}

// run checks the host and the servers, and prints the findings.
func (c *doctorCommand) run(cmd *cobra.Command, args []string) error {
	if err := c.parseArgs(cmd, args); err != nil {
		return err
	}
	ctx, stop := untilSignal(cmd.Context(), endSignals...)
	defer stop()
	if err := c.askPassword(ctx); err != nil {
		return err
	}
	e := preflight.Examine(ctx, c.table, c.forwards)
	if ctx.Err() != nil { // names are missing only because they were not resolved
		return runFailure(errors.New("interrupted"))
	}
	found := doctor.Examine(e.Facts, e.Forwards)
	denied, cannotDeny := bans.Read(c.deny)
	found = slices.Concat(found, cannotDeny, bans.Servers(denied.Refuses, e.Forwards))
	if !c.noTry {
		if terminal.Of(cmd.ErrOrStderr()).IsTerminal() {
			fmt.Fprintf(cmd.ErrOrStderr(), "ftpgate: trying the server of %s, for up to %s each\n",
				finding.Plural(len(e.Forwards), "forward"), c.tryTime)
		}
		found = append(found, c.tryServers(ctx, e)...)
	}
	if err := c.print(cmd.OutOrStdout(), e.Forwards, found); err != nil {
		return orFailed(err)
	}
	switch {
	case ctx.Err() != nil:
		return runFailure(errors.New("interrupted: not everything has been tried"))
	case finding.Worst(found) == finding.Fault:
		return failure{status: exitFailed}
	}
	return nil
}

// parseArgs checks the arguments and flags, and reads the file if they do not name a forward themselves.
func (c *doctorCommand) parseArgs(cmd *cobra.Command, args []string) error {
	given := cmd.Flags().Changed
	switch {
	case len(args) > 2:
		return fmt.Errorf("unexpected argument %q. Usage: %s", args[2], cmd.UseLine())
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
	for _, k := range c.keys {
		if len(k.given) > 0 {
			return fmt.Errorf("--%s goes with LISTEN SERVER: for other forwards it is set in the file",
				k.Flag())
		}
	}
	return c.fromFile(cmd, args)
}

func (c *doctorCommand) fromWords(cmd *cobra.Command, listen, server string) error {
	if cmd.Flags().Changed("config") {
		return errors.New("-c FILE goes with one FORWARD of it, or with none: LISTEN SERVER is a forward " +
			"without a file")
	}
	wanted, err := fromFlags(listen, server, c.keys)
	if err != nil {
		return err
	}
	c.forwards, c.table = wanted.Forwards, forwardTable(wanted.Forwards[0].Listen)
	return nil
}

// fromFile uses the forwards of the file, or only the one that args name.
func (c *doctorCommand) fromFile(cmd *cobra.Command, args []string) error {
	wanted, err := load(cmd, c.file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config"):
		return failure{exitUsage, fmt.Errorf("%w, name another with -c FILE, or give LISTEN SERVER", err)}
	case err != nil:
		return err
	}
	c.forwards, c.deny, c.table = wanted.Forwards, wanted.Deny, ruleset.DefaultTable
	if len(args) == 1 {
		i := slices.IndexFunc(c.forwards, func(f forward.Forward) bool { return f.Name == args[0] })
		if i < 0 {
			return failure{exitUsage, noForward(args[0], c.file, c.forwards)}
		}
		c.forwards = c.forwards[i : i+1]
	}
	if c.user != "" && len(c.forwards) > 1 {
		return failure{exitUsage, fmt.Errorf("--user goes with one FORWARD: %s has %s, and the password is "+
			"for one server", c.file, finding.Plural(len(c.forwards), "forward"))}
	}
	return nil
}

// noForward returns an error that lists the first forwards.
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

// triesAtOnce keeps a file with many forwards from taking hours if a network is down.
const triesAtOnce = 8

// tryServers tries the servers, those with one name one after the other: a server may limit the connections
// of one address.
func (c *doctorCommand) tryServers(ctx context.Context, e *preflight.Examination) []finding.Finding {
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
				found[i] = c.tryServer(ctx, e, e.Forwards[i])
			}
		})
	}
	wait.Wait()
	return slices.Concat(found...)
}

func (c *doctorCommand) tryServer(ctx context.Context, e *preflight.Examination,
	f forward.Resolved) []finding.Finding {
	if len(f.ServerAddrs()) == 0 {
		return nil // a finding about its name says so
	}
	config, trust, usable := e.ServerTLS(f.Forward)
	if !usable {
		return []finding.Finding{{Code: servercheck.CodeUnfinished, Severity: finding.Info, Forward: f.Name,
			Text:   "the server was not tried: the files of the forward's TLS with the server come first",
			Remedy: "fix those findings first; if a file could not be read, run ftpgate doctor as root"}}
	}
	return servercheck.Run(ctx, f, servercheck.Options{User: c.user, Password: c.password, TLS: config,
		Trust: trust, Active: c.active, Timeouts: c.timeouts(f)})
}

// timeouts returns shorter timeouts than the default if the time for the try is too short to detect a silent
// server.
func (c *doctorCommand) timeouts(f forward.Resolved) servercheck.Timeouts {
	t := servercheck.DefaultTimeouts()
	share := c.tryTime / time.Duration(max(1, len(f.Servers))) // of an address
	t.Dial, t.Reply, t.Data = min(t.Dial, share/2), min(t.Reply, share/2), min(t.Data, share/4)
	t.Whole = c.tryTime
	return t
}
