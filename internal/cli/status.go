package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/ops/instances"
)

func newStatus() *cobra.Command {
	o := &outputFormat{}
	cmd := withDaemons(&cobra.Command{
		Use:   "status",
		Short: "Show the state of the gateway and its forwards",
		Long: `Show the state of each running ftpgate: since when it runs, with which file, what
carries data connections; and for each forward its server, its sessions and
transfers, and what is wrong with it. Without --socket it finds every ftpgate of
this user; root finds those of all users.`,
		Args: noArgs,
	}, func(ctx context.Context, cmd *cobra.Command, a *adminFlags, _ []string) error {
		d, err := a.reach(ctx)
		if err != nil {
			return err
		}
		defer d.close()
		if d.chosen {
			return printStatus(ctx, cmd, d, o)
		}
		if err := printStatuses(cmd.OutOrStdout(), d, o); err != nil {
			return err
		}
		return d.reportSilent(cmd)
	})
	o.add(cmd, "docs/api.md")
	return cmd
}

// printStatus prints the status of the one that the flags name.
func printStatus(ctx context.Context, cmd *cobra.Command, d *daemons, o *outputFormat) error {
	c, err := d.one()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if o.json {
		return terminal.PrintJSON(out, func(w io.Writer) error { return c.StatusJSON(ctx, w) })
	}
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	return printLines(out, statusLines(terminal.Of(out), status, time.Now()))
}

// printStatuses prints the statuses of all that have answered.
func printStatuses(w io.Writer, d *daemons, o *outputFormat) error {
	if o.json {
		return printValue(w, d.each(func(i *instances.Instance, out *instanceJSON) error {
			out.Status = &i.Status
			return nil
		}))
	}
	var lines []string
	s := terminal.Of(w)
	for _, i := range d.answering() {
		if len(lines) > 0 {
			lines = append(lines, "")
		}
		if len(d.found) > 1 {
			lines = append(lines, s.Wrap("", d.describe(i))...)
		}
		lines = append(lines, statusLines(s, i.Status, time.Now())...)
	}
	if len(lines) == 0 {
		return nil
	}
	return printLines(w, lines)
}

// statusWidth is the width of the names before facts of a status, in cells.
const statusWidth = 13

// statusLines writes a status for people: first problems, then the gateway, then each forward.
func statusLines(s terminal.Terminal, status admin.Status, now time.Time) []string {
	lines := s.Wrap("", fmt.Sprintf("ftpgate %s, process %d, since %s (%s)", status.Version, status.PID,
		status.Since.Local().Format(time.DateTime), terminal.Age(now.Sub(status.Since))))
	fact := func(name, text string) {
		if text != "" {
			lines = append(lines, s.Labelled(name, statusWidth, text)...)
		}
	}
	for _, w := range status.Warnings {
		fact("WARNING", w)
	}
	fact("build", status.Build)
	fact("file", status.File)
	if r := status.Reload; r != nil {
		result := "is in effect since"
		if !r.OK {
			result = "changed nothing, " + strings.ReplaceAll(r.Error, "\n", "; ") + "; at"
		}
		fact("reload", "the last one "+result+" "+r.At.Local().Format(time.DateTime))
	}
	fact("table", status.Table)
	for _, c := range status.Capabilities {
		fact("data path", c)
	}
	if status.Bans+status.Denied > 0 {
		fact("banned", fmt.Sprintf("%s, and %d by deny in the file: ftpgate bans",
			finding.Plural(status.Bans, "ban"), status.Denied))
	}
	if c := status.Conntrack; c != nil {
		fact("conntrack", fmt.Sprintf("%d of %d entries (%d %%)", c.Count, c.Max, 100*c.Count/max(1, c.Max)))
	}
	for _, f := range status.Forwards {
		lines = append(lines, "")
		lines = append(lines, forwardLines(s, f, status.Certificates, now)...)
	}
	return lines
}

func forwardLines(s terminal.Terminal, f admin.Forward, certificates []admin.Certificate,
	now time.Time) []string {
	server := f.Server
	if resolved := addresses(f); resolved != "" {
		server += " (" + resolved + ")"
	}
	lines := s.Wrap("forward ", fmt.Sprintf("%s: %s leads to %s", f.Name, f.Listen, server))
	fact := func(name, text string) { lines = append(lines, s.Labelled("  "+name, statusWidth, text)...) }
	if f.Problem != "" {
		fact("PROBLEM", f.Problem)
	}
	if h := f.Health; h != nil {
		fact("server", healthText(h, now))
	}
	tracking := f.Tracking
	if f.DataPath != "" {
		tracking += ", data connections by " + f.DataPath
	}
	fact("tracking", tracking)
	if f.FTPS != "" {
		ftps := f.FTPS
		if f.FTPSWhy != "" {
			ftps += ": " + f.FTPSWhy
		}
		fact("FTPS", ftps)
	}
	if f.Counts == nil {
		fact("now", "not known: ftpgate does not follow the sessions of tracking none")
	} else {
		fact("now", fmt.Sprintf("%s from %s", finding.Plural(f.Sessions, "session"),
			finding.Plural(f.Clients, "client")))
		fact("so far", fmt.Sprintf("%s; %s, %d failed; %s up, %s down; %d refused",
			finding.Plural(f.Total, "session"), finding.Plural(f.Transfers, "transfer"), f.Failed,
			terminal.Bytes(f.Up), terminal.Bytes(f.Down), f.Refused))
	}
	for _, c := range certificates {
		if c.Forward != f.Name {
			continue
		}
		text := c.File + ", " + daysLeft(c.DaysLeft)
		if c.Subject != "" {
			text = c.Subject + " in " + text
		}
		if c.Warning != "" {
			text += "; " + c.Warning
		}
		fact("certificate", text)
	}
	return lines
}

// healthText says whether the server answers. Forward.Problem says why it does not.
func healthText(h *admin.Health, now time.Time) string {
	asked := "asked " + terminal.Age(now.Sub(h.Checked)) + " ago"
	switch since := terminal.Age(now.Sub(h.Since)); {
	case h.Answers:
		return fmt.Sprintf("answers since %s (%s), %s", h.Since.Local().Format(time.DateTime), since, asked)
	case h.Remedy == "":
		return fmt.Sprintf("does not answer (%s), %s", since, asked)
	default:
		return fmt.Sprintf("does not answer (%s), %s: %s", since, asked, h.Remedy)
	}
}

func daysLeft(n int) string {
	if n < 0 {
		return "expired " + finding.Plural(-n, "day") + " ago"
	}
	return "good for " + finding.Plural(n, "day")
}

// addresses returns the addresses of a server's name; "" if the name is its address.
func addresses(f admin.Forward) string {
	if at, err := netip.ParseAddrPort(f.Server); err == nil && len(f.Addresses) == 1 &&
		f.Addresses[0] == at.Addr() {
		return ""
	}
	return finding.Join(f.Addresses, ", ")
}
