package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/ops/admin"
)

func newKill() *cobra.Command {
	o := &outputFormat{}
	cmd := withSession(&cobra.Command{
		Use:   "kill SESSION",
		Short: "End a session",
		Long: `End a session of the running ftpgate, and the transfer in it: client and server
lose their connections. SESSION is the name in "ftpgate sessions". Without
--socket it finds the ftpgate that has the session.`,
		Args:              exactArgs("SESSION"),
		ValidArgsFunction: first(asking(sessionsOf(false))),
	}, func(ctx context.Context, cmd *cobra.Command, c *admin.Client, args []string) error {
		if err := c.Kill(ctx, args[0]); err != nil {
			return err
		}
		if o.json {
			return printValue(cmd.OutOrStdout(), killed{args[0], true})
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "session %s: ending\n", terminal.Printable(args[0]))
		return orFailed(err)
	})
	o.add(cmd, "docs/man/ftpgate.8.md")
	return cmd
}

// killed is what kill says in JSON.
type killed struct {
	Session string `json:"session"`
	Ending  bool   `json:"ending"`
}
