package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"ftpgate/internal/try/demo"
)

func newDemo() *cobra.Command {
	var relay bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show in a few seconds what ftpgate does, in a laboratory",
		Long: `Show what ftpgate does, in a laboratory of its own: an FTP server behind a gateway,
without tracking, with kernel tracking and with proxy tracking, in every mode;
and side by side what the kernel cannot follow and the proxy can. Then FTPS:
refused, passed through, terminated and originated, with a wiretap on each side
of the gateway. It needs nothing but this program, and leaves nothing behind.

With --relay it needs no laboratory: server, gateway and client are on this
machine's loopback, and ftpgate copies the data connections itself.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context(), endSignals...)
			defer stop()
			show := demo.Main
			if relay {
				show = demo.Relay
			}
			err := show(ctx, cmd.OutOrStdout(), demo.Options{
				DemoArgs:    []string{"demo"},
				ServeArgs:   []string{"demo", "serve"},
				ForwardArgs: []string{"forward", "--admin-socket", "none"},
			})
			if exit := (*demo.ExitError)(nil); errors.As(err, &exit) {
				return withStatus(exit.Code) // it has printed why
			}
			return orFailed(err)
		},
	}
	cmd.Flags().BoolVar(&relay, "relay", false, "show the relay on loopback, for an ordinary user without "+
		"namespaces")
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
