package flows

import (
	"net/netip"
	"time"

	"ftpgate/internal/core/netflow"
)

// HandleSegment handles a logged segment: one that begins or ends a connection, with the addresses of its two
// ends, or the first one of a connection that no rule has translated.
func (w *Watcher) HandleSegment(s netflow.Segment) {
	if onEnd := w.handleSegment(s); onEnd != nil {
		onEnd()
	}
}

// handleSegment returns the function to call, without a lock, if this was the last segment of a connection.
func (w *Watcher) handleSegment(s netflow.Segment) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.SYN && !s.ACK && w.onArrival(s.From, s.To, s.At, false) {
		return nil
	}
	forth := endpointsOf(s.From, s.To)
	back := forth.reversed()
	x, fromFar := w.active[back], true
	if x == nil {
		x, fromFar = w.active[forth], false
	}
	if x == nil || s.SYN && x.segmentsClosed() { // the port is in use again
		if x, fromFar = w.connectBySegment(s); x == nil {
			w.keepUnassigned(s, forth, back)
			return nil
		}
	}
	if s.FIN || s.RST && s.ACK && !fromFar { // never part of a handshake
		x = w.complete(x)
	}
	if x.addSegment(s, fromFar) {
		return w.end(x)
	}
	return nil
}

// connectBySegment connects an expectation if the segment can be the first one that is seen of its
// connection: the answer of the far end, or a repeated first segment. fromFar: the dialled end sent it. It
// returns nil if no expectation fits. The caller holds w.mu.
func (w *Watcher) connectBySegment(s netflow.Segment) (x *Expectation, fromFar bool) {
	from, to := s.To, s.From
	switch {
	case s.SYN && !s.ACK:
		from, to = s.From, s.To
	case !s.SYN && !s.RST:
		return nil, false
	}
	if x = w.find(from, to, netip.AddrPort{}); x != nil {
		x = w.begin(x, from, s.At, nil)
	}
	return x, from == s.To
}

// keepUnassigned counts a segment of a connection without a session so far. The caller holds w.mu.
func (w *Watcher) keepUnassigned(s netflow.Segment, forth, back endpoints) {
	if s.SYN && s.ACK && len(w.unassigned) < maxUnassigned {
		delete(w.active, back)
		w.unassigned[back] = &byteCount{begun: s.At}
	}
	if c := w.unassigned[back]; c != nil {
		c.add(s, true)
	} else if c := w.unassigned[forth]; c != nil {
		c.add(s, false)
	}
}

// dropUnassigned forgets the connections that got no session in time.
func (w *Watcher) dropUnassigned(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ends, c := range w.unassigned {
		if now.Sub(c.begun) > unassignedLifetime {
			delete(w.unassigned, ends)
		}
	}
}
