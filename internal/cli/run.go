package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
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
	return withFile(&cobra.Command{
		Use:   "run [-c FILE]",
		Short: "Run the gateway that a file describes",
		Long: `Run the gateway that FILE describes, until interrupted. On SIGHUP it reads the file
again: an invalid file changes nothing, and forwards that did not change keep
every session; changes of [admin] and [log] wait for the next start. On SIGUSR1
it opens its logs of transfers again, after logrotate has moved them.`,
	}, func(cmd *cobra.Command, file string, c *config.Config) error {
		ctx, stop := untilSignal(cmd.Context(), endSignals...)
		defer stop()
		reload, reopen := onSignal(syscall.SIGHUP), onSignal(syscall.SIGUSR1)
		defer signal.Stop(reload)
		defer signal.Stop(reopen)
		if dir := os.Getenv("RUNTIME_DIRECTORY"); dir != "" && !c.Admin.SocketGiven {
			// Of a unit that may write nowhere else.
			c.Admin.Socket = filepath.Join(dir, filepath.Base(config.DefaultSocket))
		}
		d := daemon.Daemon{
			Table:   ruleset.DefaultTable,
			Config:  c,
			File:    file,
			Log:     logger(cmd.ErrOrStderr()),
			Reload:  reload,
			Reopen:  reopen,
			Load:    func() (*config.Config, error) { return config.Load(file) },
			Confine: true,
		}
		return orFailed(d.Run(ctx))
	})
}

// onSignal returns a channel that receives a signal until signal.Stop; several that arrive while one is
// handled count as one.
func onSignal(which os.Signal) chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, which)
	return signals
}

func newCheck() *cobra.Command {
	return withFile(&cobra.Command{
		Use:   "check [-c FILE]",
		Short: "Report every fault of a file",
		Long: `Report every fault of FILE at once, with line and column. For a valid file, print
how each forward handles FTPS, and why, with a warning where clients
could take each other's files. It needs no privilege and looks neither
at this host nor at the network.`,
	}, func(cmd *cobra.Command, file string, c *config.Config) error {
		out := bufio.NewWriter(cmd.OutOrStdout())
		fmt.Fprintf(out, "%s: OK, %s\n", file, finding.Plural(len(c.Forwards), "forward"))
		for _, f := range c.Forwards {
			way, why := f.FTPS()
			fmt.Fprintf(out, "  %s: FTPS %s: %s\n", f.Name, way, why)
			if risk, remedy := f.FTPSRisk(); risk != "" {
				fmt.Fprintf(out, "  %s: warning: %s: %s\n", f.Name, risk, remedy)
			}
		}
		return orFailed(out.Flush())
	})
}

func newRules() *cobra.Command {
	return withFile(&cobra.Command{
		Use:   "rules [-c FILE]",
		Short: "Print the nftables ruleset that a file asks for",
		Long: `Print the nftables ruleset that FILE asks for, as nft -f loads it, and change
nothing. It resolves the names of servers now.`,
	}, func(cmd *cobra.Command, _ string, c *config.Config) error {
		ctx, stop := untilSignal(cmd.Context(), endSignals...)
		defer stop()
		g := gateway.New(ruleset.DefaultTable, nil, net.DefaultResolver, logger(cmd.ErrOrStderr()))
		forwards, findings := g.Resolve(ctx, c.Forwards)
		fmt.Fprint(cmd.OutOrStdout(), ruleset.Build(ruleset.DefaultTable, forwards).Text())
		for _, f := range findings {
			fmt.Fprintln(cmd.ErrOrStderr(), "ftpgate:", f)
		}
		if len(findings) > 0 {
			return runFailure(fmt.Errorf("%s left out", finding.Plural(len(findings), "forward")))
		}
		return nil
	})
}
