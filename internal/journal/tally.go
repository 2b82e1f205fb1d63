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

	pinholes map[string]int // that are open, by what carries them
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

// pinhole counts one that opens, or closes.
func (t *tallies) pinhole(path string, by int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pinholes == nil {
		t.pinholes = map[string]int{}
	}
	t.pinholes[path] += by
}

// Pinholes returns how many pinholes are open, or in use, that the path carries: "kernel" or "relay".
func (j *Journal) Pinholes(path string) int {
	j.tallies.mu.Lock()
	defer j.tallies.mu.Unlock()
	return j.tallies.pinholes[path]
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
