package system

import (
	"errors"
	"sync/atomic"
	"time"
)

// readTime is how long files may take to be read. A disk that works takes a small part of it, and a pipe
// that is read for a second is not taken for one that hangs.
const readTime = 1500 * time.Millisecond

// ErrNoAnswer means that files were not read in time: their disk or file server does not answer.
var ErrNoAnswer = errors.New("the disk or file server does not answer")

// Patience bounds how long its owner waits for files. It has at most one goroutine, in which a disk that
// hangs holds up a function of InTime: nothing waits for that, and until it ends InTime calls no other.
// The owner is one goroutine.
type Patience struct {
	busy atomic.Bool
}

// InTime calls read, which reads files and changes nothing, and returns its results. The error is read's, or
// ErrNoAnswer if it takes longer than readTime, or an earlier one still does.
func InTime[T any](p *Patience, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if !p.busy.CompareAndSwap(false, true) {
		return none, ErrNoAnswer
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		p.busy.Store(false)
		done <- result{value, err}
	}()
	timer := time.NewTimer(readTime)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
		return none, ErrNoAnswer
	}
}
