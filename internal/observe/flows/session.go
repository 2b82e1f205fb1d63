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
	flow   netflow.Flow
	record *sessions.Record
	data   *Hole // the data connection that runs; nil: none
	over   bool  // the session ends with its data connection
}

// session begins with a control connection. It is called with the lock held.
func (w *Watcher) session(forward forward.Resolved, f netflow.Flow) {
	if old := w.controls[f.Original]; old != nil { // its end was missed
		old.record.Ends("")
	}
	c := &control{flow: f}
	c.record = w.book.Begin(sessions.Opening{Forward: forward.Name, Tracking: forward.Tracking, Client: f.Original.From,
		Gateway: f.Original.To, Passive: forward.ServerPorts})
	c.record.Connected(f.Reply.From, 0)
	w.controls[f.Original] = c
}

// data takes a data connection that the kernel's helper has announced. It is called with the lock held.
func (w *Watcher) data(c *control, f netflow.Flow, at time.Time) {
	active := f.Original.From.Addr() == c.flow.Reply.From.Addr()
	mode := "passive"
	if active {
		mode = "active"
	}
	h := &Hole{watcher: w, from: f.Original.From, connected: at, flow: &f,
		hole: pinhole.Pinhole{From: f.Original.From.Addr(), Listen: f.Original.To, Target: f.Reply.From, SourceIP: f.Reply.To.Addr(), Active: active}}
	if c.data != nil { // a session has one at a time: that one is over, though nobody has looked since
		c.record.Finishes(true, "", nil)
	}
	c.data = h
	h.over = func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if c.data == h {
			c.data = nil
			f := h.Progress().Fault
			c.record.Finishes(f == nil, "", f)
		}
		if c.over && c.data == nil {
			c.record.Ends("")
		}
	}
	c.record.Opened(sessions.Data{Mode: mode, Path: forward.DataKernel.String(), From: h.hole.From, At: h.hole.Listen, To: h.hole.Target,
		As: h.hole.SourceIP, Active: active, Meter: h}, time.Now())
	c.record.Begins(at, "", "")
	w.runs(h)
}

// lookAtControls ends the sessions whose control connection is over.
func (w *Watcher) lookAtControls(now time.Time) error {
	w.mu.Lock()
	if now.Sub(w.looked) < controlEvery {
		w.mu.Unlock()
		return nil
	}
	w.looked = now
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
		w.lookAtControl(tuples[i], f)
	}
	return nil
}

// lookAtControl takes a control connection as it is now.
func (w *Watcher) lookAtControl(t netflow.Tuple, now netflow.Flow) {
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
		c.over = waits
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
