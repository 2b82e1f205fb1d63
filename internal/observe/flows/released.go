package flows

import (
	"time"

	"ftpgate/internal/core/netflow"
)

// pollReleased searches the table for the connections of holes that are closed and have heard of none, and forgets the
// holes that were closed so long ago that nothing is to come of them.
func (w *Watcher) pollReleased(now time.Time) error {
	w.mu.Lock()
	var unsure []*Expectation
	for _, first := range w.expected {
		for h, next := first, (*Expectation)(nil); h != nil; h = next {
			next = h.older
			search, late := h.searchOrExpire(now)
			switch {
			case late:
				w.stopExpecting(h)
			case search && len(unsure) < searchesPerPoll:
				h.searched = true
				unsure = append(unsure, h)
			}
		}
	}
	w.mu.Unlock()
	for _, h := range unsure {
		found, err := w.table.Find(h.pinhole.From, h.pinhole.At)
		if err != nil {
			return err
		}
		w.onSearched(h, found, now)
	}
	return nil
}

// onSearched takes what the table has at the place of a hole.
func (w *Watcher) onSearched(h *Expectation, flows []netflow.Flow, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !h.expected { // the log has told meanwhile, or it was too long ago
		return
	}
	for _, f := range flows {
		switch {
		case f.Reply.From != h.pinhole.To:
		case !f.Replied:
			w.stopExpecting(h)
			h.finishUnanswered()
			return
		case !f.State.Over():
			w.onConnected(h, f.Original.From, now, &f)
			return
		}
	}
	if h.finishIfReleased() {
		w.stopExpecting(h)
	}
}
