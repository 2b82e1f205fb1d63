package flows

import (
	"net/netip"
	"time"

	"ftpgate/internal/core/netflow"
)

// Segment takes a segment with which a connection begins or ends, as it goes from one end to the other; or the first one
// of a connection that no rule leads on.
func (w *Watcher) Segment(s netflow.Segment) {
	if over := w.segment(s); over != nil {
		over()
	}
}

// segment returns what is to be called when the segment is the last one of a connection.
func (w *Watcher) segment(s netflow.Segment) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.SYN && !s.ACK && w.strays(s.From, s.To, s.At) {
		return nil
	}
	there := endsOf(s.From, s.To)
	back := there.turned()
	h, returned := w.running[back], true
	if h == nil {
		h, returned = w.running[there], false
	}
	if h == nil || s.SYN && h.closed() { // and the port serves again
		if h, returned = w.begins(s); h == nil {
			w.unclaimed(s, there, back)
			return nil
		}
	}
	if h.take(s, returned) {
		w.ran(h)
		return h.over
	}
	return nil
}

// begins takes a segment with which a connection through a hole may begin: what the end says that was dialled, or what
// the other one has to say again. back tells which.
func (w *Watcher) begins(s netflow.Segment) (h *Hole, back bool) {
	from, to := s.To, s.From
	switch {
	case s.SYN && !s.ACK:
		from, to = s.From, s.To
	case !s.SYN && !s.RST:
		return nil, false
	}
	if h = w.led(from, to, netip.AddrPort{}); h != nil {
		w.comes(h, from, s.At, nil)
	}
	return h, from == s.To
}

// unclaimed keeps what a segment says of a connection that nobody has told of yet.
func (w *Watcher) unclaimed(s netflow.Segment, there, back ends) {
	if s.SYN && s.ACK && len(w.pending) < maxPending {
		delete(w.running, back)
		w.pending[back] = &count{begun: s.At}
	}
	if c := w.pending[back]; c != nil {
		c.take(s, true)
	} else if c := w.pending[there]; c != nil {
		c.take(s, false)
	}
}

// dropPending forgets what has turned out to be nobody's.
func (w *Watcher) dropPending(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for e, c := range w.pending {
		if now.Sub(c.begun) > pendingTime {
			delete(w.pending, e)
		}
	}
}
