package proxy

import (
	"iter"
	"sync/atomic"

	"ftpgate/internal/core/dialogue"
)

// Counts counts what the sessions of any number of forwards did. The zero value is ready, a nil one counts
// nothing, and several goroutines may use it at once.
type Counts struct {
	sessions, transfers, failedLogins atomic.Uint64
	running                           atomic.Int64
	refused                           [dialogue.RefusalKinds]atomic.Uint64
}

// Sessions returns how many clients were let in since the start.
func (c *Counts) Sessions() uint64 { return c.sessions.Load() }

// Running returns how many of them are here now.
func (c *Counts) Running() int64 { return c.running.Load() }

// Transfers returns how many transfers were completed.
func (c *Counts) Transfers() uint64 { return c.transfers.Load() }

// FailedLogins returns how many logins the servers refused.
func (c *Counts) FailedLogins() uint64 { return c.failedLogins.Load() }

// Refused yields every kind of refusal with its number, also the kinds that never came.
func (c *Counts) Refused() iter.Seq2[dialogue.RefusalKind, uint64] {
	return func(yield func(dialogue.RefusalKind, uint64) bool) {
		for kind := dialogue.NotRefused + 1; kind < dialogue.RefusalKinds; kind++ {
			if !yield(kind, c.refused[kind].Load()) {
				return
			}
		}
	}
}

func (c *Counts) sessionStarted() {
	if c != nil {
		c.sessions.Add(1)
		c.running.Add(1)
	}
}

func (c *Counts) sessionEnded() {
	if c != nil {
		c.running.Add(-1)
	}
}

func (c *Counts) transferCompleted() {
	if c != nil {
		c.transfers.Add(1)
	}
}

func (c *Counts) refuse(kind dialogue.RefusalKind) {
	if c == nil {
		return
	}
	c.refused[kind].Add(1)
	if kind == dialogue.RefusedLogin {
		c.failedLogins.Add(1)
	}
}
