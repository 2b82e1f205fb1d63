// Package cli is ftpgate's command line: the commands, their flags, and what they print. The flags of
// "forward" are keys of the file: package config declares them.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ftpgate/internal/version"
)

// Exit statuses of the program.
const (
	exitFailed = 1 // it failed while running, or the host is not ready
	exitUsage  = 2 // the command line or the file is wrong
)

// failure is an error that is not about the command line.
type failure struct {
	status int
	err    error // nil: everything is printed
}

func (f failure) Error() string { return fmt.Sprint(f.err) }
func (f failure) Unwrap() error { return f.err }

func runFailure(err error) error { return failure{exitFailed, err} }

// Main runs the command that args name, and returns the exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	var f failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &f):
		if f.err != nil {
			printError(stderr, f.err)
		}
		return f.status
	}
	printError(stderr, err)
	fmt.Fprintf(stderr, "Try '%s --help'.\n", cmd.CommandPath())
	return exitUsage
}

// printError prints an error, with the program's name before each of its lines.
func printError(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(w, "ftpgate:", line)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "ftpgate",
		Short: "Make FTP servers reachable through a gateway that translates addresses",
		Long: `ftpgate makes an FTP server reachable through a Linux gateway that translates
addresses: clients connect to the gateway and know nothing of the server.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              onlySubcommands,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(explainUnknownFlag)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.Version = version.String()
	root.SetVersionTemplate("ftpgate {{.Version}}\n")
	root.InitDefaultVersionFlag() // else only ftpgate -h shows it, and not ftpgate help
	root.SetContext(context.Background())
	root.SetHelpCommand(newHelp())
	root.AddCommand(newForward(), newOutbound(), newRun(), newCheck(), newRules(), newConfig(), newImport(),
		newDemo(), newLab(), newStatus(), newSessions(), newTop(), newExplain(), newKill(),
		newBan(), newUnban(), newBans(), newReload(), newDoctor())
	return root
}

// untilSignal returns a context that one of the signals ends; a second signal ends the process.
func untilSignal(ctx context.Context, signals ...os.Signal) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

var endSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM}
