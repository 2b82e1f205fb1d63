package cli

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/daemon"
)

func newForward() *cobra.Command {
	flags := keyFlags(config.ForwardKeys())
	logs := &logFlags{}
	cmd := &cobra.Command{
		Use:   "forward [flags] LISTEN SERVER",
		Short: "Publish one FTP server, until interrupted",
		Long: `Publish one FTP server at an address of this gateway, without a file, until
interrupted. LISTEN is ADDR:PORT, :PORT or PORT (every address of the gateway);
SERVER is HOST[:PORT], a name or an address.

ftpgate itself follows the FTP dialogue, unless --tracking says otherwise. The
kernel carries data connections where ftpgate has the right to change the
network. For an ordinary user, and between IPv4 and IPv6, ftpgate carries them.

FTPS is refused unless you choose how to handle it: --server-ports passes it
through unread, --tls-client ends the TLS of clients at the gateway, --tls-server
speaks TLS with the server, and the last two together encrypt anew.

Clients can connect when the log says "ready". Each forward has an nftables table
of its own, so several can run side by side; ftpgate removes the table when it
stops.`,
		Example: `  ftpgate forward :2121 ftp.example.com
  ftpgate forward --interface lan0 --passive-ports 50000-50100 :2121 ftp.example.com
  ftpgate forward --advertise 198.51.100.7,10.0.0.0/8=10.0.0.1 2121 203.0.113.21
  ftpgate forward --tracking kernel 192.168.5.2:2121 203.0.113.21:21
  ftpgate forward --server-ports 50000-50100 2121 203.0.113.21
  ftpgate forward --tls-client required --tls-cert /etc/ftpgate/both.pem 2121 203.0.113.21
  ftpgate forward --tls-server required 2121 ftp.example.com
  ftpgate forward --tracking none --server-ports 50000-50100 2121 203.0.113.21`,
		Args: exactArgs("LISTEN", "SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := fromFlags(args[0], args[1], flags)
			if err != nil {
				return err
			}
			return runOne(cmd, c, flags, logs)
		},
	}
	addKeyFlags(cmd, flags)
	logs.addQuiet(cmd)
	return cmd
}

// runOne serves the one forward of a configuration until the process is interrupted.
func runOne(cmd *cobra.Command, c *config.Config, flags []*keyFlag, logs *logFlags) error {
	if err := logs.apply(cmd, c); err != nil {
		return err
	}
	// A terminal that hangs up ends the forward as Ctrl-C does.
	ctx, stop := untilSignal(cmd.Context(), append(endSignals, syscall.SIGHUP)...)
	defer stop()
	// each check is a line in the log of a server that may be another's
	if !cmd.Flags().Changed("health") {
		c.Health = 0
	}
	log := logger(cmd.ErrOrStderr(), c.Log, logInFlagWords(flags))
	if !c.Admin.SocketGiven {
		c.Admin.Socket = newSocket(log)
	}
	d := daemon.Daemon{Table: forwardTable(c.Forwards[0].Listen), Config: c, Log: log}
	return orFailed(d.Run(ctx))
}

// forwardTable names the table of a single forward after its listen address: the same forward finds the table
// that a crash left, and two cannot have one address.
func forwardTable(l forward.Listen) string {
	host := "any"
	if l.Addr.IsValid() {
		host = l.Addr.String()
	}
	name := fmt.Sprintf("%s-%s-%d", ruleset.DefaultTable, host, l.Port)
	if l.Interface != "" {
		name += "-" + l.Interface
	}
	// nft(8) reads letters, digits and these in a name.
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		case r == ':':
			return '.'
		}
		return '_'
	}, name)
}
