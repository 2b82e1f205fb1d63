package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/config"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/instances"
)

// adminFlags is which running ftpgates a command asks.
type adminFlags struct {
	target    string // a socket, or http://ADDR:PORT; empty: those that are found
	tokenFile string
	instance  string // one of those that are found; empty: all
	places    instances.Places
}

// askFunc asks a running ftpgate what a command wants to know.
type askFunc func(ctx context.Context, cmd *cobra.Command, c *admin.Client, args []string) error

// withSession makes a command call ask with a client of the ftpgate that has the session of its first
// argument.
func withSession(cmd *cobra.Command, ask askFunc) *cobra.Command {
	return withClient(cmd, func(ctx context.Context, d *daemons, args []string) (*admin.Client, error) {
		return d.having(ctx, args[0])
	}, ask)
}

// withDaemon makes a command call ask with a client of the gateway of this host.
func withDaemon(cmd *cobra.Command, ask askFunc) *cobra.Command {
	return withClient(cmd, func(_ context.Context, d *daemons, _ []string) (*admin.Client, error) {
		return d.gateway()
	}, ask)
}

// withClient makes a command call ask with the client that choose returns, and a context that a signal ends.
func withClient(cmd *cobra.Command,
	choose func(context.Context, *daemons, []string) (*admin.Client, error), ask askFunc) *cobra.Command {
	return withDaemons(cmd, func(ctx context.Context, cmd *cobra.Command, a *adminFlags,
		args []string) error {
		d, err := a.reach(ctx)
		if err != nil {
			return err
		}
		defer d.close()
		c, err := choose(ctx, d, args)
		if err != nil {
			return err
		}
		return ask(ctx, cmd, c, args)
	})
}

// withDaemons makes a command call ask with the flags that say which ftpgates to ask, and a context that a
// signal ends.
func withDaemons(cmd *cobra.Command,
	ask func(ctx context.Context, cmd *cobra.Command, a *adminFlags, args []string) error) *cobra.Command {
	a := &adminFlags{places: instances.Here(config.DefaultSocket)}
	cmd.Flags().StringVar(&a.target, "socket", "",
		"the `PATH` of ftpgate's socket, or http://ADDR:PORT (default those of all that run)")
	cmd.Flags().StringVar(&a.tokenFile, "token-file", "", "the `FILE` with the token for http://ADDR:PORT")
	cmd.Flags().StringVar(&a.instance, "instance", "",
		"the `ONE` of several ftpgates: its process, its file, or a forward's name or address")
	completeFlag(cmd, "socket", completeFiles)
	completeFlag(cmd, "token-file", completeFiles)
	completeFlag(cmd, "instance", offer(processes))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if a.target != "" && a.instance != "" {
			return errors.New("--socket and --instance both name one ftpgate: give one of them")
		}
		ctx, stop := untilSignal(cmd.Context(), endSignals...)
		defer stop()
		return answerFailure(cmd, ask(ctx, cmd, a, args))
	}
	return cmd
}

// newSocket returns the path for the admin socket of this process, where the commands find it that ask every
// ftpgate; "" if there is no place for it, which it logs.
func newSocket(log *slog.Logger) string {
	socket, err := instances.Here(config.DefaultSocket).NewSocket(os.Getpid())
	if err != nil {
		log.Warn("no place for the admin socket: status, sessions and explain will not work", "err", err,
			"remedy", "name a socket: --admin-socket PATH, or admin.socket in the file")
	}
	return socket
}

// client returns a client for what --socket names. It does not connect yet.
func (a *adminFlags) client() (*admin.Client, error) {
	token := ""
	if a.tokenFile != "" {
		var err error
		if token, err = admin.ReadToken(a.tokenFile); err != nil {
			return nil, err
		}
	}
	return admin.NewClient(a.target, token), nil
}

// answerFailure turns an error of the admin API into an exit status, and prints why there is no answer.
func answerFailure(cmd *cobra.Command, err error) error {
	var own failure
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case errors.Is(err, context.Canceled): // by a signal
		return failure{status: exitFailed}
	case errors.Is(err, admin.ErrNotRunning): // its text begins with the program's name
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return failure{status: exitFailed}
	case errors.Is(err, admin.ErrNoPermission):
		err = fmt.Errorf("%w: be root or a member of group %s", err, config.DefaultGroup)
	}
	return runFailure(errors.New(terminal.PrintableLines(err.Error())))
}

func printLines(w io.Writer, lines []string) error {
	_, err := io.WriteString(w, strings.Join(append(lines, ""), "\n"))
	return orFailed(err)
}
