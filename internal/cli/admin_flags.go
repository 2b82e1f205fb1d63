package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/config"
	"ftpgate/internal/ops/admin"
)

// adminFlags are the flags with which a command reaches the running ftpgate.
type adminFlags struct {
	target    string
	tokenFile string
}

// withDaemon makes a command call ask with a client of the running ftpgate that its flags name, and a context
// that a signal ends.
func withDaemon(cmd *cobra.Command,
	ask func(ctx context.Context, cmd *cobra.Command, c *admin.Client, args []string) error) *cobra.Command {
	a := &adminFlags{}
	cmd.Flags().StringVar(&a.target, "socket", config.DefaultSocket,
		"the `PATH` of ftpgate's socket, or http://ADDR:PORT")
	cmd.Flags().StringVar(&a.tokenFile, "token-file", "", "the `FILE` with the token for http://ADDR:PORT")
	completeFlag(cmd, "socket", completeFiles)
	completeFlag(cmd, "token-file", completeFiles)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.run(cmd, func(ctx context.Context, c *admin.Client) error { return ask(ctx, cmd, c, args) })
	}
	return cmd
}

// run calls f with a client and a context that a signal ends, and turns its error into an exit status.
func (a *adminFlags) run(cmd *cobra.Command, f func(context.Context, *admin.Client) error) error {
	ctx, stop := untilSignal(cmd.Context(), endSignals...)
	defer stop()
	c, err := a.client()
	if err != nil {
		return runFailure(err)
	}
	defer c.Close()
	return answerFailure(cmd, f(ctx, c))
}

// client returns a client for the running ftpgate. It does not connect yet.
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
