package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/ops/admin"
)

func newReload() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the configuration file read again",
		Long: `Have the ftpgate that runs read its file again, and wait until that holds. An
unsound file changes nothing: its faults are told, each with its place, and the
exit status is 2. Forwards that did not change keep every session.`,
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
			lines := []string{fmt.Sprintf("%s: read again, %s", terminal.Printable(status.File), plural(len(status.Forwards), "forward"))}
			for _, f := range status.Forwards {
				if f.Problem != "" {
					lines = append(lines, terminal.Of(cmd.OutOrStdout()).Wrap("  "+terminal.Printable(f.Name)+": ", f.Problem)...)
				}
			}
			return printLines(cmd.OutOrStdout(), lines)
		})
	}
	return cmd
}
