package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/daemon"
	"ftpgate/internal/gateway"
	"ftpgate/internal/ops/instances"
)

const defaultFile = "/etc/ftpgate/ftpgate.toml"

// withFile makes a command read the file that its flag -c names, and call run with it.
func withFile(cmd *cobra.Command, run func(*cobra.Command, string, *config.Config) error) *cobra.Command {
	cmd.Args, cmd.DisableFlagsInUseLine = noArgs, true
	file := cmd.Flags().StringP("config", "c", defaultFile, "the configuration `FILE`")
	completeFlag(cmd, "config", completeFiles)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := load(cmd, *file)
		if err != nil {
			return err
		}
		return run(cmd, *file, c)
	}
	return cmd
}

// load reads a file; an invalid file ends the command with the status for a wrong command line.
func load(cmd *cobra.Command, file string) (*config.Config, error) {
	c, err := config.Load(file)
	var faults config.Faults
	if errors.As(err, &faults) { // bare, so that editors can jump to the places
		fmt.Fprintln(cmd.ErrOrStderr(), faults)
		return nil, failure{status: exitUsage}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: make one with \"ftpgate config > %s\"", err, file)
	}
	if err != nil {
		return nil, failure{exitUsage, err}
	}
	return c, nil
}

func newRun() *cobra.Command {
	logs := &logFlags{}
	var watch bool
	var watched *daemon.FileWatch
	cmd := withFile(&cobra.Command{
		Use:   "run [-c FILE]",
		Short: "Run the gateway that a file describes",
		Long: `Run the gateway that FILE describes, until interrupted. On SIGHUP it reads the file
again: an invalid file changes nothing, and forwards that did not change keep
every session; changes of [admin] and [log] wait for the next start. With --watch
it does so whenever the file changes. On SIGUSR1 it opens its logs of transfers
again, after logrotate has moved them.`,
		PreRun: func(cmd *cobra.Command, _ []string) { // before the file is read
			if watch {
				watched = daemon.WatchFile(cmd.Flag("config").Value.String())
			}
		},
	}, func(cmd *cobra.Command, file string, c *config.Config) error {
		if err := logs.apply(cmd, c); err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context(), endSignals...)
		defer stop()
		reload, reopen := onSignal(syscall.SIGHUP), onSignal(syscall.SIGUSR1)
		defer signal.Stop(reload)
		defer signal.Stop(reopen)
		log := logger(cmd.ErrOrStderr(), c.Log, nil)
		socket := runSocket(c, log)
		var loader config.Loader
		c.Admin.Socket = socket
		d := daemon.Daemon{
			Table:  ruleset.DefaultTable,
			Config: c,
			File:   file,
			Log:    log,
			Reload: reload,
			Watch:  watched,
			Reopen: reopen,
			Load: func() (*config.Config, error) {
				again, err := loader.Load(file)
				if err != nil {
					return nil, err
				}
				if !again.Admin.SocketGiven {
					again.Admin.Socket = socket // else the place of the start looks like a change of the file
				}
				return again, logs.apply(cmd, again)
			},
			Confine: true,
		}
		return orFailed(d.Run(ctx))
	})
	cmd.Flags().BoolVar(&watch, "watch", false, "read FILE again when it changes")
	logs.addKeys(cmd)
	logs.addQuiet(cmd)
	return cmd
}

// runSocket returns the path of run's admin socket. The default is root's; a unit may write nowhere but in
// its own directory, and an ordinary user has another one.
func runSocket(c *config.Config, log *slog.Logger) string {
	unit := instances.Here(config.DefaultSocket).Unit
	switch {
	case c.Admin.SocketGiven:
		return c.Admin.Socket
	case unit != "":
		return filepath.Join(unit, filepath.Base(config.DefaultSocket))
	case os.Geteuid() != 0:
		return newSocket(log)
	}
	return config.DefaultSocket
}

// onSignal returns a channel that receives a signal until signal.Stop; several that arrive while one is
// handled count as one.
func onSignal(which os.Signal) chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, which)
	return signals
}

func newRules() *cobra.Command {
	o := &outputFormat{}
	cmd := withFile(&cobra.Command{
		Use:   "rules [-c FILE]",
		Short: "Print the nftables ruleset that a file asks for",
		Long: `Print the nftables ruleset that FILE asks for, as nft -f loads it, and change
nothing. It resolves the names of servers now.`,
	}, func(cmd *cobra.Command, _ string, c *config.Config) error {
		ctx, stop := untilSignal(cmd.Context(), endSignals...)
		defer stop()
		g := gateway.New(ruleset.DefaultTable, nil, net.DefaultResolver,
			logger(cmd.ErrOrStderr(), c.Log, nil))
		forwards, findings := g.Resolve(ctx, c.Forwards)
		rules := ruleset.Build(ruleset.DefaultTable, forwards).Text()
		if o.json {
			return printRulesJSON(cmd.OutOrStdout(), rules, findings)
		}
		fmt.Fprint(cmd.OutOrStdout(), rules)
		for _, f := range findings {
			fmt.Fprintln(cmd.ErrOrStderr(), "ftpgate:", f)
		}
		if len(findings) > 0 {
			return runFailure(fmt.Errorf("%s left out", finding.Plural(len(findings), "forward")))
		}
		return nil
	})
	o.add(cmd, "docs/man/ftpgate.8.md")
	return cmd
}

// printRulesJSON prints a ruleset, and why forwards are missing in it. Missing ones make the exit status 1.
func printRulesJSON(w io.Writer, rules string, missing []finding.Finding) error {
	out := struct {
		Table   string   `json:"table"`
		Ruleset string   `json:"ruleset"`
		LeftOut []string `json:"left_out"`
	}{ruleset.DefaultTable, rules, []string{}}
	for _, f := range missing {
		out.LeftOut = append(out.LeftOut, f.String())
	}
	if err := printValue(w, out); err != nil {
		return orFailed(err)
	}
	if len(missing) > 0 {
		return failure{status: exitFailed}
	}
	return nil
}
