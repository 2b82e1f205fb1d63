package repair

import (
	"context"
	"sync"
	"sync/atomic"

	"ftpgate/internal/kernel/nftwatch"
)

// watch notices changes of the table by other programs.
type watch struct {
	ctx        context.Context
	end        context.CancelFunc // nil: it has not begun
	subscribed atomic.Bool        // the kernel notifies of changes
	goroutines sync.WaitGroup
}

// Start begins to compare the table: on request, and, if this process may use nftables, when another program
// changes it. A second call retries a subscription that failed before. Start and Close are for one goroutine;
// Close ends what Start began.
func (r *Repairer) Start(usable bool) {
	w := &r.watch
	if w.end == nil {
		w.ctx, w.end = context.WithCancel(context.Background())
		w.goroutines.Go(func() { r.Run(w.ctx) })
	}
	if !usable || w.subscribed.Load() {
		return
	}
	watcher, err := nftwatch.Subscribe(r.config.Table)
	if err != nil {
		r.notSubscribed(err)
		return
	}
	w.subscribed.Store(true)
	w.goroutines.Go(func() {
		defer watcher.Close()
		if err := watcher.Run(w.ctx, r.Changed); err != nil {
			w.subscribed.Store(false)
			r.notSubscribed(err)
		}
	})
}

// Subscribed reports whether the kernel notifies of changes.
func (r *Repairer) Subscribed() bool { return r.watch.subscribed.Load() }

func (r *Repairer) notSubscribed(err error) {
	r.config.Log.Warn("nftables does not notify of changes: rules that another program removes come back "+
		"only at the next resolve interval, at a reload, or when a session needs them", "err", err)
}

// Close ends what Start began, and waits for it.
func (r *Repairer) Close() {
	if r.watch.end != nil {
		r.watch.end()
		r.watch.goroutines.Wait()
	}
}
