package proxy

import (
	"iter"
	"sync/atomic"

	"ftpgate/internal/core/verdict"
)

// Counts counts the refusals of all forwards' sessions by kind, for the log at the end; package metrics has
// those of each published forward. The zero value is ready, a nil one counts nothing. Several goroutines may
// use it at once.
type Counts struct {
	refused [verdict.RefusalKinds]atomic.Uint64
}

// Refused yields every kind of refusal with its number, zeros included.
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
