package flows

import (
	"net/netip"
	"time"

	"ftpgate/internal/core/netflow"
)

// HandleSegment takes a segment with which a connection begins or ends, as it goes from one end to the other; or the first one
// of a connection that no rule leads on.
func (w *Watcher) HandleSegment(s netflow.Segment) {
	if over := w.handleSegment(s); over != nil {
		over()
	}
}

// handleSegment returns what is to be called when the segment is the last one of a connection.
func (w *Watcher) handleSegment(s netflow.Segment) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.SYN && !s.ACK && w.onUnmatched(s.From, s.To, s.At) {
		return nil
	}
	there := endpointsOf(s.From, s.To)
	back := there.reversed()
	h, returned := w.active[back], true
	if h == nil {
		h, returned = w.active[there], false
	}
	if h == nil || s.SYN && h.segmentsClosed() { // and the port serves again
		if h, returned = w.connectBySegment(s); h == nil {
			w.keepUnclaimed(s, there, back)
			return nil
		}
	}
	if h.addSegment(s, returned) {
		w.deactivate(h)
		return h.onEnd
	}
	return nil
}

// connectBySegment takes a segment with which a connection through a hole may begin: what the end says that was dialled, or what
// the other one has to say again. back tells which.
func (w *Watcher) connectBySegment(s netflow.Segment) (h *Expectation, back bool) {
	from, to := s.To, s.From
	switch {
	case s.SYN && !s.ACK:
		from, to = s.From, s.To
	case !s.SYN && !s.RST:
		return nil, false
	}
	if h = w.find(from, to, netip.AddrPort{}); h != nil {
		w.onConnected(h, from, s.At, nil)
	}
	return h, from == s.To
}

// keepUnclaimed keeps what a segment says of a connection that nobody has told of yet.
func (w *Watcher) keepUnclaimed(s netflow.Segment, there, back endpoints) {
	if s.SYN && s.ACK && len(w.unclaimed) < maxUnclaimed {
		delete(w.active, back)
		w.unclaimed[back] = &byteCount{begun: s.At}
	}
	if c := w.unclaimed[back]; c != nil {
		c.add(s, true)
	} else if c := w.unclaimed[there]; c != nil {
		c.add(s, false)
	}
}

// dropUnclaimed forgets what has turned out to be nobody's.
func (w *Watcher) dropUnclaimed(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for e, c := range w.unclaimed {
		if now.Sub(c.begun) > unclaimedLifetime {
			delete(w.unclaimed, e)
		}
	}
}
