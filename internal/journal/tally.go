package journal

import "sync"

// Tally is what a forward has come to since the start.
type Tally struct {
	Sessions int64 // that began, those that were turned away among them
	Refused  int64 // what was refused, put right, or failed
	Totals
}

// tallies are those of all forwards.
type tallies struct {
	mu sync.Mutex
	of map[string]*Tally
}

// add changes the tally of a forward.
func (t *tallies) add(forward string, change func(*Tally)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*Tally{}
	}
	if t.of[forward] == nil {
		t.of[forward] = &Tally{}
	}
	change(t.of[forward])
}

// Tally returns what a forward has come to since the start, under the name that it has.
func (j *Journal) Tally(forward string) Tally {
	j.tallies.mu.Lock()
	defer j.tallies.mu.Unlock()
	if t := j.tallies.of[forward]; t != nil {
		return *t
	}
	return Tally{}
}
