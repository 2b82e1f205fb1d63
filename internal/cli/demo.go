package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/try/demo"
)

// noAct is no number of an act. 0 would run all of them.
const noAct = -1

func newDemo() *cobra.Command {
	var relay bool
	var act int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show in a few seconds what ftpgate does, in a laboratory",
		Long: `Show what ftpgate does, in a laboratory of its own: an FTP server behind a gateway,
without tracking, with kernel tracking and with proxy tracking, in every mode;
and side by side what the kernel cannot follow and the proxy can. Then FTPS:
refused, passed through, terminated and originated, with a wiretap on each side
of the gateway. It needs nothing but this program, and leaves nothing behind.

It has four acts, and ends with what they show, and with what "ftpgate explain"
says of a session that failed. --act runs one of them.

With --relay it needs no laboratory: server, gateway and client are on this
machine's loopback, and ftpgate copies the data connections itself.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context(), endSignals...)
			defer stop()
			again := []string{"demo"}
			if cmd.Flags().Changed("act") {
				act = cmp.Or(act, noAct)
				again = append(again, fmt.Sprintf("--act=%d", act))
			}
			show := demo.Main
			if relay {
				show = demo.Relay
			}
			out := cmd.OutOrStdout()
			if terminal.Of(out).Colors(os.Getenv) {
				out = demo.Colored(out)
			}
			err := show(ctx, out, demo.Options{
				DemoArgs:    again,
				ServeArgs:   []string{"demo", "serve"},
				ForwardArgs: []string{"forward", "--admin-socket", "none"},
				ExplainArgs: []string{"explain"},
				Act:         act,
			})
			if errors.Is(err, demo.ErrNoAct) {
				return err
			}
			if exit := (*demo.ExitError)(nil); errors.As(err, &exit) {
				return withStatus(exit.Code) // it has printed why
			}
			return orFailed(err)
		},
	}
	cmd.Flags().BoolVar(&relay, "relay", false, "show the relay on loopback, for an ordinary user without "+
		"namespaces")
	cmd.Flags().IntVar(&act, "act", 0, "run only this act, 1 to 4 (default all)")
	cmd.MarkFlagsMutuallyExclusive("relay", "act")
	cmd.AddCommand(newDemoServe())
	return cmd
}

func newDemoServe() *cobra.Command {
	var e demo.TLSOptions
	cmd := &cobra.Command{
		Use: "serve ADDR", Short: "The demo's FTP server", Hidden: true, Args: exactArgs("ADDR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := untilSignal(cmd.Context(), endSignals...)
			defer stop()
			return orFailed(demo.Serve(ctx, args[0], e, cmd.InOrStdin(), cmd.OutOrStdout()))
		},
	}
	cmd.Flags().StringVar(&e.Cert, "tls-cert", "", "its certificate, for clients that send AUTH TLS")
	cmd.Flags().StringVar(&e.Key, "tls-key", "", "the certificate's key")
	cmd.Flags().BoolVar(&e.Required, "tls-only", false, "accept nothing in clear")
	return cmd
}
