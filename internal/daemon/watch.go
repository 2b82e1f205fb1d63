package daemon

import (
	"context"
	"sync"
	"sync/atomic"

	"ftpgate/internal/kernel/nftwatch"
)

// tableWatch is what notices that another program changes the table.
type tableWatch struct {
	ctx        context.Context
	end        context.CancelFunc // nil: it has not begun
	subscribed atomic.Bool        // the kernel notifies of changes
	goroutines sync.WaitGroup
}

// watchTable compares the table from now on, when another program changes it and when somebody asks. A second
// call makes up for a subscription that the first could not have.
func (r *instance) watchTable() {
	w := &r.tableWatch
	if w.end == nil {
		w.ctx, w.end = context.WithCancel(context.Background())
		w.goroutines.Go(func() { r.repairer.Run(w.ctx) })
	}
	if !r.prober.Usable || w.subscribed.Load() {
		return
	}
	watcher, err := nftwatch.Subscribe(r.Table)
	if err != nil {
		r.notWatched(err)
		return
	}
	w.subscribed.Store(true)
	w.goroutines.Go(func() {
		defer watcher.Close()
		if err := watcher.Run(w.ctx, r.repairer.Changed); err != nil {
			w.subscribed.Store(false)
			r.notWatched(err)
		}
	})
}

func (r *instance) notWatched(err error) {
	r.Log.Warn("nftables does not notify of changes: rules that another program removes come back "+
		"only at the next resolve interval, at a reload, or when a session needs them", "err", err)
}

// stopWatching ends what watchTable has begun.
func (r *instance) stopWatching() {
	if r.tableWatch.end != nil {
		r.tableWatch.end()
		r.tableWatch.goroutines.Wait()
	}
}
