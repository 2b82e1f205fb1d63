package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ftpgate/internal/try/lab"
)

func newLab() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "A laboratory of network namespaces to try things out in",
		Long: fmt.Sprintf(`A laboratory of three hosts, in network namespaces of this machine:

  client               gateway                                      server
  %-13s ------ lan0 %-13s   wan0 %-15s ------ %s
  %-13s             %-13s        %-15s        %s

Neither client nor server has a route to the other: the gateway must translate.
It needs root, or a kernel that gives namespaces to ordinary users.`,
			lab.ClientAddr4, lab.GatewayLAN4, lab.GatewayWAN4, lab.ServerAddr4,
			lab.ClientAddr6, lab.GatewayLAN6, lab.GatewayWAN6, lab.ServerAddr6),
		Example: `  ftpgate lab up
  ftpgate lab exec server vsftpd /root/vsftpd.conf
  ftpgate lab exec gateway ftpgate forward 192.168.5.2:2121 203.0.113.21
  ftpgate lab exec client lftp 192.168.5.2:2121
  ftpgate lab down`,
		Args: onlySubcommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "up", Short: "Set the laboratory up", Args: noArgs,
			RunE: func(*cobra.Command, []string) error { return orFailed(lab.Up()) },
		},
		&cobra.Command{
			Use: "down", Short: "Remove the laboratory, with what runs in it", Args: noArgs,
			RunE: func(*cobra.Command, []string) error { return orFailed(lab.Down()) },
		},
		&cobra.Command{
			Use: "exec HOST CMD...", Short: "Run a command on client, gateway or server",
			DisableFlagParsing: true, DisableFlagsInUseLine: true, // flags belong to CMD
			ValidArgsFunction: completeLabExec,
			RunE: func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
					return cmd.Help()
				}
				if err := exactArgs("HOST", "CMD...")(cmd, args); err != nil {
					return err
				}
				if hosts := labHosts(); !slices.Contains(hosts, args[0]) {
					return fmt.Errorf("no host %q: there are %s", args[0], strings.Join(hosts, ", "))
				}
				status, err := lab.Exec(args[0], args[1:])
				if err != nil {
					return runFailure(err)
				}
				return withStatus(status)
			},
		},
		&cobra.Command{
			Use: "hold", Hidden: true, Args: noArgs,
			RunE: func(*cobra.Command, []string) error { return withStatus(lab.HolderMain()) },
		},
	)
	return cmd
}

func labHosts() []string { return []string{lab.ClientName, lab.GatewayName, lab.ServerName} }

// completeLabExec offers a host, and behind it files.
func completeLabExec(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return labHosts(), cobra.ShellCompDirectiveNoFileComp
}

func orFailed(err error) error {
	if err == nil {
		return nil
	}
	return runFailure(err)
}

// withStatus ends the program with a status; the reason is already printed.
func withStatus(status int) error {
	if status == 0 {
		return nil
	}
	return failure{status: status}
}
