package sessions

import (
	"sync"
	"sync/atomic"

	"ftpgate/internal/core/forward"
)

// ForwardStats sums up a forward since the start.
type ForwardStats struct {
	Sessions int64 // all that began, rejected ones included
	Refused  int64 // what was refused, corrected, or failed
	Totals
}

// statCounters holds the counters behind a Tally.
type statCounters struct{ sessions, refused, transfers, failed, up, down atomic.Int64 }

// add counts a transfer.
func (t *statCounters) add(came Totals) {
	t.transfers.Add(int64(came.Transfers))
	t.failed.Add(int64(came.Failed))
	t.up.Add(came.Up)
	t.down.Add(came.Down)
}

func (t *statCounters) read() ForwardStats {
	return ForwardStats{Sessions: t.sessions.Load(), Refused: t.refused.Load(),
		Totals: Totals{Transfers: int(t.transfers.Load()), Failed: int(t.failed.Load()), Up: t.up.Load(),
			Down: t.down.Load()}}
}

// allStatCounters holds the counters of all forwards.
type allStatCounters struct {
	mu sync.Mutex
	of map[string]*statCounters

	kernel, relayed atomic.Int64 // open pinholes
}

// stats returns the counters of a forward, which it creates for the first session.
func (t *allStatCounters) stats(forward string) *statCounters {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*statCounters{}
	}
	if t.of[forward] == nil {
		t.of[forward] = &statCounters{}
	}
	return t.of[forward]
}

// pinholes returns the counter of pinholes that are open or in use, by data path.
func (t *allStatCounters) pinholes(path string) *atomic.Int64 {
	if path == forward.DataKernel.String() {
		return &t.kernel
	}
	return &t.relayed
}

// Pinholes returns the number of pinholes that are open or in use on a data path, "kernel" or "relay".
func (j *Log) Pinholes(path string) int { return int(j.pinholes(path).Load()) }

// ForwardStats returns the sums of a forward since the start, by its name.
func (j *Log) ForwardStats(forward string) ForwardStats {
	j.allStatCounters.mu.Lock()
	t := j.of[forward]
	j.allStatCounters.mu.Unlock()
	if t == nil {
		return ForwardStats{}
	}
	return t.read()
}
