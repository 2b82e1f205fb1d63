package sessions

import (
	"sync"
	"sync/atomic"

	"ftpgate/internal/core/forward"
)

// Tally is what a forward has come to since the start.
type Tally struct {
	Sessions int64 // that began, those that were turned away among them
	Refused  int64 // what was refused, put right, or failed
	Totals
}

// tally is a Tally as it is counted.
type tally struct{ sessions, refused, transfers, failed, up, down atomic.Int64 }

// add counts a transfer.
func (t *tally) add(came Totals) {
	t.transfers.Add(int64(came.Transfers))
	t.failed.Add(int64(came.Failed))
	t.up.Add(came.Up)
	t.down.Add(came.Down)
}

func (t *tally) read() Tally {
	return Tally{Sessions: t.sessions.Load(), Refused: t.refused.Load(),
		Totals: Totals{Transfers: int(t.transfers.Load()), Failed: int(t.failed.Load()), Up: t.up.Load(), Down: t.down.Load()}}
}

// tallies are those of all forwards.
type tallies struct {
	mu sync.Mutex
	of map[string]*tally

	kernel, relayed atomic.Int64 // pinholes that are open
}

// tally returns that of a forward, which is made with the first session.
func (t *tallies) tally(forward string) *tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*tally{}
	}
	if t.of[forward] == nil {
		t.of[forward] = &tally{}
	}
	return t.of[forward]
}

// pinholes counts those that are open, or in use, by what carries them.
func (t *tallies) pinholes(path string) *atomic.Int64 {
	if path == forward.DataKernel.String() {
		return &t.kernel
	}
	return &t.relayed
}

// Pinholes returns how many pinholes are open, or in use, that the path carries: "kernel" or "relay".
func (j *Journal) Pinholes(path string) int { return int(j.pinholes(path).Load()) }

// Tally returns what a forward has come to since the start, under the name that it has.
func (j *Journal) Tally(forward string) Tally {
	j.tallies.mu.Lock()
	t := j.of[forward]
	j.tallies.mu.Unlock()
	if t == nil {
		return Tally{}
	}
	return t.read()
}
