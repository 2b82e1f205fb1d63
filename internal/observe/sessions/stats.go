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

// allStats sums up the forwards.
type allStats struct {
	mu sync.Mutex
	of map[string]ForwardStats

	kernel, relayed atomic.Int64 // open pinholes
}

func (t *allStats) count(forward string, change func(*ForwardStats)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.of[forward]
	change(&s)
	t.of[forward] = s
}

// pinholes returns the counter of pinholes that are open or in use, by data path.
func (t *allStats) pinholes(path string) *atomic.Int64 {
	if path == forward.DataKernel.String() {
		return &t.kernel
	}
	return &t.relayed
}

// Pinholes returns the number of pinholes that are open or in use on a data path, "kernel" or "relay".
func (l *Log) Pinholes(path string) int { return int(l.stats.pinholes(path).Load()) }

// ForwardStats returns the sums of a forward since the start, by its name.
func (l *Log) ForwardStats(forward string) ForwardStats {
	l.stats.mu.Lock()
	defer l.stats.mu.Unlock()
	return l.stats.of[forward]
}
