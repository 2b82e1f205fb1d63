package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

func newExplain() *cobra.Command {
	o := &outputFormat{}
	cmd := withSession(&cobra.Command{
		Use:   "explain SESSION",
		Short: "Show a session's time line and why it failed",
		Long: `Show a session of the running ftpgate. The first lines say how it went and what to
do. The time line follows: what client and server sent, what the gateway did with
it, data connections and their pinholes, each with the time since the session
began. It shows no passwords. SESSION is the name in "ftpgate sessions" and in the
log, or the number at its end. ftpgate keeps the last 1,000 sessions that have
ended. Without --socket the command finds the ftpgate that has the session.`,
		Args:              exactArgs("SESSION"),
		ValidArgsFunction: first(asking(sessionsOf(true))),
	}, func(ctx context.Context, cmd *cobra.Command, c *admin.Client, args []string) error {
		out := cmd.OutOrStdout()
		if o.json {
			return terminal.PrintJSON(out, func(w io.Writer) error { return c.ExplainJSON(ctx, args[0], w) })
		}
		e, err := c.Explain(ctx, args[0])
		if err != nil {
			return err
		}
		return printLines(out, explainLines(terminal.Of(out), e, time.Now()))
	})
	o.add(cmd, "docs/api.md")
	return cmd
}

// factWidth is the width of the names before facts, in cells.
const factWidth = 9

// explainLines returns a session with its verdict and time line.
func explainLines(s terminal.Terminal, e sessions.Explained, now time.Time) []string {
	var lines []string
	fact := func(name, text string) {
		if text != "" {
			lines = append(lines, s.Labelled(name, factWidth, text)...)
		}
	}
	fact("verdict", e.Verdict.Text)
	fact("remedy", e.Verdict.Remedy)
	lines = append(lines, "")
	fact("session", fmt.Sprintf("%s of forward %s, tracking %s", e.ID, e.Forward, e.Tracking))
	fact("client", fmt.Sprintf("%s, at the gateway's %s", e.Client, e.Gateway))
	if e.Balancer.IsValid() {
		balancer := e.Balancer.String()
		if e.Dialled.IsValid() {
			balancer += fmt.Sprintf("; the client dialled %s", e.Dialled)
		}
		fact("balancer", balancer)
	}
	if e.Server.IsValid() {
		fact("server", e.Server.String())
	}
	fact("user", e.User)
	fact("since", duration(e.Session, now))
	fact("TLS", tlsOfLegs(e.TLS))
	fact("subject", e.Certificate)
	fact("transfers", fmt.Sprintf("%d, %d failed; %s up, %s down", e.Totals.Transfers, e.Totals.Failed,
		terminal.Bytes(e.Totals.Up), terminal.Bytes(e.Totals.Down)))
	if e.Transfer != nil {
		fact("now", transferText(*e.Transfer))
	}
	lines = append(lines, "")
	for _, event := range e.Events {
		kind := s.Text(event.Kind.String())
		if event.Data > 0 {
			kind += fmt.Sprintf(" %d", event.Data)
		}
		begin := fmt.Sprintf("%10s  %-11s  ", timestamp(event.At.Sub(e.Since)), kind)
		lines = append(lines, s.Wrap(begin, event.Text)...)
	}
	return lines
}

// duration returns a text with the start and the duration of a session.
func duration(one sessions.Session, now time.Time) string {
	began := one.Since.Local().Format(time.DateTime)
	if one.Ended.IsZero() {
		return fmt.Sprintf("%s, %s ago; %s for %s", began, terminal.Age(now.Sub(one.Since)), one.State,
			terminal.Age(now.Sub(one.Active)))
	}
	return fmt.Sprintf("%s, ended after %s", began, one.Ended.Sub(one.Since).Round(time.Millisecond))
}

// timestamp writes the time since a session began: in seconds, and from one minute on like 1:02:03.456.
func timestamp(d time.Duration) string {
	d = max(0, d)
	seconds := (d % time.Minute).Seconds()
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.3f", seconds)
	case d < time.Hour:
		return fmt.Sprintf("%d:%06.3f", d/time.Minute, seconds)
	}
	return fmt.Sprintf("%d:%02d:%06.3f", d/time.Hour, d%time.Hour/time.Minute, seconds)
}
