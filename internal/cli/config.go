package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
)

func newConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print a configuration file to begin with",
		Long: `Print the reference file: every key with what it means, all of them commented out.
A file of your own begins with it: remove the # before the keys that you set.`,
		Example: "  ftpgate config > " + defaultFile,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), config.CommentedReference())
			return orFailed(err)
		},
	}
}
