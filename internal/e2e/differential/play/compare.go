package play

import (
	"fmt"
	"slices"
	"strings"

	"ftpgate/internal/e2e/differential/script"
)

// Difference is the first event of an end that is another one than it was directly.
type Difference struct {
	Side        script.Side
	Index       int    // in the end's record
	Direct, Got string // "" where the record has ended
}

// String shows both events.
func (d Difference) String() string {
	show := func(event string) string {
		if event == "" {
			return "nothing more"
		}
		return event
	}
	return fmt.Sprintf("%s, event %d: %s; directly %s", d.Side, d.Index+1, show(d.Got), show(d.Direct))
}

// Compare returns where a record begins to differ from the direct one, for each end. When an end's failure
// has broken the session off, what the other end then misses is no difference.
func Compare(direct, got Record) (all []Difference) {
	for _, side := range []script.Side{script.Client, script.Server} {
		want, have := direct.of(side), got.of(side)
		at := 0
		for at < len(want) && at < len(have) && want[at] == have[at] {
			at++
		}
		if at == len(want) && at == len(have) {
			continue
		}
		if at == len(have) && got.Failure != "" && !strings.HasPrefix(got.Failure, side.String()) {
			continue
		}
		d := Difference{Side: side, Index: at}
		if at < len(want) {
			d.Direct = want[at]
		}
		if at < len(have) {
			d.Got = have[at]
		}
		all = append(all, d)
	}
	if len(all) == 0 && got.Failure != direct.Failure {
		all = append(all, Difference{Side: script.Client, Index: len(got.Client), Got: got.Failure})
	}
	return all
}

func (r Record) of(side script.Side) []string {
	if side == script.Client {
		return r.Client
	}
	return r.Server
}

// Equal reports whether two records show the same.
func (r Record) Equal(other Record) bool {
	return slices.Equal(r.Client, other.Client) && slices.Equal(r.Server, other.Server) &&
		r.Failure == other.Failure
}
