package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/ops/admin"
)

func newBan() *cobra.Command {
	var length, reason string
	o := &outputFormat{}
	var request admin.BanRequest
	cmd := withDaemon(&cobra.Command{
		Use:   "ban ADDRESS|PREFIX",
		Short: "Ban a client",
		Long: `Refuse an address or a prefix, such as 192.0.2.0/24, at every forward from now on.
Sessions from there end. A ban outlives a reload and a restart of ftpgate; it ends
with its time (--for), or by "ftpgate unban". A second ban of the same address
replaces the first.`,
		Args: parsedArgs([]string{"ADDRESS"}, func(cmd *cobra.Command, args []string) (err error) {
			request, err = banRequest(args[0], length, cmd.Flags().Changed("for"), reason)
			return err
		}),
	}, func(ctx context.Context, cmd *cobra.Command, c *admin.Client, _ []string) error {
		banned, err := c.Ban(ctx, request)
		if err != nil {
			return err
		}
		if o.json {
			return printValue(cmd.OutOrStdout(), banned)
		}
		lines := []string{fmt.Sprintf("%s: banned %s, %s ended",
			banned.Name(), untilText(banned.Ban), finding.Plural(banned.Ended, "session"))}
		if banned.NotKept != "" {
			lines = append(lines, "warning: the ban ends when ftpgate ends: "+terminal.Printable(
				banned.NotKept))
		}
		for _, w := range banned.Warnings {
			lines = append(lines, "warning: "+terminal.Printable(w))
		}
		return printLines(cmd.OutOrStdout(), lines)
	})
	cmd.Flags().StringVar(&length, "for", "",
		"how long: a `TIME` like 1h or 90m, or seconds (default until it is lifted)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who read ftpgate bans: a `TEXT`")
	o.add(cmd, "docs/api.md")
	return cmd
}

// banRequest reads the argument and the flags of ban.
func banRequest(address, length string, hasLength bool, reason string) (b admin.BanRequest, err error) {
	if b.Prefix, err = admin.ParseBanned(address); err != nil {
		return b, err
	}
	if err := ban.Check(b.Prefix); err != nil {
		return b, err
	}
	if hasLength {
		if b.For, err = admin.ParseBanTime(length); err != nil {
			return b, err
		}
	}
	b.Reason = reason
	return b, admin.CheckReason(reason)
}

// untilText says when a ban ends.
func untilText(b ban.Ban) string {
	if b.Until.IsZero() {
		return "until it is lifted"
	}
	return "until " + b.Until.Local().Format(time.DateTime)
}

func newUnban() *cobra.Command {
	var ifBanned bool
	o := &outputFormat{}
	var prefix netip.Prefix
	cmd := withDaemon(&cobra.Command{
		Use:   "unban ADDRESS|PREFIX",
		Short: "Lift a ban",
		Long: `Lift the ban of an address or a prefix, as "ftpgate bans" has it. What deny in the
file has, only a change of the file lifts.`,
		Args: parsedArgs([]string{"ADDRESS"}, func(_ *cobra.Command, args []string) (err error) {
			prefix, err = admin.ParseBanned(args[0])
			return err
		}),
		ValidArgsFunction: first(asking(bannedClients)),
	}, func(ctx context.Context, cmd *cobra.Command, c *admin.Client, _ []string) error {
		lifted, err := c.Unban(ctx, prefix)
		none := errors.Is(err, ban.ErrNotBanned) && ifBanned
		switch {
		case err != nil && !none:
			return err
		case none:
			lifted.Prefix = prefix
		}
		switch {
		case o.json:
			return printValue(cmd.OutOrStdout(), unbanned{lifted, !none})
		case none:
			return nil
		}
		return printLines(cmd.OutOrStdout(), unbannedLines(lifted))
	})
	cmd.Flags().BoolVar(&ifBanned, "if-banned", false, "it is no error if there is no such ban")
	o.add(cmd, "docs/man/ftpgate.8.md")
	return cmd
}

// unbanned is what unban says in JSON.
type unbanned struct {
	admin.Unbanned
	Lifted bool `json:"unbanned"` // false: it was not banned
}

// unbannedLines says what became of a ban that was lifted.
func unbannedLines(u admin.Unbanned) []string {
	lines := []string{ban.Name(u.Prefix) + ": not banned any more"}
	if u.Refused != "" {
		lines = []string{ban.Name(u.Prefix) + ": the ban is lifted, but " + terminal.Printable(u.Refused) +
			", which still refuses clients"}
	}
	if u.NotKept != "" {
		lines = append(lines, "warning: the next start has the ban again: "+terminal.Printable(u.NotKept))
	}
	return lines
}

func newBans() *cobra.Command {
	o := &outputFormat{}
	cmd := withDaemon(&cobra.Command{
		Use:   "bans",
		Short: "List who is banned",
		Long: `List the addresses and prefixes that are banned, since when, until when, and why.
What deny in the file has is not listed, but counted.`,
		Args: noArgs,
	}, func(ctx context.Context, cmd *cobra.Command, c *admin.Client, _ []string) error {
		if o.json {
			return terminal.PrintJSON(cmd.OutOrStdout(),
				func(out io.Writer) error { return c.BansJSON(ctx, out) })
		}
		found, err := c.Bans(ctx)
		if err != nil {
			return err
		}
		return printLines(cmd.OutOrStdout(), bansLines(found))
	})
	o.add(cmd, "docs/api.md")
	return cmd
}

// bansLines lists bans, one a line.
func bansLines(found admin.Bans) []string {
	var lines []string
	for _, b := range found.Bans {
		line := fmt.Sprintf("%s: banned since %s, %s", b.Name(), b.Since.Local().Format(time.DateTime),
			untilText(b))
		if b.Reason != "" {
			line += ": " + terminal.Printable(b.Reason)
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		lines = []string{"no client is banned"}
	}
	if found.Denied > 0 {
		lines = append(lines, fmt.Sprintf("deny in the file has %d more", found.Denied))
	}
	return lines
}
