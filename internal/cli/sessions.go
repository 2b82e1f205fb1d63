package cli

import (
	"bytes"
	"context"
	"encoding/json"
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
	"ftpgate/internal/ops/instances"
)

// watchTime is how often sessions --watch asks.
const watchTime = time.Second

// sessionsCommand has the flags of the command sessions.
type sessionsCommand struct {
	outputFormat
	*adminFlags
	filter admin.Filter
	watch  bool
}

func newSessions() *cobra.Command {
	l := &sessionsCommand{}
	cmd := withDaemons(&cobra.Command{
		Use:   "sessions",
		Short: "List the running sessions",
		Long: `List the sessions of each running ftpgate, the newest last, with what each of them
does. Without --socket it finds every ftpgate of this user; root finds those of
all users. --ended also lists sessions that have ended: ftpgate keeps the last 1,000.
"ftpgate explain" has the time line of each. A terminal gets the columns that
fit; a pipe gets all of them, and nothing is cut.`,
		Args: noArgs,
	}, func(ctx context.Context, cmd *cobra.Command, a *adminFlags, _ []string) error {
		l.adminFlags = a
		if l.watch {
			return l.watchSessions(ctx, cmd)
		}
		return l.print(ctx, cmd)
	})
	cmd.Flags().StringVar(&l.filter.Forward, "forward", "", "only those of the forward `NAME`")
	completeFlag(cmd, "forward", asking(runningForwards))
	cmd.Flags().BoolVar(&l.filter.Ended, "ended", false, "also those that have ended")
	cmd.Flags().BoolVar(&l.watch, "watch", false, "again every second, until interrupted")
	l.add(cmd, "docs/api.md")
	return cmd
}

func (l *sessionsCommand) print(ctx context.Context, cmd *cobra.Command) error {
	d, err := l.reach(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	w := cmd.OutOrStdout()
	switch {
	case l.json && d.chosen:
		err = l.printOne(ctx, w, d)
	case l.json:
		err = printValue(w, d.each(func(i *instances.Instance, out *instanceJSON) (err error) {
			out.Sessions, err = l.raw(ctx, i.Client)
			return err
		}))
	default:
		err = l.printTable(ctx, w, d)
	}
	if err != nil {
		return err
	}
	return d.reportSilent(cmd)
}

// printOne prints the answer of the ftpgate that the flags name.
func (l *sessionsCommand) printOne(ctx context.Context, w io.Writer, d *daemons) error {
	c, err := d.one()
	if err != nil {
		return err
	}
	return terminal.PrintJSON(w, func(out io.Writer) error { return c.SessionsJSON(ctx, l.filter, out) })
}

// raw returns the list of sessions as it is in the answer.
func (l *sessionsCommand) raw(ctx context.Context, c *admin.Client) (json.RawMessage, error) {
	var text bytes.Buffer
	if err := c.SessionsJSON(ctx, l.filter, &text); err != nil {
		return nil, err
	}
	var answer struct{ Sessions json.RawMessage }
	err := json.Unmarshal(text.Bytes(), &answer)
	return answer.Sessions, err
}

func (l *sessionsCommand) printTable(ctx context.Context, w io.Writer, d *daemons) error {
	s := terminal.Of(w)
	lines, n, err := l.lines(ctx, d, s)
	if err != nil {
		return err
	}
	if n == 0 {
		if err := l.checkForward(ctx, d); err != nil {
			return err
		}
		if s.IsTerminal() {
			lines = []string{"no sessions"}
		}
	}
	return printLines(w, lines)
}

// checkForward returns an error if nothing is listed because the forward's name is wrong.
func (l *sessionsCommand) checkForward(ctx context.Context, d *daemons) error {
	if l.filter.Forward == "" {
		return nil
	}
	var names []string
	for _, i := range d.answering() {
		status, err := i.Client.Status(ctx)
		if err != nil {
			return err
		}
		for _, f := range status.Forwards {
			if f.Name == l.filter.Forward {
				return nil
			}
			names = append(names, f.Name)
		}
	}
	return fmt.Errorf("no forward %q: there are %s", l.filter.Forward, strings.Join(names, ", "))
}

// watchSessions lists every second. It draws a terminal anew each time, which needs only three control
// sequences of ECMA-48; a pipe gets one block after the other.
func (l *sessionsCommand) watchSessions(ctx context.Context, cmd *cobra.Command) error {
	tick := time.NewTicker(watchTime)
	defer tick.Stop()
	for first := true; ; first = false {
		err := l.watchOnce(ctx, cmd, first)
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
func (l *sessionsCommand) watchOnce(ctx context.Context, cmd *cobra.Command, first bool) error {
	if l.json {
		return l.print(ctx, cmd)
	}
	d, err := l.reach(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	w := cmd.OutOrStdout()
	s := terminal.Of(w) // its size may have changed
	lines, n, err := l.lines(ctx, d, s)
	if err != nil {
		return err
	}
	title := time.Now().Format(time.TimeOnly) + terminal.Gap + finding.Plural(n, "session")
	if silent := len(d.found) - len(d.answering()); silent > 0 {
		title += fmt.Sprintf(", %d ftpgate silent", silent)
	}
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

// lines returns the table of n sessions, with its header, the oldest first. The sessions of several ftpgates
// have a column with the process.
func (l *sessionsCommand) lines(
	ctx context.Context, d *daemons, s terminal.Terminal,
) (lines []string, n int, err error) {
	now := time.Now()
	var all []sessionOf
	for _, i := range d.answering() {
		for one, err := range i.Sessions(ctx, l.filter) {
			if err != nil && len(d.found) == 1 {
				return nil, 0, err
			}
			if err != nil {
				i.Err = err
				break
			}
			all = append(all, sessionOf{one, i.PID})
		}
	}
	if len(d.found) == 1 {
		return s.Table(sessionColumns, sessionRows(s, all, now)), len(all), nil
	}
	slices.SortStableFunc(all, func(a, b sessionOf) int { return a.Since.Compare(b.Since) })
	rows := sessionRows(s, all, now)
	for i := range rows {
		rows[i] = append([]string{strconv.Itoa(all[i].pid)}, rows[i]...)
	}
	columns := append([]terminal.Column{{Head: "PROCESS", Right: true}}, sessionColumns...)
	return s.Table(columns, rows), len(all), nil
}

// sessionOf is a session of a process.
type sessionOf struct {
	sessions.Session
	pid int
}

func sessionRows(s terminal.Terminal, all []sessionOf, now time.Time) [][]string {
	rows := make([][]string, len(all))
	for i, one := range all {
		rows[i] = sessionRow(s, one.Session, now)
	}
	return rows
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
