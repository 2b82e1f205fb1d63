package sessions

import (
	"fmt"
	"slices"
	"time"
)

// A time line keeps the first and the last events of a session: a session may run thousands of transfers, and
// the events in between are of little use.
const (
	keptFirst = 24
	// keptLogin is the initial capacity: a session after its login has seven events.
	keptLogin = 8
	keptLast  = 104
	// keptTight replaces keptLast while all sessions together have more than maxEvents.
	keptTight = 16
	// maxEvents is how many events all sessions together may have before keptTight applies: about 64 MiB.
	maxEvents = 400_000
	// maxText is how many bytes of a line are kept.
	maxText = 240
)

// entry is an event in a time line.
type entry struct {
	after time.Duration // since the session began
	data  int32
	kind  Kind
	text  string
	words fmt.Stringer // replaces text, and is formatted only on request; nil: text counts
}

// timeline holds the events of a session, the oldest first.
type timeline struct {
	first   []entry
	last    []entry // a ring, once it is full
	next    int     // the next position in the ring
	omitted int
}

// add keeps an event; a full time line drops an old one for it. It returns by how many events the time line
// grew.
func (t *timeline) add(e entry, tight bool) int {
	if len(e.text) > maxText {
		e.text = e.text[:maxText] + "..."
	}
	if t.first == nil {
		t.first = make([]entry, 0, keptLogin)
	}
	if len(t.first) < keptFirst {
		t.first = append(t.first, e)
		return 1
	}
	limit := keptLast
	if tight {
		limit = keptTight
	}
	if len(t.last) < limit {
		if t.next != 0 { // it was full at a tighter limit: put it in order again
			t.last = slices.Concat(t.last[t.next:], t.last[:t.next])
			t.next = 0
		}
		t.last = append(t.last, e)
		return 1
	}
	t.omitted++
	t.last[t.next] = e
	t.next = (t.next + 1) % len(t.last)
	return 0
}

func (t *timeline) len() int { return len(t.first) + len(t.last) }

// events returns the events of a session that began at the given time, with their times.
func (t *timeline) events(began time.Time) []Event {
	all := make([]Event, 0, t.len()+1)
	put := func(entries []entry) {
		for _, e := range entries {
			if e.words != nil {
				e.text = e.words.String()
			}
			all = append(all, Event{At: began.Add(e.after), Kind: e.kind, Data: int(e.data), Text: e.text})
		}
	}
	inOrder := func(a, b Event) int { return a.At.Compare(b.At) } // some were reported late
	put(t.first)
	from := 0
	if t.omitted > 0 {
		slices.SortStableFunc(all, inOrder)
		all = append(all, Event{At: all[len(all)-1].At, Kind: KindOmitted,
			Text: fmt.Sprintf("%d events are not kept", t.omitted)})
		from = len(all)
	}
	put(t.last[t.next:])
	put(t.last[:t.next])
	slices.SortStableFunc(all[from:], inOrder)
	return all
}
