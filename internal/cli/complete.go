package cli

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/config"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/instances"
)

// What a shell offers behind a command or a flag. Nothing here fails: where a value cannot be known, the
// shell offers none.

// completionTime is how long a shell waits for the running ftpgate.
const completionTime = 2 * time.Second

type completer = cobra.CompletionFunc

// completeFiles lets the shell offer files.
var completeFiles completer = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)

// offer makes a completer of a list of values; each may have a description behind a tab.
func offer(list func(cmd *cobra.Command) []string) completer {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return list(cmd), cobra.ShellCompDirectiveNoFileComp
	}
}

// first makes a completer of the first argument alone.
func first(c completer) completer {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c(cmd, args, word)
	}
}

// completeFlag gives a flag of the command a completer.
func completeFlag(cmd *cobra.Command, flag string, c completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, c); err != nil {
		panic("cli: " + err.Error()) // the command has no such flag, or it has a completer
	}
}

// completeKey gives the flag of a key a completer: for its words, its files, or names of this host.
func completeKey(cmd *cobra.Command, k config.Key) {
	switch words := k.Words(); {
	case len(words) > 0:
		completeFlag(cmd, k.Flag(), cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	case k.Argument == "FILE", k.Argument == "PATH":
		completeFlag(cmd, k.Flag(), completeFiles)
	case k.Flag() == "interface":
		completeFlag(cmd, k.Flag(), offer(interfaces))
	}
}

func interfaces(*cobra.Command) (names []string) {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names
}

// forwardsOfFile returns the names of forwards in the file that the command reads.
func forwardsOfFile(cmd *cobra.Command) (names []string) {
	c, err := config.Load(cmd.Flag("config").Value.String())
	if err != nil {
		return nil
	}
	for _, f := range c.Forwards {
		names = append(names, f.Name+"\t"+f.Listen.String())
	}
	return names
}

// asking makes a completer of what the running ftpgates answer, which the flags of withDaemons name.
func asking(ask func(ctx context.Context, c *admin.Client) []string) completer {
	return offer(func(cmd *cobra.Command) []string {
		a := adminFlags{target: cmd.Flag("socket").Value.String(),
			tokenFile: cmd.Flag("token-file").Value.String(), instance: cmd.Flag("instance").Value.String()}
		return a.offer(cmd, func(ctx context.Context, d *daemons) (all []string) {
			for _, i := range d.answering() {
				all = append(all, ask(ctx, i.Client)...)
			}
			return all
		})
	})
}

// offer returns what ask makes of the running ftpgates; nothing if there is none.
func (a *adminFlags) offer(cmd *cobra.Command, ask func(context.Context, *daemons) []string) []string {
	ctx, stop := context.WithTimeout(cmd.Context(), completionTime)
	defer stop()
	a.places = instances.Here(config.DefaultSocket)
	d, err := a.reach(ctx)
	if err != nil {
		return nil
	}
	defer d.close()
	return ask(ctx, d)
}

// processes returns the running ftpgates, by their processes.
func processes(cmd *cobra.Command) []string {
	return new(adminFlags).offer(cmd, func(_ context.Context, d *daemons) (names []string) {
		for _, i := range d.found {
			names = append(names, strconv.Itoa(i.PID)+"\t"+terminal.Printable(d.describe(i)))
		}
		return names
	})
}

func runningForwards(ctx context.Context, c *admin.Client) (names []string) {
	status, err := c.Status(ctx)
	if err != nil {
		return nil
	}
	for _, f := range status.Forwards {
		names = append(names, terminal.Printable(f.Name)+"\t"+f.Listen)
	}
	return names
}

// sessionsOf returns the names of sessions, each with its forward, client and user: the running ones, or
// those that have ended, too.
func sessionsOf(ended bool) func(context.Context, *admin.Client) []string {
	return func(ctx context.Context, c *admin.Client) (names []string) {
		for one, err := range c.Sessions(ctx, admin.Filter{Ended: ended}) {
			if err != nil {
				return nil
			}
			names = append(names, terminal.Printable(one.ID)+"\t"+sessionDescription(one))
		}
		return names
	}
}

// bannedClients returns the addresses and prefixes that are banned, each with its reason.
func bannedClients(ctx context.Context, c *admin.Client) (names []string) {
	found, err := c.Bans(ctx)
	if err != nil {
		return nil
	}
	for _, b := range found.Bans {
		names = append(names, b.Name()+"\t"+terminal.Printable(b.Reason))
	}
	return names
}

func sessionDescription(one sessions.Session) string {
	text := one.Forward + " " + one.Client.Addr().String() + " " + one.User
	return terminal.Printable(strings.TrimSpace(text))
}
