package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

// watchTime is how often sessions --watch asks.
const watchTime = time.Second

// sessionsCommand has the flags of the command sessions.
type sessionsCommand struct {
	filter      admin.Filter
	json, watch bool
}

func newSessions() *cobra.Command {
	l := &sessionsCommand{}
	cmd := withDaemon(&cobra.Command{
		Use:   "sessions",
		Short: "List the running sessions",
		Long: `List the sessions of the running ftpgate, the newest last, with what each of them
does. --ended also lists sessions that have ended: ftpgate keeps the last 1,000.
"ftpgate explain" has the time line of each. A terminal gets the columns that
fit; a pipe gets all of them, and nothing is cut.`,
		Args: noArgs,
	}, func(ctx context.Context, cmd *cobra.Command, c *admin.Client, _ []string) error {
		if l.watch {
			return l.watchSessions(ctx, c, cmd.OutOrStdout())
		}
		return l.print(ctx, c, cmd.OutOrStdout())
	})
	cmd.Flags().StringVar(&l.filter.Forward, "forward", "", "only those of the forward `NAME`")
	completeFlag(cmd, "forward", asking(runningForwards))
	cmd.Flags().BoolVar(&l.filter.Ended, "ended", false, "also those that have ended")
	cmd.Flags().BoolVar(&l.watch, "watch", false, "again every second, until interrupted")
	cmd.Flags().BoolVar(&l.json, "json", false, "as JSON: docs/api.md")
	return cmd
}

func (l *sessionsCommand) print(ctx context.Context, c *admin.Client, w io.Writer) error {
	if l.json {
		return terminal.PrintJSON(w, func(out io.Writer) error { return c.SessionsJSON(ctx, l.filter, out) })
	}
	s := terminal.Of(w)
	lines, n, err := l.lines(ctx, c, s)
	if err != nil {
		return err
	}
	if n == 0 {
		if err := l.checkForward(ctx, c); err != nil {
			return err
		}
		if s.IsTerminal() {
			lines = []string{"no sessions"}
		}
	}
	return printLines(w, lines)
}

// checkForward returns an error if nothing is listed because the forward's name is wrong.
func (l *sessionsCommand) checkForward(ctx context.Context, c *admin.Client) error {
	if l.filter.Forward == "" {
		return nil
	}
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range status.Forwards {
		if f.Name == l.filter.Forward {
			return nil
		}
		names = append(names, f.Name)
	}
	return fmt.Errorf("no forward %q: there are %s", l.filter.Forward, strings.Join(names, ", "))
}

// watchSessions lists every second. It draws a terminal anew each time, which needs only three control
// sequences of ECMA-48; a pipe gets one block after the other.
func (l *sessionsCommand) watchSessions(ctx context.Context, c *admin.Client, w io.Writer) error {
	tick := time.NewTicker(watchTime)
	defer tick.Stop()
	for first := true; ; first = false {
		err := l.watchOnce(ctx, c, w, first)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watchOnce lists once for watchSessions.
func (l *sessionsCommand) watchOnce(ctx context.Context, c *admin.Client, w io.Writer, first bool) error {
	if l.json {
		return l.print(ctx, c, w)
	}
	s := terminal.Of(w) // its size may have changed
	lines, n, err := l.lines(ctx, c, s)
	if err != nil {
		return err
	}
	title := time.Now().Format(time.TimeOnly) + terminal.Gap + finding.Plural(n, "session")
	if !s.IsTerminal() || os.Getenv("TERM") == "dumb" {
		if !first {
			title = "\n" + title
		}
		return printLines(w, append([]string{title}, lines...))
	}
	if most := s.Height - 3; n > most && most > 0 {
		title += fmt.Sprintf(", the newest %d", most)
		lines = slices.Delete(lines, 1, 1+n-most)
	}
	const home, restOfLine, restOfScreen = "\x1b[H", "\x1b[K", "\x1b[J"
	frame := strings.Join(append([]string{terminal.Cut(title, s.Width)}, lines...), restOfLine+"\n")
	_, err = io.WriteString(w, home+frame+restOfLine+"\n"+restOfScreen)
	return err
}

// lines returns the table of n sessions, with its header.
func (l *sessionsCommand) lines(
	ctx context.Context, c *admin.Client, s terminal.Terminal,
) (lines []string, n int, err error) {
	now := time.Now()
	var rows [][]string
	for one, err := range c.Sessions(ctx, l.filter) {
		if err != nil {
			return nil, 0, err
		}
		rows = append(rows, sessionRow(s, one, now))
	}
	return s.Table(sessionColumns, rows), len(rows), nil
}

var sessionColumns = []terminal.Column{
	{Head: "SESSION"}, {Head: "FORWARD", Rank: 3, Most: 16}, {Head: "CLIENT"},
	{Head: "USER", Rank: 2, Most: 12},
	{Head: "AGE", Rank: 1, Right: true}, {Head: "STATE", Rank: 12}, {Head: "MODE", Rank: 6},
	{Head: "TLS", Rank: 8, Most: 18},
	{Head: "DATA", Rank: 7}, {Head: "SERVER", Rank: 11}, {Head: "UP", Rank: 5, Right: true},
	{Head: "DOWN", Rank: 4, Right: true},
	{Head: "DONE", Rank: 9, Right: true}, {Head: "FAILED", Rank: 10, Right: true}, {Head: "DOING"},
}

func sessionRow(s terminal.Terminal, one sessions.Session, now time.Time) []string {
	end := now
	if !one.Ended.IsZero() {
		end = one.Ended
	}
	server := ""
	if one.Server.IsValid() {
		server = one.Server.String()
	}
	return []string{
		s.Text(one.ID), s.Text(one.Forward), one.Client.Addr().String(), s.Text(one.User),
		terminal.Age(end.Sub(one.Since)),
		s.Text(string(one.State)), s.Text(one.Mode), s.Text(tlsOfLegs(one.TLS)), s.Text(one.Path), server,
		terminal.Bytes(one.Totals.Up), terminal.Bytes(one.Totals.Down), strconv.Itoa(one.Totals.Transfers),
		strconv.Itoa(one.Totals.Failed),
		s.Text(activity(one, now)),
	}
}

// tlsOfLegs names the encryption of both legs.
func tlsOfLegs(t sessions.TLS) string {
	switch {
	case t.Client == t.Server:
		return t.Client
	case t.Server == "":
		return "client " + t.Client
	case t.Client == "":
		return "server " + t.Server
	}
	return "client " + t.Client + ", server " + t.Server
}

// activity describes what a session does, and its fault.
func activity(one sessions.Session, now time.Time) string {
	var text string
	switch {
	case one.Transfer != nil:
		text = transferText(*one.Transfer)
	case !one.Ended.IsZero():
		text = "ended " + terminal.Age(now.Sub(one.Ended)) + " ago"
	default:
		text = string(one.State) + " " + terminal.Age(now.Sub(one.Active))
	}
	if one.Verdict.Code == verdict.CodeFine || one.Verdict.Text == "" {
		return text
	}
	return text + ": " + one.Verdict.Text
}

// transferText describes the running transfer.
func transferText(t sessions.Transfer) string {
	way := map[sessions.Direction]string{sessions.Download: "down", sessions.Upload: "up"}[t.Direction]
	if way == "" {
		way = "data"
	}
	text := fmt.Sprintf("%s %s, %s/s", way, terminal.Bytes(t.Bytes), terminal.Bytes(t.Rate))
	if t.File != "" {
		text += " " + t.File
	}
	return text
}
