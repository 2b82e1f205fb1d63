package relay

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// Running are the transfers of a gateway that are armed and not over. It owns their goroutines: also those of
// transfers that were closed, and whose connections go on. A nil Running keeps nothing. Several goroutines may
// call its methods at once.
type Running struct {
	goroutines sync.WaitGroup

	mu        sync.Mutex
	transfers map[*Transfer]int // with the number of their goroutines
	ended     chan struct{}     // closed at the end of the next one; nil: nobody waits for that
}

// start runs f, which is of the transfer.
func (r *Running) start(t *Transfer, f func()) {
	if r == nil {
		go f()
		return
	}
	r.mu.Lock()
	if r.transfers == nil {
		r.transfers = map[*Transfer]int{}
	}
	r.transfers[t]++
	r.mu.Unlock()
	r.goroutines.Go(func() {
		f()
		r.forget(t)
	})
}

// forget notes that a goroutine of the transfer has ended.
func (r *Running) forget(t *Transfer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.transfers[t]--; r.transfers[t] > 0 {
		return
	}
	delete(r.transfers, t)
	if r.ended != nil {
		close(r.ended)
		r.ended = nil
	}
}

// Wait returns when no connection goes on, or ctx ends.
func (r *Running) Wait(ctx context.Context) {
	for {
		r.mu.Lock()
		if len(r.transfers) == 0 {
			r.mu.Unlock()
			return
		}
		if r.ended == nil {
			r.ended = make(chan struct{})
		}
		ended := r.ended
		r.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}

// Close severs what runs, and waits for its end. Nothing may be opened after it.
func (r *Running) Close() {
	r.mu.Lock()
	left := slices.Collect(maps.Keys(r.transfers))
	r.mu.Unlock()
	for _, t := range left {
		t.Sever()
	}
	r.goroutines.Wait()
}
