package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

// State is everything that the screen depends on. Its methods return a changed copy, and share what they do
// not change.
type State struct {
	terminal terminal.Terminal // its size; 0: not known yet
	words    Words

	now       time.Time // of the last answer; zero: there was none
	instances []Instance
	gone      []goneInstance
	meters    map[SessionID]meter
	message   Result

	view   view
	back   view // where the time line was opened
	ended  bool // sessions that have ended are shown, too
	filter string
	asked  question
	about  subject // of a question about a session

	column   int // of sortColumns
	reversed bool
	list     []listed  // the sessions that match the filter, in order
	selected SessionID // one of the list, unless that is empty
	cursor   int       // its place
	follow   bool      // the operator has selected it: the cursor stays at it; else at its place
	forward  int       // the selected one of the forwards

	lines     timeLine
	scrolling int // the first visible line of the time line or of the help
}

// view is what the screen shows.
type view int

const (
	viewSessions view = iota
	viewForwards
	viewTimeLine
	viewHelp
)

// question is what the bottom line asks for.
type question int

const (
	askNothing question = iota
	askFilter
	askKill
	askBan
)

// subject is the session that a question is about, whatever is selected by the time of the answer.
type subject struct {
	of  SessionID
	one sessions.Session
}

// timeLine is the session that is explained.
type timeLine struct {
	of    SessionID // zero: none
	found sessions.Explained
	known bool
}

// listed is a session of the list.
type listed struct {
	id       SessionID
	instance int // of the state's instances
	rate     rate
	sessions.Session
}

// goneInstance is an ftpgate that has ended.
type goneInstance struct {
	title string
	at    time.Time
}

// goneTime is how long the screen says that an ftpgate has gone.
const goneTime = 30 * time.Second

// NewState returns the state before the first event. ascii says that the terminal shows nothing else.
func NewState(ascii bool, words Words) State {
	return State{terminal: terminal.Terminal{ASCII: ascii}, words: words}
}

// Wanted returns what to ask of a Source: ended sessions, too; and the session to explain, or the zero value.
func (s State) Wanted() (ended bool, explain SessionID) { return s.ended, s.lines.of }

// Update returns the state after an event, and what it wants done.
func (s State) Update(event any) (State, Request) {
	switch e := event.(type) {
	case Size:
		s.terminal.Width, s.terminal.Height = e.Width, e.Height
	case Answer:
		s = s.answered(e)
	case TimeLine:
		if e.Of == s.lines.of { // else it was closed meanwhile
			s = s.explained(e)
		}
	case Result:
		s.message = e
		return s, Request{Poll: true}
	case Paste:
		if s.asked == askFilter {
			for _, c := range string(e) {
				s = s.editFilter(string(c))
			}
		}
	case Key:
		s.message = Result{}
		return s.press(string(e))
	}
	return s, Request{}
}

// answered takes over what a poll has found.
func (s State) answered(a Answer) State {
	last := map[string]time.Time{}
	for _, i := range s.instances {
		last[i.Key] = i.At
	}
	s.gone = slices.DeleteFunc(slices.Clone(s.gone), func(g goneInstance) bool {
		return a.At.Sub(g.at) >= goneTime
	})
	for _, i := range s.instances {
		stays := func(other Instance) bool { return other.Key == i.Key }
		if !slices.ContainsFunc(a.Instances, stays) {
			s.gone = append(s.gone, goneInstance{i.Title, a.At})
		}
	}
	s.meters = measure(s.meters, last, a.Instances)
	s.now, s.instances = a.At, a.Instances
	return s.listAgain()
}

func (s State) explained(t TimeLine) State {
	switch {
	case t.Err != nil && s.lines.known:
		s.message = Result{"this is the last that was heard: " + t.Err.Error(), true}
	case t.Err != nil:
		s.message = Result{t.Err.Error(), true}
	default:
		s.lines.found, s.lines.known = t.Explained, true
	}
	return s
}

// listAgain makes the list of sessions anew. A session that the operator has selected stays selected.
func (s State) listAgain() State {
	s.list = nil
	for n, i := range s.instances {
		for _, one := range i.Sessions {
			if !s.matches(one) {
				continue
			}
			id := SessionID{i.Key, one.ID}
			l := listed{id: id, instance: n, Session: one}
			if one.Ended.IsZero() {
				l.rate = s.meters[id].rate()
			}
			s.list = append(s.list, l)
		}
	}
	by := sortColumns[s.column]
	slices.SortStableFunc(s.list, func(a, b listed) int {
		order := by.compare(a, b)
		if s.reversed {
			order = -order
		}
		return cmp.Or(order, a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	at := slices.IndexFunc(s.list, func(l listed) bool { return l.id == s.selected })
	if s.follow && at >= 0 {
		s.cursor = at
	}
	return s.selectAt(s.cursor)
}

// selectAt selects the session at a place of the list, or the nearest.
func (s State) selectAt(place int) State {
	s.cursor = max(0, min(place, len(s.list)-1))
	s.selected = SessionID{}
	if len(s.list) > 0 {
		s.selected = s.list[s.cursor].id
	}
	return s
}

// matches reports whether a session has the text of the filter somewhere, in whatever case.
func (s State) matches(one sessions.Session) bool {
	if s.filter == "" {
		return true
	}
	text := []string{one.ID, one.Forward, one.Client.String(), one.Server.String(), one.User,
		string(one.State),
		one.Mode, one.Path, string(one.Verdict.Code)}
	if one.Transfer != nil {
		text = append(text, one.Transfer.Verb, one.Transfer.File)
	}
	return strings.Contains(strings.ToLower(strings.Join(text, "\n")), strings.ToLower(s.filter))
}

// sortColumns is what sessions are sorted by, each in the direction that is asked for first.
var sortColumns = []struct {
	name    string
	compare func(a, b listed) int
}{
	{"rate", func(a, b listed) int { return cmp.Compare(b.rate.sum(), a.rate.sum()) }},
	{"up", func(a, b listed) int { return cmp.Compare(b.Totals.Up, a.Totals.Up) }},
	{"down", func(a, b listed) int { return cmp.Compare(b.Totals.Down, a.Totals.Down) }},
	{"failed", func(a, b listed) int { return cmp.Compare(b.Totals.Failed, a.Totals.Failed) }},
	{"age", func(a, b listed) int { return a.Since.Compare(b.Since) }},
	{"client", func(a, b listed) int { return a.Client.Compare(b.Client) }},
	{"user", func(a, b listed) int { return cmp.Compare(a.User, b.User) }},
	{"forward", func(a, b listed) int { return cmp.Compare(a.Forward, b.Forward) }},
	{"state", func(a, b listed) int { return cmp.Compare(a.State, b.State) }},
}

// forwardOf is a forward of an instance, with the rates of its sessions.
type forwardOf struct {
	instance int
	rate     rate
	admin.Forward
}

// forwards returns the forwards of all instances, in the order of their files. A forward's rate is that of
// its sessions: its own counters grow when a transfer ends.
func (s State) forwards() (all []forwardOf) {
	type key struct{ instance, forward string }
	rates := map[key]rate{}
	for _, i := range s.instances {
		for _, one := range i.Sessions {
			k, r := key{i.Key, one.Forward}, s.meters[SessionID{i.Key, one.ID}].rate()
			sum := rates[k]
			rates[k] = rate{sum.up + r.up, sum.down + r.down, sum.known || r.known}
		}
	}
	for n, i := range s.instances {
		for _, f := range i.Status.Forwards {
			all = append(all, forwardOf{n, rates[key{i.Key, f.Name}], f})
		}
	}
	return all
}

// target returns the session that a key means: the explained one, or the selected one.
func (s State) target() (of SessionID, one sessions.Session, found bool) {
	if s.view == viewTimeLine {
		return s.lines.of, s.lines.found.Session, s.lines.known
	}
	if s.view != viewSessions || len(s.list) == 0 {
		return SessionID{}, sessions.Session{}, false
	}
	l := s.list[s.cursor]
	return l.id, l.Session, true
}

func (s State) aboutTarget() subject {
	of, one, _ := s.target()
	return subject{of, one}
}

// who describes a session in a question.
func who(one sessions.Session) string {
	text := one.ID
	if one.User != "" {
		text += " of " + one.User
	}
	return fmt.Sprintf("%s from %s", text, one.Client.Addr().Unmap())
}
