package sessions

import (
	"sync"
	"sync/atomic"

	"ftpgate/internal/core/forward"
)

// Tally sums up a forward since the start.
type Tally struct {
	Sessions int64 // all that began, rejected ones included
	Refused  int64 // what was refused, corrected, or failed
	Totals
}

// forwardStats holds the counters behind a Tally.
type forwardStats struct{ sessions, refused, transfers, failed, up, down atomic.Int64 }

// add counts a transfer.
func (t *forwardStats) add(came Totals) {
	t.transfers.Add(int64(came.Transfers))
	t.failed.Add(int64(came.Failed))
	t.up.Add(came.Up)
	t.down.Add(came.Down)
}

func (t *forwardStats) read() Tally {
	return Tally{Sessions: t.sessions.Load(), Refused: t.refused.Load(),
		Totals: Totals{Transfers: int(t.transfers.Load()), Failed: int(t.failed.Load()), Up: t.up.Load(), Down: t.down.Load()}}
}

// allForwardStats holds the counters of all forwards.
type allForwardStats struct {
	mu sync.Mutex
	of map[string]*forwardStats

	kernel, relayed atomic.Int64 // open pinholes
}

// stats returns the counters of a forward, which it creates for the first session.
func (t *allForwardStats) stats(forward string) *forwardStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*forwardStats{}
	}
	if t.of[forward] == nil {
		t.of[forward] = &forwardStats{}
	}
	return t.of[forward]
}

// pinholes returns the counter of pinholes that are open or in use, by data path.
func (t *allForwardStats) pinholes(path string) *atomic.Int64 {
	if path == forward.DataKernel.String() {
		return &t.kernel
	}
	return &t.relayed
}

// Pinholes returns the number of pinholes that are open or in use on a data path, "kernel" or "relay".
func (j *Journal) Pinholes(path string) int { return int(j.pinholes(path).Load()) }

// Tally returns the sums of a forward since the start, by its name.
func (j *Journal) Tally(forward string) Tally {
	j.allForwardStats.mu.Lock()
	t := j.of[forward]
	j.allForwardStats.mu.Unlock()
	if t == nil {
		return Tally{}
	}
	return t.read()
}
