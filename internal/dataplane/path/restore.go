package path

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
)

// restoreTime is how long a client waits for the table to come back. Installing a table takes milliseconds,
// or seconds where there are many thousand forwards.
const restoreTime = 5 * time.Second

// restoring are the kernel's tables. Where another program has removed the table, it is brought back for what
// is to be added.
type restoring struct {
	*tables
	restorer *restorer
}

// Add opens a pinhole.
func (r restoring) Add(hole pinhole.Pinhole) error {
	return r.restorer.do(func() error { return r.pinholes.Add(hole) })
}

// Keep lets a pinhole live as long as it is wanted.
func (r restoring) Keep(hole pinhole.Pinhole, wanted func() bool) { r.pinholes.Keep(hole, wanted) }

// Remove closes a pinhole.
func (r restoring) Remove(hole pinhole.Pinhole) error { return r.pinholes.Remove(hole) }

// RemoveLater closes a pinhole that was used.
func (r restoring) RemoveLater(hole pinhole.Pinhole) { r.pinholes.RemoveLater(hole) }

// AddPassthrough opens a passthrough.
func (r restoring) AddPassthrough(p pinhole.Passthrough) error {
	return r.restorer.do(func() error { return r.passthroughs.Add(p) })
}

// RemovePassthrough closes a passthrough.
func (r restoring) RemovePassthrough(p pinhole.Passthrough) error { return r.passthroughs.Remove(p) }

// notRenewed hears that passthroughs could not be renewed. Where the table is gone it is brought back, and
// they with it. It does not wait for that: the caller may be about to close them.
func (p *Paths) notRenewed(err error) {
	p.log.Warn("encrypted sessions may lose their ports", "err", err)
	if errors.Is(err, unix.ENOENT) {
		p.restorer.begin(p.restorer.seen())
	}
}

// restorer brings the table back, once for everybody who misses it. It has one goroutine while it does so.
type restorer struct {
	restore func() error
	timeout time.Duration
	table   string
	log     *slog.Logger

	goroutines sync.WaitGroup // none begins after closed is set

	mu     sync.Mutex
	tries  uint64      // that are over
	trying *restoreTry // nil: none
	closed bool
}

// restoreTry is one attempt to bring the table back.
type restoreTry struct {
	done chan struct{} // closed when it is over, and err is set
	err  error
}

// do calls f, and calls it once more if it misses the table (ENOENT) and the table is brought back within the
// timeout.
func (r *restorer) do(f func() error) error {
	seen := r.seen()
	err := f()
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if try := r.begin(seen); try != nil {
		late := time.NewTimer(r.timeout)
		defer late.Stop()
		select {
		case <-try.done:
		case <-late.C:
			return err
		}
		if try.err != nil {
			return errors.Join(err, try.err)
		}
	}
	return f()
}

// seen returns how many attempts are over.
func (r *restorer) seen() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries
}

// begin starts to bring the table back for somebody who missed it when seen attempts were over, or returns
// the attempt that goes on. It returns nil where nothing is to be awaited: another attempt has ended
// meanwhile, or the restorer is closed.
func (r *restorer) begin(seen uint64) *restoreTry {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed, r.tries != seen:
		return nil
	case r.trying == nil:
		r.trying = &restoreTry{done: make(chan struct{})}
		r.goroutines.Add(1)
		go r.run(r.trying)
	}
	return r.trying
}

// run is the restorer's goroutine.
func (r *restorer) run(try *restoreTry) {
	defer r.goroutines.Done()
	r.log.Warn("the table has been removed by another program: installing it again", "table", "inet "+r.table,
		"remedy", "have that program leave tables alone that are not its own (nft flush ruleset removes all)")
	try.err = r.restore()
	r.mu.Lock()
	r.tries++
	r.trying = nil
	r.mu.Unlock()
	close(try.done)
}

// close waits for the attempt that goes on. None begins any more.
func (r *restorer) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.goroutines.Wait()
}
