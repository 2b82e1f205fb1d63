package flows

import (
	"errors"
	"time"

	"ftpgate/internal/core/netflow"
)

// Sever ends the connection, and others that were begun. Both of their ends break them. The pinhole must be
// closed, or it would take an end's last packet for another first one.
func (x *Expectation) Sever() {
	w, now := x.watcher, time.Now()
	if !x.connectedTuple().From.IsValid() { // the log may be late
		if found, err := w.table.Find(x.pinhole.From, x.pinhole.Listen); err == nil {
			w.onSearched(x, found, now)
		}
	}
	w.mu.Lock()
	begun := append([]*Expectation{x}, x.rivals...)
	w.mu.Unlock()
	for _, b := range begun {
		b.sever(now)
	}
}

// sever is Sever for one connection.
func (x *Expectation) sever(now time.Time) {
	w, t := x.watcher, x.connectedTuple()
	if !t.From.IsValid() {
		return
	}
	if found, err := w.table.Get(nil, []netflow.Tuple{t}); err == nil {
		x.update(found[0], now) // its bytes until now
	}
	x.mu.Lock()
	var flow netflow.Flow
	listed := x.flow != nil
	if listed {
		flow = *x.flow
	}
	x.mu.Unlock()
	if listed {
		x.noteSevered()
		_ = w.table.Sever(flow) // after an error it ends by itself
	}
}

// noteSevered notes that the gateway ends the connection.
func (x *Expectation) noteSevered() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.done && !x.segments.closed && !x.flow.State.Over() {
		x.severed = true
	}
}

var errSevered = errors.New("the gateway has ended the data connection")
