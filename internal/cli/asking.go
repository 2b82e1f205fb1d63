package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ftpgate/internal/ops/admin"
)

// adminFlags is how a command reaches the ftpgate that runs.
type adminFlags struct {
	target    string
	tokenFile string
}

func addAdminFlags(cmd *cobra.Command) *adminFlags {
	a := &adminFlags{}
	cmd.Flags().StringVar(&a.target, "socket", admin.DefaultSocket, "where ftpgate answers: the `PATH` of a socket, or http://ADDR:PORT")
	cmd.Flags().StringVar(&a.tokenFile, "token-file", "", "the `FILE` with the token that is asked for over TCP")
	return a
}

// run calls f with a client and a context that a signal ends, and makes an exit status of its error.
func (a *adminFlags) run(cmd *cobra.Command, f func(context.Context, *admin.Client) error) error {
	token := ""
	if a.tokenFile != "" {
		var err error
		if token, err = admin.ReadToken(a.tokenFile); err != nil {
			return runFailure(err)
		}
	}
	ctx, stop := untilSignal(cmd.Context(), endSignals...)
	defer stop()
	c := admin.NewClient(a.target, token)
	defer c.Close()
	return answerFailure(cmd, f(ctx, c))
}

// answerFailure says why there is no answer, or what the answer is where it is a no.
func answerFailure(cmd *cobra.Command, err error) error {
	var own failure
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case errors.Is(err, context.Canceled): // by a signal, whose sender knows
		return failure{status: exitFailed}
	case errors.Is(err, admin.ErrNotRunning): // it begins with the program's name
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return failure{status: exitFailed}
	}
	return runFailure(errors.New(printableLines(err.Error())))
}

// printableLines is safe for each line of a text.
func printableLines(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		lines = append(lines, printable(line))
	}
	return strings.Join(lines, "\n")
}

// printJSON prints what f copies, so that it can do no harm to a terminal.
func printJSON(w io.Writer, f func(io.Writer) error) error {
	out := &jsonEscaper{w: bufio.NewWriter(w)}
	if err := f(out); err != nil {
		return err
	}
	return out.w.Flush()
}

// printLines prints lines in one go.
func printLines(w io.Writer, lines []string) error {
	_, err := io.WriteString(w, strings.Join(append(lines, ""), "\n"))
	return orFailed(err)
}
