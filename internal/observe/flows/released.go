package flows

import (
	"time"

	"ftpgate/internal/core/netflow"
)

// pollReleased searches the table for the connections of released expectations without one, and forgets the
// expectations whose connection cannot arrive any more.
func (w *Watcher) pollReleased(now time.Time) error {
	w.mu.Lock()
	var unsure []*Expectation
	for _, first := range w.expected {
		for x, older := first, (*Expectation)(nil); x != nil; x = older {
			older = x.older
			search, expire := x.searchOrExpire(now)
			switch {
			case x.peer.IsValid():
				if x.isReleased() { // no rival can follow
					w.stopExpecting(x)
				}
			case expire:
				w.stopExpecting(x)
			case search && len(unsure) < searchesPerPoll:
				x.searched = true
				unsure = append(unsure, x)
			}
		}
	}
	w.mu.Unlock()
	for _, x := range unsure {
		found, err := w.table.Find(x.pinhole.From, x.pinhole.Listen)
		if err != nil {
			return err
		}
		w.onSearched(x, found, now)
	}
	return nil
}

// onSearched handles the table's flows at the pinhole of an expectation.
func (w *Watcher) onSearched(x *Expectation, flows []netflow.Flow, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !x.expected || x.peer.IsValid() { // the log has shown its connection meanwhile, or it has expired
		return
	}
	for _, f := range flows {
		switch {
		case f.Reply.From != x.pinhole.Target:
		case !f.Replied:
			w.stopExpecting(x)
			x.finishUnanswered()
			return
		case !f.State.Over():
			w.begin(x, f.Original.From, now, &f)
			return
		}
	}
	if x.finishIfReleased() {
		w.stopExpecting(x)
	}
}
