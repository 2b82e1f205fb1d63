package health

import (
	"testing"
	"time"

	"ftpgate/internal/core/finding"
)

var refused = &finding.Finding{Text: "refused", Remedy: "start it"}

func at(seconds int) time.Time { return time.Unix(1_800_000_000+int64(seconds), 0) }

// A row is a check: when it ended, whether the server answered, and what is known and logged then.
func TestHistory(t *testing.T) {
	type row struct {
		at      int
		answers bool
		want    bool // the state: whether the server answers
		since   int
		logged  string
	}
	for name, rows := range map[string][]row{
		"sound": {{0, true, true, 0, ""}, {30, true, true, 0, ""}, {60, true, true, 0, ""}},
		"silent from the start": {{0, false, false, 0, "silent"}, {30, false, false, 0, ""},
			{60, true, true, 60, "again after 1m0s"}},
		"one check missed": {{0, true, true, 0, ""}, {30, false, true, 0, ""}, {35, true, true, 0, ""},
			{65, false, true, 0, ""}, {70, true, true, 0, ""}},
		"an outage": {{0, true, true, 0, ""}, {30, false, true, 0, ""}, {35, false, false, 30, "silent"},
			{65, false, false, 30, ""}, {95, true, true, 95, "again after 1m5s"}, {125, true, true, 95, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			var h history
			for _, r := range rows {
				var found *finding.Finding
				if !r.answers {
					found = refused
				}
				logged := text(h.add(at(r.at), found))
				want := State{Checked: at(r.at), Answers: r.want, Since: at(r.since)}
				if !r.want {
					want.Why, want.Remedy = refused.Text, refused.Remedy
				}
				if h.State != want || logged != r.logged {
					t.Errorf("at %d s: got %+v, logged %q; want %+v, %q", r.at, h.State, logged, want,
						r.logged)
				}
			}
		})
	}
}

func text(l *line) string {
	switch {
	case l == nil:
		return ""
	case l.Answers:
		return "again after " + l.outage.String()
	}
	return "silent"
}

// Only a server that has answered gets a second chance soon.
func TestUnconfirmed(t *testing.T) {
	var h history
	var got []bool
	for i, found := range []*finding.Finding{refused, nil, refused, refused, refused, nil} {
		h.add(at(i), found)
		got = append(got, h.unconfirmed())
	}
	for i, want := range []bool{false, false, true, false, false, false} {
		if got[i] != want {
			t.Errorf("after check %d: got %t; want %t", i+1, got[i], want)
		}
	}
}

// A server that comes and goes for a day has few lines, which say how often it has changed; and the log knows
// in the end how it is.
func TestDamped(t *testing.T) {
	var h history
	lines, changes, now := 0, 0, 0
	check := func(found *finding.Finding) {
		now += 30
		if l := h.add(at(now), found); l != nil {
			lines++
			changes += l.changes
		}
	}
	check(nil)
	const rounds = 24 * 60 * 60 / 90
	for range rounds {
		check(refused)
		check(refused)
		check(nil)
	}
	if lines > 24*17 || lines < 24 {
		t.Errorf("got %d lines in a day of %d changes; want some in each hour, and no flood", lines, 2*rounds)
	}
	for range 3 * 120 { // three hours of calm
		check(nil)
	}
	if changes != 2*rounds || h.loggedSilent {
		t.Errorf("got %d changes, logged as silent: %t; want %d, and that it answers", changes,
			h.loggedSilent,
			2*rounds)
	}
	check(refused)
	before := lines
	if check(refused); lines != before+1 {
		t.Error("after hours of calm an outage has no line at once; want one")
	}
}
