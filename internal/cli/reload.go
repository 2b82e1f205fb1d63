package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/ops/admin"
)

func newReload() *cobra.Command {
	o := &outputFormat{}
	cmd := withDaemon(&cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration file",
		Long: `Make the running ftpgate reload its configuration, and wait until it is in effect.
An invalid file changes nothing: the command prints every fault with its place,
and the exit status is 2. Forwards that did not change keep every session. Of
several ftpgates it means the one at /run/ftpgate.sock, or your only one that has a
file.`,
		Args: noArgs,
	}, func(ctx context.Context, cmd *cobra.Command, c *admin.Client, _ []string) error {
		err := c.Reload(ctx)
		if errors.Is(err, admin.ErrFile) { // bare, so that editors can jump to the places
			fmt.Fprintln(cmd.ErrOrStderr(), terminal.PrintableLines(err.Error()))
			return failure{status: exitUsage}
		}
		if err != nil {
			return err
		}
		if o.json {
			return terminal.PrintJSON(cmd.OutOrStdout(), func(w io.Writer) error {
				return c.StatusJSON(ctx,
					w)
			})
		}
		status, err := c.Status(ctx)
		if err != nil {
			return err
		}
		return printLines(cmd.OutOrStdout(), reloadLines(terminal.Of(cmd.OutOrStdout()), status))
	})
	o.add(cmd, "docs/api.md: GET /v1/status")
	return cmd
}

// reloadLines returns the number of forwards, their problems, and the warnings after a reload.
func reloadLines(s terminal.Terminal, status admin.Status) []string {
	lines := []string{fmt.Sprintf("%s: read again, %s",
		terminal.Printable(status.File), finding.Plural(len(status.Forwards), "forward"))}
	for _, f := range status.Forwards {
		if f.Problem != "" {
			lines = append(lines, s.Wrap("  "+terminal.Printable(f.Name)+": ", f.Problem)...)
		}
	}
	for _, warning := range status.Warnings {
		lines = append(lines, s.Wrap("  warning: ", warning)...)
	}
	return lines
}
