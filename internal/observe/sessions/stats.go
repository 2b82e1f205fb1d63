package sessions

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"ftpgate/internal/core/forward"
)

// ForwardStats sums up a forward since the start.
type ForwardStats struct {
	Sessions int64 // all that began, rejected ones included
	Refused  int64 // refusals, corrections and failures
	Totals
}

// allStats sums up the forwards.
type allStats struct {
	mu sync.Mutex
	of map[string]*forwardStats

	kernel, relayed atomic.Int64 // open pinholes
}

// forward returns the sums of a forward, by its name.
func (t *allStats) forward(name string) *forwardStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.of[name]
	if s == nil {
		s = &forwardStats{}
		t.of[name] = s
	}
	return s
}

// forwardStats are the sums of one forward.
type forwardStats struct {
	mu   sync.Mutex
	sums ForwardStats
}

func (s *forwardStats) count(change func(*ForwardStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.sums)
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
	s := l.stats.forward(forward)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sums
}

// Sums returns the sums of all forwards since the start.
func (l *Log) Sums() (sums ForwardStats) {
	l.stats.mu.Lock()
	all := slices.Collect(maps.Values(l.stats.of))
	l.stats.mu.Unlock()
	for _, s := range all {
		s.count(func(one *ForwardStats) {
			sums.Sessions += one.Sessions
			sums.Refused += one.Refused
			sums.Totals.add(one.Totals)
		})
	}
	return sums
}
