package health

import (
	"time"

	"ftpgate/internal/core/finding"
)

// State is the result of the checks of a forward's server. The zero value: none has ended so far.
type State struct {
	Checked time.Time // when the last check ended
	Answers bool
	Since   time.Time // of the first check with this result
	Why     string    // why the server does not answer, in a sentence; empty if it does
	Remedy  string    // what to do; empty: unknown, or nothing
}

// Known reports whether a check has ended.
func (s State) Known() bool { return !s.Checked.IsZero() }

// silent reports whether the server is known not to answer.
func (s State) silent() bool { return s.Known() && !s.Answers }

// confirm is how many checks in a row an answering server must miss before it counts as silent: one lost
// connection is no outage.
const confirm = 2

// The log has the first changes of a server at once. A server that keeps changing is logged less and less
// often, until it is stable.
const (
	freeLines  = 10
	firstPause = time.Minute
	calm       = time.Hour
)

// history is a server's state, and the state in the log. It is pure: the caller has the clock.
type history struct {
	State
	missed      int           // checks in a row
	missedSince time.Time     // the first of them
	outage      time.Duration // how long the last one took

	loggedSilent bool // the log says that the server does not answer
	lines        int  // logged without an hour of stability between them
	lastLine     time.Time
	changes      int // since the last line
}

// line is a log line about a server.
type line struct {
	State                 // the new one
	changes int           // since the line before; 1 if each change had a line
	outage  time.Duration // how long the server did not answer, if it answers now
}

// add adds the result of a check that ended now. found is nil if the server answered. It returns the line to
// log, or nil.
func (h *history) add(now time.Time, found *finding.Finding) *line {
	before := h.State
	h.Checked = now
	switch {
	case found == nil:
		h.missed = 0
		if !before.Answers {
			h.State = State{Checked: now, Answers: true, Since: now}
		}
	default:
		if h.missed++; h.missed == 1 {
			h.missedSince = now
		}
		if !h.unconfirmed() {
			h.State = State{Checked: now, Since: h.missedSince, Why: found.Text, Remedy: found.Remedy}
		}
	}
	if before.silent() != h.silent() {
		h.changes++
		if !h.silent() {
			h.outage = now.Sub(before.Since)
		}
	}
	return h.nextLine(now)
}

// unconfirmed reports whether the server has missed checks, but too few to count as silent: the next check
// follows soon.
func (h *history) unconfirmed() bool { return h.Answers && h.missed > 0 && h.missed < confirm }

// nextLine returns the line to log if the state differs from the one in the log; nil: none, or not yet.
func (h *history) nextLine(now time.Time) *line {
	if h.loggedSilent == h.silent() || !h.mayLog(now) {
		return nil
	}
	l := &line{State: h.State, changes: h.changes}
	if h.Answers {
		l.outage = h.outage
	}
	h.loggedSilent = h.silent()
	h.lines++
	h.lastLine, h.changes = now, 0
	return l
}

// mayLog reports whether the server may have another line now.
func (h *history) mayLog(now time.Time) bool {
	quiet := now.Sub(h.lastLine)
	if quiet >= calm {
		h.lines = 0
	}
	return h.lines < freeLines || quiet >= firstPause<<(h.lines-freeLines)
}
