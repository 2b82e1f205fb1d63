package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/dataplane/port"
)

// Result is what became of a transfer.
type Result struct {
	// bytes from the client that were given to the server's connection, and the reverse
	Up, Down        int64
	UnexpectedPeers int       // connections from other addresses than the pinhole's, all reset
	Began           time.Time // when the port was reserved, or the bridge began to dial
	Armed           time.Time // when the pinhole was armed; zero: never, or a bridge
	Connected       time.Time // when the peer was accepted, or both legs of a bridge stood; zero: never
	Joined          time.Time // when both ends stood; zero: never
	Ended           time.Time
	// Err is nil only if both ends closed their direction in order and all they sent was passed on. Else it
	// is, or wraps, ErrNobody, ErrClosed, a *DialError, a *HandshakeError or a *BrokenError; that of a TLS
	// end may wrap a *TruncatedError.
	Err error
}

// Transfer is one data connection through the gateway, from the reserved port to the last byte. Several
// goroutines may call its methods at once.
//
//	reserved --Arm--> waiting --the peer comes--> dialling --both ends stand--> copying --both end--> over
//	Bridge, Carry ------------------------------> dialling
//	any state --fail: an error, Close, the end of its context--> over
//
// How it copies, and how data may end, differs with TLS: see clearTransfer and tlsTransfer.
//
// It has no goroutine of its own until it is armed, one until both ends stand, and then two; during TLS
// handshakes three.
type Transfer struct {
	from       netip.Addr      // the peer that the port admits; not valid for a bridge
	listen     netip.AddrPort  // where; not valid for a bridge
	ports      *port.Allocator // that gave the port out; nil: its owner gives it back
	route      *port.Route     // what comes to the port from the peer; nil for a bridge
	work       func() error    // all that is done between Arm and the end
	copier     copier
	graceTime  time.Duration
	connected  chan struct{} // closed when the peer is there, and may be
	joined     chan struct{} // closed when both ends stand
	unused     chan struct{} // closed by Close without Use, if a connection has come: no transfer will begin
	waitTime   time.Duration // for the peer, from Arm or Unuse on
	late       *time.Timer   // that time, while it runs
	inUse      bool          // a transfer command waits for the peer
	unlistened sync.Once
	done       chan struct{} // closed when result is complete
	result     Result        // of the running goroutine until done is closed

	peer       Side          // which end connects: the server in active mode
	peerPort   uint16        // from which it came
	idleTime   time.Duration // after Close
	relay      *Relay
	ctx        context.Context // ends when the transfer is severed, or over
	stop       context.CancelFunc
	unregister func() bool // from now on the end of the caller's context does not break the transfer

	bytes   [2]atomic.Int64  // passed on, by the end that sent them
	ended   [2]atomic.Bool   // the end has sent its FIN, and all that came before it was passed on
	passed  [2]chan struct{} // closed when the other end was given the FIN of this one
	flowing chan struct{}    // closed when data may flow: both ends stand, and handshakes are over
	broken  chan struct{}    // closed with the first failure

	mu              sync.Mutex
	detached        bool            // Close was called after a connection had come
	finished        bool            // Finish was called: the server has called it a complete download
	armed           bool            // the goroutine runs, or has run
	ends            [2]*net.TCPConn // by side; without a lock once both stand
	delivered       bool            // Finish has found that nothing is left to be passed on
	err             error           // the first failure; after it nothing is open
	unexpectedPeer  netip.Addr      // the last one that came from another address than the peer's
	unexpectedPeers int
}

// copier is the part of a transfer that differs with TLS.
type copier interface {
	// prepare is called once both ends stand, and reports whether data may flow: the TLS handshakes are done.
	// Else the transfer has failed.
	prepare() bool
	// copy passes on everything that the end side sends, and then its end. It is called for both sides at
	// once. An error means that the transfer is broken, and says by whom.
	copy(side Side) error
	// closedCleanly reports that an end whose connection has just failed had ended in order before, and that
	// nothing was to be delivered to it.
	closedCleanly(side Side) bool
	// shortenHandshake gives handshakes that have not begun no more time than those that have.
	shortenHandshake()
	// notResumed reports that TLS with the server was set up without resuming a session.
	notResumed() bool
}

// Arm lets the peer's connection come: when it returns nil, a peer can connect to Listen. The wait time runs
// from here. Armed once more, and on a bridge, it does nothing. The error is, or wraps, ErrClosed on a
// transfer that is over.
func (t *Transfer) Arm() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed {
		return nil
	}
	if t.err != nil {
		return fmt.Errorf("relay: arm %s: %w", t.listen, t.err)
	}
	t.armed = true
	t.result.Armed = time.Now()
	if !t.inUse {
		t.late.Reset(t.waitTime)
	}
	if t.ends[t.peer] != nil { // it has waited for this
		t.markConnected()
	}
	t.start()
	return nil
}

func (t *Transfer) isArmed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.armed
}

// Waiting reports whether a connection waits to be let through by Arm.
func (t *Transfer) Waiting() bool {
	t.route.AcceptPending()
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.armed && t.err == nil && t.ends[t.peer] != nil
}

// Use keeps the pinhole open until Close: a transfer command waits for its connection.
func (t *Transfer) Use() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inUse = true
	t.late.Stop()
}

// Unuse takes Use back: the wait time runs again.
func (t *Transfer) Unuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inUse = false
	if t.armed {
		t.late.Reset(t.waitTime)
	}
}

// Join waits until both ends stand, the transfer has failed, or cancel is closed, if the peer has come.
func (t *Transfer) Join(cancel <-chan struct{}) {
	if !t.isArmed() {
		return
	}
	if t.route != nil {
		t.route.AcceptPending()
		select {
		case <-t.connected:
		default:
			return
		}
	}
	select {
	case <-t.joined:
	case <-t.broken:
	case <-t.done:
	case <-cancel:
	}
}

// Accept takes the connection of the pinhole's peer: exactly one, and before Arm only in active mode.
func (t *Transfer) Accept(c *net.TCPConn, from uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || t.ends[t.peer] != nil || !t.armed && t.peer == Client {
		c.Close() // a reset: see package socket
		return
	}
	t.ends[t.peer], t.peerPort = c, from
	if t.armed {
		t.markConnected()
	}
}

// Refused hears of a connection from another address than the peer's.
func (t *Transfer) Refused(from netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed {
		t.unexpectedPeers++
		t.unexpectedPeer = from
	}
}

// unlisten gives the port back: nothing more can come.
func (t *Transfer) unlisten() {
	if t.route == nil {
		return
	}
	t.unlistened.Do(func() {
		t.route.Close()
		switch {
		case t.ports == nil:
		case t.peer == Server:
			t.ports.Rest(t.from, t.listen)
		default:
			t.ports.Release(t.from, t.listen)
		}
	})
}

// start runs the transfer in a goroutine of its own.
func (t *Transfer) start() { t.relay.start(t, t.run) }

// run is the transfer's goroutine: it does the work and completes the result.
func (t *Transfer) run() {
	if err := t.work(); err != nil {
		t.fail(err)
	}
	t.unregister() // of a context that outlives it
	t.stop()
	t.unlisten()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.closeInOrder()
	}
	t.complete()
}

// setConn makes c an end of the transfer; where that has failed already, c is reset and the result is false.
func (t *Transfer) setConn(side Side, c *net.TCPConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		c.Close()
		return false
	}
	t.ends[side] = c
	return true
}

// markConnected notes that the peer is there. The caller holds the lock.
func (t *Transfer) markConnected() {
	t.result.Connected = time.Now()
	close(t.connected)
}

// Listen returns the gateway's address and port where the peer is expected; not valid for a bridge.
func (t *Transfer) Listen() netip.AddrPort { return t.listen }

// Bytes returns what has been passed on so far, from the client and to it.
func (t *Transfer) Bytes() (up, down int64) {
	return t.bytes[Client].Load(), t.bytes[Server].Load()
}

// ConnectedAt returns when the pinhole's peer was accepted, or both legs of a bridge stood; zero: not yet.
func (t *Transfer) ConnectedAt() time.Time {
	select {
	case <-t.connected:
		return t.result.Connected
	default:
		return time.Time{}
	}
}

// LastUnexpectedPeer returns the last peer that was refused for having another address than the pinhole's;
// not valid: nobody was.
func (t *Transfer) LastUnexpectedPeer() netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unexpectedPeer
}

// Connected is closed when the pinhole's peer was accepted, or both legs of a bridge stand. It stays open
// where that never happens: wait for Done beside it.
func (t *Transfer) Connected() <-chan struct{} { return t.connected }

// NotResumed reports that TLS with the server stands, or stood, and that the server did not resume the
// session of its control connection: there are servers that take no data then.
func (t *Transfer) NotResumed() bool { return t.copier.notResumed() }

// Done is closed when the transfer is over and all its goroutines and sockets are gone.
func (t *Transfer) Done() <-chan struct{} { return t.done }

// Result returns what became of the transfer; it waits for Done.
func (t *Transfer) Result() Result {
	<-t.done
	return t.result
}
