package top

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/core/finding"
)

// Style is how a line of the screen looks. Each can be told from the others without colour, or need not be.
type Style int

// The styles.
const (
	Plain    Style = iota
	Title          // the heads of the screen and of tables
	Selected       // the line that keys mean
	Bad            // what an operator should see
)

// Line is a line of the screen: characters that take one cell each.
type Line struct {
	Text  string
	Style Style
}

// The least height for more than the list: below it the instances and the help line are left out.
const shortScreen = 12

// mostInstances is how many lines of instances a screen has at most.
const mostInstances = 4

// Lines draws the screen: as many lines as the terminal has, none wider. Before the first Size it has none.
func (s State) Lines() []Line {
	height := s.terminal.Height
	if height == 0 || s.terminal.Width == 0 {
		return nil
	}
	lines := slices.Concat(s.head(), s.body(s.bodyHeight()))
	for len(lines) < height-len(s.foot()) {
		lines = append(lines, Line{})
	}
	lines = append(lines, s.foot()...)
	lines = lines[max(0, len(lines)-height):] // of a terminal with a few lines the bottom
	for i := range lines {
		lines[i].Text = terminal.Cut(lines[i].Text, s.terminal.Width)
	}
	return lines
}

// bodyHeight is how many lines the list, the time line or the help has, without its head.
func (s State) bodyHeight() int {
	n := s.terminal.Height - len(s.head()) - len(s.foot())
	if s.view == viewSessions || s.view == viewForwards {
		n-- // the names of the columns
	}
	return max(1, n)
}

// text returns words of others so that they can be printed.
func (s State) text(words string) string { return s.terminal.Text(words) }

// head is the lines above the list.
func (s State) head() []Line {
	clock := "asking"
	if !s.now.IsZero() {
		clock = s.now.Local().Format("15:04:05")
	}
	var sum rate
	running, transfers := 0, 0
	for _, i := range s.instances {
		for _, one := range i.Sessions {
			if !one.Ended.IsZero() {
				continue
			}
			running++
			if one.Transfer != nil {
				transfers++
			}
			r := s.meters[SessionID{i.Key, one.ID}].rate()
			sum.up, sum.down = sum.up+r.up, sum.down+r.down
		}
	}
	lines := []Line{{Style: Title, Text: fmt.Sprintf("ftpgate top %s  %s, %s  up %s/s  down %s/s", clock,
		finding.Plural(running, "session"), finding.Plural(transfers, "transfer"), terminal.Bytes(sum.up),
		terminal.Bytes(sum.down))}}
	lines = append(lines, s.forwardsLine())
	return append(lines, s.instanceLines()...)
}

// forwardsLine counts the forwards, and names those whose servers do not answer.
func (s State) forwardsLine() Line {
	n := 0
	var bad []string
	for _, i := range s.instances {
		for _, f := range i.Status.Forwards {
			n++
			if f.Problem != "" {
				bad = append(bad, s.text(f.Name))
			}
		}
	}
	line := Line{Text: finding.Plural(n, "forward")}
	if len(bad) > 0 {
		line = Line{Text: fmt.Sprintf("%s, with a problem: %s", line.Text, strings.Join(bad, ", ")),
			Style: Bad}
	}
	return line
}

// instanceLines says which ftpgates there are, if there are several, and which do not answer or have ended.
func (s State) instanceLines() (lines []Line) {
	for _, i := range s.instances {
		switch {
		case i.Problem != "":
			lines = append(lines, Line{s.text(i.Title + ": " + i.Problem), Bad})
		case len(s.instances) > 1:
			lines = append(lines, Line{s.text(i.Title + ", since " + terminal.Age(s.now.Sub(i.Status.Since))),
				Plain})
		}
	}
	for _, g := range s.gone {
		lines = append(lines, Line{s.text(g.title + ": has ended"), Bad})
	}
	if len(s.instances) == 0 && !s.now.IsZero() {
		lines = append(lines, Line{"no ftpgate is running here; waiting for one", Bad})
	}
	most := mostInstances
	if s.terminal.Height < shortScreen {
		most = 1
	}
	if len(lines) > most { // those with problems first
		slices.SortStableFunc(lines, func(a, b Line) int { return int(b.Style) - int(a.Style) })
		more := Line{fmt.Sprintf("%d more ftpgates, first: %s", len(lines)-most, lines[most-1].Text),
			lines[most-1].Style}
		lines = append(lines[:most-1], more)
	}
	return lines
}

// foot is the lines below the list: a question or a message, and the help line.
func (s State) foot() []Line {
	lines := []Line{s.statusLine()}
	if s.terminal.Height >= shortScreen || s.terminal.Height == 0 {
		lines = append(lines, Line{s.helpLine(), Title})
	}
	return lines
}

// statusLine is a question, a message, or what list is shown.
func (s State) statusLine() Line {
	switch {
	case s.asked == askFilter:
		return Line{"/" + s.text(s.filter) + "_", Plain}
	case s.asked == askKill:
		return Line{s.text("kill? y: yes, any other key: no. Session " + who(s.about.one)), Bad}
	case s.asked == askBan:
		answers := ""
		for _, l := range banLengths {
			answers += fmt.Sprintf("%s: %s, ", l.key, l.text)
		}
		return Line{"ban " + s.about.one.Client.Addr().Unmap().String() + "? " + answers +
			"any other key: no",
			Bad}
	case s.message.Text != "":
		style := Plain
		if s.message.Failed {
			style = Bad
		}
		return Line{s.text(strings.ReplaceAll(s.message.Text, "\n", "; ")), style}
	case s.view != viewSessions:
		return Line{}
	}
	text := "by " + sortColumns[s.column].name
	if s.reversed {
		text += ", reversed"
	}
	if s.filter != "" {
		text += "; only with " + s.text(s.filter) + " (esc: all)"
	}
	if s.ended {
		text += "; ended ones, too"
	}
	return Line{text, Plain}
}

func (s State) helpLine() string {
	switch s.view {
	case viewTimeLine:
		return "q back  j k scroll  K kill  B ban  ? help"
	case viewForwards:
		return "f sessions  enter its sessions  ? help  q quit"
	case viewHelp:
		return "q back  j k scroll"
	}
	return "? help  enter time line  / filter  < > sort  f forwards  K kill  B ban  q quit"
}

// body is what is between head and foot, of a height without the names of columns.
func (s State) body(height int) []Line {
	switch s.view {
	case viewSessions:
		return s.sessionsTable(height)
	case viewForwards:
		return s.forwardsTable(height)
	}
	all := s.textLines()
	from := max(0, min(s.scrolling, len(all)-height))
	return all[from:min(len(all), from+height)]
}

// textLines is the whole text of the time line or of the help.
func (s State) textLines() (lines []Line) {
	switch {
	case s.view == viewHelp:
		for _, h := range help {
			for _, text := range s.terminal.Labelled(h[0], len("up, down, k, j"), h[1]) {
				lines = append(lines, Line{Text: text})
			}
		}
	case s.view == viewTimeLine && s.lines.known:
		for _, text := range s.words.Explain(s.terminal, s.lines.found, s.now) {
			lines = append(lines, Line{Text: text})
		}
	case s.view == viewTimeLine:
		lines = []Line{{Text: "asking for session " + s.text(s.lines.of.ID)}}
	}
	return lines
}

// sessionColumns are the columns of the list. Rates have a place of their own, also where nothing moves.
var sessionColumns = []terminal.Column{
	{Head: "PROCESS", Rank: 7, Right: true}, {Head: "SESSION", Rank: 4}, {Head: "FORWARD", Rank: 6, Most: 16},
	{Head: "CLIENT"}, {Head: "USER", Rank: 3, Most: 12}, {Head: "AGE", Rank: 5, Right: true},
	{Head: "    UP/s", Rank: 2, Right: true}, {Head: "  DOWN/s", Rank: 1, Right: true},
	{Head: "UP", Rank: 9, Right: true}, {Head: "DOWN", Rank: 8, Right: true},
	{Head: "FAILED", Rank: 10, Right: true}, {Head: "DOING", Least: 12},
}

// sessionsTable lists the sessions around the selected one.
func (s State) sessionsTable(height int) []Line {
	from, to := window(s.cursor, len(s.list), height)
	var rows [][]string
	for _, l := range s.list[from:to] {
		rows = append(rows, []string{
			strconv.Itoa(s.instances[l.instance].PID), s.text(l.ID), s.text(l.Forward),
			l.Client.Addr().Unmap().String(), s.text(l.User), terminal.Age(s.endOf(l).Sub(l.Since)),
			l.rate.text(l.rate.up), l.rate.text(l.rate.down), terminal.Bytes(l.Totals.Up),
			terminal.Bytes(l.Totals.Down), strconv.Itoa(l.Totals.Failed), s.text(s.doing(l)),
		})
	}
	return s.table(sessionColumns, rows, s.cursor-from, func(row int) bool {
		l := s.list[from+row]
		return s.instances[l.instance].Problem != "" || l.Failed()
	})
}

// window returns which of n lines are visible: as many as fit, with the one at a place in the middle.
func window(place, n, height int) (from, to int) {
	from = max(0, min(place-height/2, n-height))
	return from, min(n, from+height)
}

// table draws a table. Where there is one instance, it has no column with the process, which is the first.
func (s State) table(columns []terminal.Column, rows [][]string, selected int,
	bad func(row int) bool) []Line {
	if len(s.instances) < 2 {
		columns = columns[1:]
		for i := range rows {
			rows[i] = rows[i][1:]
		}
	}
	var lines []Line
	for i, text := range s.terminal.Table(columns, rows) {
		style := Plain
		switch {
		case i == 0:
			style = Title
		case i-1 == selected:
			style = Selected
		case bad(i - 1):
			style = Bad
		}
		lines = append(lines, Line{text, style})
	}
	return lines
}

var forwardColumns = []terminal.Column{
	{Head: "PROCESS", Rank: 4, Right: true}, {Head: "FORWARD", Most: 20}, {Head: "LISTEN", Rank: 6, Most: 24},
	{Head: "SERVER", Rank: 5, Most: 28}, {Head: "SESSIONS", Rank: 3, Right: true},
	{Head: "    UP/s", Rank: 2, Right: true}, {Head: "  DOWN/s", Rank: 1, Right: true},
	{Head: "FAILED", Rank: 7, Right: true}, {Head: "SERVER'S HEALTH"},
}

// forwardsTable lists the forwards around the selected one.
func (s State) forwardsTable(height int) []Line {
	all := s.forwards()
	selected := max(0, min(s.forward, len(all)-1))
	from, to := window(selected, len(all), height)
	var rows [][]string
	for _, f := range all[from:to] {
		health := "not asked"
		switch {
		case f.Problem != "":
			health = f.Problem
		case f.Health != nil:
			health = s.words.Health(f.Health, s.now)
		}
		running, failed := "", "" // tracking none: not known
		if f.Counts != nil {
			running, failed = strconv.Itoa(f.Sessions), strconv.FormatInt(f.Failed, 10)
		}
		rows = append(rows, []string{
			strconv.Itoa(s.instances[f.instance].PID), s.text(f.Name), s.text(f.Listen), s.text(f.Server),
			running, f.rate.text(f.rate.up), f.rate.text(f.rate.down), failed, s.text(health),
		})
	}
	return s.table(forwardColumns, rows, selected-from,
		func(row int) bool { return all[from+row].Problem != "" })
}

func (s State) endOf(l listed) time.Time {
	if !l.Ended.IsZero() {
		return l.Ended
	}
	return s.now
}

// doing says what a session does. Its rates have columns of their own.
func (s State) doing(l listed) string {
	if t := l.Transfer; t != nil {
		return strings.TrimSpace(cmp.Or(t.Verb, "data") + " " + t.File)
	}
	return s.words.Activity(l.Session, s.now)
}
