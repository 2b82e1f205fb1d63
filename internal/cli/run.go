package cli

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/daemon"
	"ftpgate/internal/gateway"
	"ftpgate/internal/observe/transferlog"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/version"
)

const defaultFile = "/etc/ftpgate/ftpgate.toml"

func fileFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("config", "c", defaultFile, "the configuration `FILE`")
}

// load reads a file; an unsound file ends the command with the status for a wrong command line.
func load(cmd *cobra.Command, file string) (*config.Config, error) {
	c, err := config.Load(file)
	var faults config.Faults
	if errors.As(err, &faults) { // bare, so that editors can jump to the places
		fmt.Fprintln(cmd.ErrOrStderr(), faults)
		return nil, failure{status: exitUsage}
	}
	if err != nil {
		return nil, failure{exitUsage, err}
	}
	return c, nil
}

func newRun() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [-c FILE]",
		Short: "Run the gateway that a file describes",
		Long: `Run the gateway that FILE describes, until interrupted. On SIGHUP it reads the file
again: an unsound file changes nothing, and forwards that did not change keep
every session; changes of [admin] and [log] wait for the next start. On SIGUSR1
it opens its logs of transfers again, after logrotate has moved them.`,
		Args: noArgs, DisableFlagsInUseLine: true,
	}
	file := fileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := load(cmd, *file)
		if err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context(), endSignals...)
		defer stop()
		reload, reopen := onSignal(syscall.SIGHUP), onSignal(syscall.SIGUSR1)
		defer signal.Stop(reload)
		defer signal.Stop(reopen)
		d := daemon.Daemon{
			Table:     ruleset.DefaultTable,
			Settings:  settings(c),
			Log:       logger(cmd.ErrOrStderr()),
			Reload:    reload,
			Reopen:    reopen,
			Endpoints: endpointsOf(c, *file, true),
			Confine:   true,
			Load: func() (daemon.Settings, error) {
				c, err := config.Load(*file)
				if err != nil {
					return daemon.Settings{}, err
				}
				return settings(c), nil
			},
		}
		return orFailed(d.Run(ctx))
	}
	return cmd
}

func settings(c *config.Config) daemon.Settings {
	return daemon.Settings{Forwards: c.Forwards, Resolve: c.Resolve, Drain: c.Drain}
}

// endpointsOf returns where a daemon answers and logs. A socket that nobody has asked for is not needed.
func endpointsOf(c *config.Config, file string, socket bool) daemon.Endpoints {
	a := c.Admin
	s := daemon.Endpoints{Version: version.String(), File: file,
		Transfers: transferlog.Settings{Transfers: c.Log.Transfers, Xferlog: c.Log.Xferlog}}
	if !socket {
		a.Socket = ""
	} else if dir := os.Getenv("RUNTIME_DIRECTORY"); dir != "" && !a.SocketGiven {
		// Of a unit that may write nowhere else.
		a.Socket = filepath.Join(dir, filepath.Base(config.DefaultSocket))
	}
	if a.Socket == "" && a.Listen.Port == 0 {
		return s
	}
	s.Admin = &admin.Options{
		Socket: a.Socket, Group: a.Group, NeedGroup: a.GroupGiven,
		Listen: a.Listen, TokenFile: a.TokenFile,
	}
	s.MustAdmin = a.SocketGiven || a.Listen.Port != 0
	return s
}

// onSignal returns a channel that receives a signal until signal.Stop; several that arrive while one is handled
// count as one.
func onSignal(which os.Signal) chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, which)
	return signals
}

func newCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [-c FILE]",
		Short: "Report every fault of a file",
		Long: `Report every fault of FILE at once, with line and column. For a sound file, print
which way FTPS takes through each forward, and why. It needs no privilege and
looks neither at this host nor at the network.`,
		Args: noArgs, DisableFlagsInUseLine: true,
	}
	file := fileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := load(cmd, *file)
		if err != nil {
			return err
		}
		out := bufio.NewWriter(cmd.OutOrStdout())
		fmt.Fprintf(out, "%s: sound, %s\n", *file, plural(len(c.Forwards), "forward"))
		for _, f := range c.Forwards {
			way, why := f.FTPS()
			fmt.Fprintf(out, "  %s: FTPS %s: %s\n", f.Name, way, why)
		}
		return orFailed(out.Flush())
	}
	return cmd
}

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules [-c FILE]",
		Short: "Print the nftables ruleset that a file asks for",
		Long: `Print the nftables ruleset that FILE asks for, as nft -f loads it, and change
nothing. It resolves the names of servers now.`,
		Args: noArgs, DisableFlagsInUseLine: true,
	}
	file := fileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := load(cmd, *file)
		if err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context(), endSignals...)
		defer stop()
		g := gateway.New(ruleset.DefaultTable, nil, net.DefaultResolver, logger(cmd.ErrOrStderr()))
		forwards, findings := g.Resolve(ctx, c.Forwards)
		fmt.Fprint(cmd.OutOrStdout(), ruleset.Build(ruleset.DefaultTable, forwards).Text())
		for _, f := range findings {
			fmt.Fprintln(cmd.ErrOrStderr(), "ftpgate:", f)
		}
		if len(findings) > 0 {
			return runFailure(fmt.Errorf("%s left out", plural(len(findings), "forward")))
		}
		return nil
	}
	return cmd
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
