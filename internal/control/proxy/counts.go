package proxy

import (
	"iter"
	"sync/atomic"

	"ftpgate/internal/core/verdict"
)

// Counts sums up what the sessions of all forwards were refused, for the log at the end; package metrics has
// the numbers of each forward, while it is published. The zero value is ready, a nil one counts nothing, and
// several goroutines may use it at once.
type Counts struct {
	refused [verdict.RefusalKinds]atomic.Uint64
}

// Refused yields every kind of refusal with its number, also the kinds that never came.
func (c *Counts) Refused() iter.Seq2[verdict.RefusalKind, uint64] {
	return func(yield func(verdict.RefusalKind, uint64) bool) {
		for kind := verdict.NotRefused + 1; kind < verdict.RefusalKinds; kind++ {
			if !yield(kind, c.refused[kind].Load()) {
				return
			}
		}
	}
}

func (c *Counts) refuse(kind verdict.RefusalKind) {
	if c != nil {
		c.refused[kind].Add(1)
	}
}
