package flows

import (
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// control is a session that the kernel tracks.
type control struct {
	flow         netflow.Flow
	record       *sessions.Record
	data         *Expectation // the data connection that runs; nil: none
	endsWithData bool         // the session ends with its data connection
}

// beginSession begins with a control connection. It is called with the lock held.
func (w *Watcher) beginSession(forward forward.Resolved, f netflow.Flow) {
	if old := w.controls[f.Original]; old != nil { // its end was missed
		old.record.Ends("")
	}
	c := &control{flow: f}
	c.record = w.journal.Begin(sessions.Opening{Forward: forward.Name, Tracking: forward.Tracking, Client: f.Original.From,
		Gateway: f.Original.To, Passive: forward.ServerPorts})
	c.record.Connected(f.Reply.From, 0)
	w.controls[f.Original] = c
}

// beginData takes a data connection that the kernel's helper has announced. It is called with the lock held.
func (w *Watcher) beginData(c *control, f netflow.Flow, at time.Time) {
	active := f.Original.From.Addr() == c.flow.Reply.From.Addr()
	mode := "passive"
	if active {
		mode = "active"
	}
	h := &Expectation{watcher: w, peer: f.Original.From, connected: at, flow: &f,
		pinhole: pinhole.Pinhole{From: f.Original.From.Addr(), At: f.Original.To, To: f.Reply.From, As: f.Reply.To.Addr(), Active: active}}
	if c.data != nil { // a session has one at a time: that one is over, though nobody has looked since
		c.record.Finishes(true, "", nil)
	}
	c.data = h
	h.onEnd = func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if c.data == h {
			c.data = nil
			f := h.Progress().Fault
			c.record.Finishes(f == nil, "", f)
		}
		if c.endsWithData && c.data == nil {
			c.record.Ends("")
		}
	}
	c.record.Opened(sessions.Data{Mode: mode, Path: forward.DataKernel.String(), From: h.pinhole.From, At: h.pinhole.At, To: h.pinhole.To,
		As: h.pinhole.As, Active: active, Meter: h}, time.Now())
	c.record.Begins(at, "", "")
	w.activate(h)
}

// pollControls ends the sessions whose control connection is over.
func (w *Watcher) pollControls(now time.Time) error {
	w.mu.Lock()
	if now.Sub(w.controlsPolled) < controlPollInterval {
		w.mu.Unlock()
		return nil
	}
	w.controlsPolled = now
	tuples := make([]netflow.Tuple, 0, len(w.controls))
	for t := range w.controls {
		tuples = append(tuples, t)
	}
	w.mu.Unlock()
	found, err := w.table.Get(make([]netflow.Flow, 0, len(tuples)), tuples)
	if err != nil {
		return err
	}
	for i, f := range found {
		w.updateControl(tuples[i], f)
	}
	return nil
}

// updateControl takes a control connection as it is now.
func (w *Watcher) updateControl(t netflow.Tuple, now netflow.Flow) {
	w.mu.Lock()
	c := w.controls[t]
	if c == nil {
		w.mu.Unlock()
		return
	}
	before := c.flow
	gone := now.ID != before.ID
	over := gone || now.State.Over()
	waits := false
	if over {
		delete(w.controls, t)
		waits = c.data != nil
		c.endsWithData = waits
	} else {
		c.flow = now
	}
	w.mu.Unlock()
	switch {
	case waits: // for its data connection, which may be over, too, and nobody has looked
	case gone && !before.Replied:
		c.record.Refuse(verdict.Fault{Code: verdict.CodeServerUnreachable, At: before.Reply.From, Fatal: true,
			Err: before.Reply.From.String() + ": connection refused"})
		c.record.Ends("")
	case over:
		c.record.Ends("")
	case now.Sent.Packets+now.Received.Packets != before.Sent.Packets+before.Received.Packets:
		c.record.Alive()
	}
}
