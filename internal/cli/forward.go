package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
	"ftpgate/internal/daemon"
	"ftpgate/internal/dnat"
	"ftpgate/internal/nft"
)

// forwardFlags are the keys of a forward in the file, as flags.
type forwardFlags struct {
	name, tracking, onInterface, serverPorts string
	clients                                  []string
	resolve                                  time.Duration
}

func newForward() *cobra.Command {
	var flags forwardFlags
	cmd := &cobra.Command{
		Use:   "forward [flags] LISTEN SERVER",
		Short: "Publish one FTP server, until interrupted",
		Long: `Publish one FTP server at an address of this gateway, without a file, until
interrupted. LISTEN is ADDR:PORT, :PORT or PORT (every address of the gateway);
SERVER is HOST[:PORT], a name or an address.

The forward has an nftables table of its own, so that several can run side by
side. It is there once the log says "ready", and is taken away at the end.`,
		Example: `  ftpgate forward 192.168.5.2:2121 203.0.113.21:21
  ftpgate forward --interface lan0 :2121 ftp.example.com
  ftpgate forward --tracking none --server-ports 50000-50100 2121 203.0.113.21`,
		Args: want("LISTEN", "SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := flags.forward(args[0], args[1])
			if err != nil {
				return err
			}
			// A terminal that hangs up ends the forward as Ctrl-C does.
			ctx, stop := untilSignal(cmd.Context(), append(endSignals, syscall.SIGHUP)...)
			defer stop()
			d := daemon.Daemon{
				Table:    forwardTable(f.Listen),
				Forwards: []dnat.Forward{f},
				Resolve:  flags.resolve,
				Log:      logger(cmd.ErrOrStderr()),
			}
			return orFailed(d.Run(ctx))
		},
	}
	set := cmd.Flags()
	set.SortFlags = false
	set.StringVar(&flags.tracking, "tracking", dnat.TrackingKernel.String(), "how the FTP dialogue is followed: kernel or none")
	set.StringArrayVar(&flags.clients, "client", nil, "who may use it, an address or a prefix; repeatable (default everybody)")
	set.StringVar(&flags.onInterface, "interface", "", "take connections that arrive at this interface only")
	set.StringVar(&flags.serverPorts, "server-ports", "", "tracking none: the server's passive ports, like 50000-50100, or all")
	set.StringVar(&flags.name, "name", "", "what log lines call it (default LISTEN)")
	set.DurationVar(&flags.resolve, "resolve", config.DefaultResolve, "how often the server's name is resolved again")
	return cmd
}

// forward makes the flags and words a forward; the error names every fault.
func (flags forwardFlags) forward(listen, server string) (dnat.Forward, error) {
	var errs []error
	check := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	f := dnat.Forward{Name: flags.name}
	var err error
	f.Listen, err = dnat.ParseListen(listen)
	check(err)
	f.Server, err = dnat.ParseServer(server)
	check(err)
	f.Tracking, err = dnat.ParseTracking(flags.tracking)
	check(err)
	if flags.onInterface != "" {
		check(dnat.CheckInterface(flags.onInterface))
	}
	f.Listen.Interface = flags.onInterface
	if flags.serverPorts != "" {
		f.ServerPorts, err = dnat.ParsePortRange(flags.serverPorts)
		check(err)
	}
	for _, c := range flags.clients {
		var p netip.Prefix
		p, err = dnat.ParseClient(c)
		check(err)
		f.Clients = append(f.Clients, p)
	}
	if flags.name != "" {
		check(dnat.CheckName(flags.name))
	} else {
		f.Name = f.Listen.String()
	}
	if flags.resolve < time.Second {
		check(fmt.Errorf("--resolve %s: want a second at least", flags.resolve))
	}
	if len(errs) == 0 {
		for _, fault := range dnat.Check([]dnat.Forward{f}) {
			errs = append(errs, errors.New(asFlag(fault)))
		}
	}
	return f, errors.Join(errs...)
}

// asFlag speaks of the flag where the fault speaks of the file's key.
func asFlag(fault dnat.Fault) string {
	text := strings.NewReplacer("server_ports", "--server-ports", "for which clients, like ", "for which clients, like --client ").Replace(fault.Text)
	if fault.Key == "server_ports" && !strings.Contains(text, "--server-ports") {
		text = "--server-ports is missing: " + text
	}
	return text
}

// forwardTable names the table of a forward that runs by itself after its listen address: the same
// forward finds what a crash left of it, and two cannot have one address.
func forwardTable(l dnat.Listen) string {
	host := "any"
	if l.Addr.IsValid() {
		host = l.Addr.String()
	}
	name := fmt.Sprintf("%s-%s-%d", nft.Prefix, host, l.Port)
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
