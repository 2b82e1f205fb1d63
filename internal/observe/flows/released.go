package flows

import (
	"time"

	"ftpgate/internal/core/netflow"
)

// lookAtReleased searches the table for the connections of holes that are closed and have heard of none, and forgets the
// holes that were closed so long ago that nothing is to come of them.
func (w *Watcher) lookAtReleased(now time.Time) error {
	w.mu.Lock()
	var unsure []*Hole
	for _, first := range w.awaited {
		for h, next := first, (*Hole)(nil); h != nil; h = next {
			next = h.next
			search, late := h.idle(now)
			switch {
			case late:
				w.forget(h)
			case search && len(unsure) < searches:
				h.searched = true
				unsure = append(unsure, h)
			}
		}
	}
	w.mu.Unlock()
	for _, h := range unsure {
		found, err := w.table.Find(h.hole.From, h.hole.Listen)
		if err != nil {
			return err
		}
		w.found(h, found, now)
	}
	return nil
}

// found takes what the table has at the place of a hole.
func (w *Watcher) found(h *Hole, flows []netflow.Flow, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !h.waits { // the log has told meanwhile, or it was too long ago
		return
	}
	for _, f := range flows {
		switch {
		case f.Reply.From != h.hole.Target:
		case !f.Replied:
			w.forget(h)
			h.silent()
			return
		case !f.State.Over():
			w.comes(h, f.Original.From, now, &f)
			return
		}
	}
	if h.givenUp() {
		w.forget(h)
	}
}
