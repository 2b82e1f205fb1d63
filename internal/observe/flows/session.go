package flows

import (
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// control is a session with tracking kernel.
type control struct {
	flow         netflow.Flow
	record       *sessions.Record
	data         *Expectation // the data connection in progress, or nil
	endsWithData bool         // the control connection is over: the session ends with its data connection
}

// beginSession begins a session with its control connection. The caller holds w.mu.
func (w *Watcher) beginSession(forward forward.Resolved, f netflow.Flow) {
	if old := w.controls[f.Original]; old != nil { // its end was missed
		old.record.Ended("")
	}
	c := &control{flow: f}
	c.record = w.sessionLog.Begin(sessions.Start{Forward: forward.Name, Tracking: forward.Tracking,
		Client: f.Original.From, Gateway: f.Original.To, Passive: forward.ServerPorts})
	c.record.Connected(f.Reply.From, 0)
	w.controls[f.Original] = c
}

// beginData begins a data connection that the kernel's helper has expected. The caller holds w.mu.
func (w *Watcher) beginData(c *control, f netflow.Flow, at time.Time) {
	active := f.Original.From.Addr() == c.flow.Reply.From.Addr()
	mode := "passive"
	if active {
		mode = "active"
	}
	p := pinhole.Pinhole{From: f.Original.From.Addr(), Listen: f.Original.To, Target: f.Reply.From,
		SourceIP: f.Reply.To.Addr(), Active: active}
	x := &Expectation{watcher: w, peer: f.Original.From, pinhole: p,
		attempt: attempt{connected: at, flow: &f}}
	if c.data != nil { // a session has one at a time: the last one is over, but not polled yet
		c.record.TransferFinished(true, "", nil)
	}
	c.data = x
	x.onEnd = func() { w.endData(c, x) }
	c.record.Opened(sessions.Data{Mode: mode, Path: forward.DataKernel.String(), From: p.From,
		Listen: p.Listen,
		Target: p.Target, SourceIP: p.SourceIP, Active: active, Meter: x}, time.Now())
	c.record.TransferStarted(at, "", "")
	w.activate(x)
}

// endData ends a data connection, and its session if its control connection has ended before.
func (w *Watcher) endData(c *control, x *Expectation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.data == x {
		c.data = nil
		fault := x.Outcome().Fault()
		c.record.TransferFinished(fault == nil, "", fault)
	}
	if c.endsWithData && c.data == nil {
		c.record.Ended("")
	}
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

// updateControl records the table's entry for a control connection, which is the zero flow if there is none.
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
	hasData := false
	if over {
		delete(w.controls, t)
		hasData = c.data != nil
		c.endsWithData = hasData
	} else {
		c.flow = now
	}
	w.mu.Unlock()
	switch {
	case hasData: // it may be over, too, but not polled yet
	case gone && !before.Replied:
		c.record.Refuse(verdict.Fault{Code: verdict.CodeServerUnreachable, At: before.Reply.From, Fatal: true,
			Err: before.Reply.From.String() + ": connection refused"})
		c.record.Ended("")
	case over:
		c.record.Ended("")
	case now.Sent.Packets+now.Received.Packets != before.Sent.Packets+before.Received.Packets:
		c.record.Alive()
	}
}
