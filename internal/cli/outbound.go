package cli

import (
	"github.com/spf13/cobra"

	"ftpgate/internal/config"
)

func newOutbound() *cobra.Command {
	flags := keyFlags(config.OutboundKeys())
	logs := &logFlags{}
	cmd := &cobra.Command{
		Use:   "outbound [flags]",
		Short: "Let clients behind this gateway reach any FTP server, until interrupted",
		Long: `Let the clients on an interface reach FTP servers by the servers' own addresses,
without a file, until interrupted. The clients need no settings: they dial the
server, and the kernel leads the connection to ftpgate. They see the server's own
address, in passive and in active mode. The server sees the gateway's address, or
with --source client the client's.

With --listen, ftpgate is an explicit proxy instead, for programs that know one:
clients connect to ftpgate and name the server, with USER user@host, SITE host or
OPEN host. This needs no privilege.

Clients reach every server unless --server says which. They never reach this
gateway itself, loopback and link-local addresses this way.

--interface needs the right to change the network (CAP_NET_ADMIN). FTPS works as with
ftpgate forward: refused, passed through or originated, as the flags say.`,
		Example: `  ftpgate outbound --interface lan0
  ftpgate outbound --interface lan0 --port 21,2121 --client 192.168.5.0/24
  ftpgate outbound --interface lan0 --server 203.0.113.0/24,ftp.example.com
  ftpgate outbound --interface lan0 --source client
  ftpgate outbound --listen :2121 --client 192.168.5.0/24`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := outboundFromFlags(flags)
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
