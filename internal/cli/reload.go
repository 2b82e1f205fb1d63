package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/ops/admin"
)

func newReload() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration file",
		Long: `Make the running ftpgate reload its configuration, and wait until it is in effect.
An unsound file changes nothing: the command prints every fault with its place,
and the exit status is 2. Forwards that did not change keep every session.`,
		Args: noArgs,
	}
	a := addAdminFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.run(cmd, func(ctx context.Context, c *admin.Client) error {
			err := c.Reload(ctx)
			if errors.Is(err, admin.ErrFile) { // bare, so that editors can jump to the places
				fmt.Fprintln(cmd.ErrOrStderr(), terminal.PrintableLines(err.Error()))
				return failure{status: exitUsage}
			}
			if err != nil {
				return err
			}
			status, err := c.Status(ctx)
			if err != nil {
				return err
			}
			return printLines(cmd.OutOrStdout(), reloadLines(terminal.Of(cmd.OutOrStdout()), status))
		})
	}
	return cmd
}

// reloadLines says what the reloaded file has, and what is wrong with its forwards.
func reloadLines(s terminal.Terminal, status admin.Status) []string {
	lines := []string{fmt.Sprintf("%s: read again, %s",
		terminal.Printable(status.File), finding.Plural(len(status.Forwards), "forward"))}
	for _, f := range status.Forwards {
		if f.Problem != "" {
			lines = append(lines, s.Wrap("  "+terminal.Printable(f.Name)+": ", f.Problem)...)
		}
	}
	return lines
}
