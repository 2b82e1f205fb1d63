package flows

import (
	"net/netip"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// A pinhole admits a few first packets, because an attacker can send one with its peer's address. The far end
// answers each; only the peer itself can complete the handshake. So an expectation follows the first
// connection that is begun, and treats others that are begun before that one completes as rivals:
//
//	expecting --first packet--> begun --completed, it or a rival--> complete
//	begun --its end reset without knowing of it, or the handshake timed out--> expecting

// attempt is one connection that was begun through a pinhole.
type attempt struct {
	connected time.Time     // when it was begun; zero: not yet
	flow      *netflow.Flow // its last state in the table; nil: only the log has shown the connection
	segments  byteCount     // from the logged segments
	polled    bool          // update has found it in the table
	polledAt  time.Time     // when it did so last
	movedAt   time.Time     // when it first found the present number of packets
	sawClosed bool          // closed at the last poll; its last segments may still arrive
	halfOpen  bool          // at the last poll the far end had answered, and the peer had not
	failed    bool          // over, and never complete
	complete  bool          // both ends have completed the handshake
}

// Keep sets whether the pinhole stays open after its lifetime. It has no effect after that.
func (x *Expectation) Keep(kept bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.kept = kept && !x.expired(time.Now())
}

// OnComplete sets closePinhole, which Poll calls once the connection has completed its handshake, unless the
// pinhole is released by then: no later connection may use it. closePinhole must not wait. Call OnComplete
// before the pinhole is open in the kernel.
func (x *Expectation) OnComplete(closePinhole func()) {
	x.watcher.mu.Lock()
	defer x.watcher.mu.Unlock()
	x.closePinhole = closePinhole
}

// begin records a connection that was begun, and returns what follows it: the expectation, or a rival of it
// if the expectation has a connection already. flow is its entry in the table, or nil if only the log has
// shown it. The caller holds w.mu.
func (w *Watcher) begin(x *Expectation, peer netip.AddrPort, at time.Time, flow *netflow.Flow) *Expectation {
	x.countAttempt()
	if x.peer.IsValid() {
		rival := &Expectation{watcher: w, pinhole: x.pinhole, opened: x.opened, rivalOf: x}
		x.rivals = append(x.rivals, rival)
		x = rival
	}
	x.peer = peer
	x.mu.Lock()
	x.attempt, x.fault = attempt{connected: at, flow: flow}, nil
	x.mu.Unlock()
	w.activate(x)
	return x
}

func (x *Expectation) countAttempt() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.attempts++
	x.dropped = netip.AddrPort{}
}

// complete notes that both ends of a connection have completed its handshake: it is the pinhole's connection.
// It returns the expectation that follows it from now on. The caller holds w.mu.
func (w *Watcher) complete(x *Expectation) *Expectation {
	if x.rivalOf != nil {
		x = w.adopt(x)
	}
	if !x.noteComplete() {
		return x
	}
	for _, rival := range x.rivals {
		w.deactivate(rival)
	}
	x.rivals = nil
	if x.expected {
		w.stopExpecting(x)
	}
	if x.closePinhole != nil {
		w.completed = append(w.completed, x)
	}
	return x
}

// noteComplete reports whether the connection was not complete before.
func (x *Expectation) noteComplete() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	first := !x.attempt.complete
	x.attempt.complete = true
	return first
}

// adopt makes an expectation follow a rival's connection instead of its own, and returns the expectation. The
// caller holds w.mu.
func (w *Watcher) adopt(rival *Expectation) *Expectation {
	x := rival.rivalOf
	w.deactivate(x)
	w.deactivate(rival)
	x.removeRival(rival)
	rival.mu.Lock()
	is, fault := rival.attempt, rival.fault
	rival.mu.Unlock()
	x.peer = rival.peer
	x.mu.Lock()
	x.attempt, x.fault, x.done = is, fault, false
	x.mu.Unlock()
	w.active[x.endpoints()] = x
	return x
}

// removeRival drops a rival. The caller holds the watcher's lock.
func (x *Expectation) removeRival(rival *Expectation) {
	for i, r := range x.rivals {
		if r == rival {
			x.rivals = append(x.rivals[:i:i], x.rivals[i+1:]...)
			return
		}
	}
}

// end stops following a connection that is over, and returns a function to call without a lock, or nil. If it
// never was complete, another host may have begun it with the peer's address: then the peer is still
// expected. The caller holds w.mu.
func (w *Watcher) end(x *Expectation) (onEnd func()) {
	w.deactivate(x)
	if x.rivalOf != nil {
		x.rivalOf.removeRival(x)
		return nil
	}
	if len(x.rivals) > 0 {
		w.adopt(x.rivals[0])
		return nil
	}
	if x.expectAgain() {
		x.peer = netip.AddrPort{}
		return nil
	}
	if x.expected {
		w.stopExpecting(x)
	}
	return x.onEnd
}

// expectAgain forgets a connection that failed before it was complete, and reports whether it did.
func (x *Expectation) expectAgain() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.failed || x.used {
		return false
	}
	x.attempt, x.fault, x.done = attempt{}, nil, !x.released.IsZero()
	return true
}

// firstPacket handles the first packet of a connection of the right peer, before any rule. If it is repeated,
// the kernel does not know the connection: a filter of the gateway has dropped the packet after the pinhole,
// or forged packets have exhausted the pinhole.
func (x *Expectation) firstPacket(from netip.AddrPort, at time.Time) {
	late := !x.released.IsZero() && !x.used && x.connected.IsZero()
	if x.dropped == from || x.expired(at) || late {
		x.notTranslated(at)
	}
	x.dropped = from
}

// expired reports whether the pinhole's lifetime is over. The caller holds x.mu.
func (x *Expectation) expired(now time.Time) bool {
	return !x.kept && now.Sub(x.opened) >= pinhole.Lifetime
}

// usedUpFault returns the fault of a pinhole that admits no more connections, because none that was begun was
// completed; nil: it admits more. The caller holds x.mu.
func (x *Expectation) usedUpFault() *verdict.Fault {
	if x.attempts < pinhole.FirstPackets || x.attempt.complete || !x.connected.IsZero() && !x.halfOpen {
		return nil
	}
	return &verdict.Fault{Code: verdict.CodeForgedConnections, At: x.pinhole.Listen, Peer: x.pinhole.From}
}
