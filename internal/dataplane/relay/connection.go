package relay

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/socket"
)

// Connection is one data connection through the gateway, from the reserved port to the last byte. Several
// goroutines may call its methods at once.
//
//	reserved --Arm--> waiting --the peer connects--> dialling --both ends stand--> copying --both end--> over
//	Bridge, Carry ------------------------------> dialling
//	any state --fail: an error, Close, the end of its context--> over
//
// How it copies, and how data may end, differs with TLS: see clearConnection and tlsConnection.
//
// How it ends. It is delivered when the server's FIN was forwarded and the client has acknowledged every byte
// before it; only Finish, and the watch after Close, look for that:
//
//	event                  no peer yet          peer connected               delivered
//	---------------------  -------------------  ---------------------------  -----------------------------
//	both ends send FIN     -                    over, in order               over, in order
//	wait time passes       over: ErrNoPeer (1)  -                            -
//	an end breaks, or TLS  -                    over: reset, its error       over, in order
//	Sever, end of context  over: ErrClosed (1)  over: reset, ErrClosed (2)   over, in order (2)
//	Finish                 returns (3)          waits: delivered, over, or   returns
//	                                            no byte moves for graceTime
//	Close                  over: ErrClosed (1)  detached: continues alone    detached
//	detached, idleTime     -                    over: reset, ErrClosed       over, in order
//	  without a byte
//	detached after Finish  -                    -                            over, in order, graceTime
//	                                                                         after the server's FIN (4)
//
// (1) Err returns nil: a missing peer is no error. (2) The end of the caller's context has no effect once the
// connection is detached. (3) In active mode it waits graceTime for the server's connection. (4) Unless the
// client has sent data. "In order" is a FIN to both ends, with Err nil; "reset" is one to both ends.
//
// It has no goroutine of its own until it is armed, one until both ends stand, and then two; during TLS
// handshakes three.
type Connection struct {
	from          netip.Addr      // the peer that the port admits; not valid for a bridge
	listen        netip.AddrPort  // where; not valid for a bridge
	ports         *port.Allocator // that gave the port out; nil: its owner gives it back
	route         *port.Route     // of connections from the peer to the port; nil for a bridge
	work          func() error    // runs from Arm to the end
	copier        copier
	graceTime     time.Duration
	connected     chan struct{} // closed when the peer has connected and is admitted
	connectedAt   time.Time     // set before that
	bothConnected chan struct{} // closed when both ends are connected
	// closed by Close without Use, if the peer has connected: no transfer will begin
	unused     chan struct{}
	waitTime   time.Duration // for the peer, from Arm or Unuse on
	late       *time.Timer   // that time, while it runs
	inUse      bool          // a transfer command waits for the peer
	unlistened sync.Once
	done       chan struct{} // closed when the connection is over
	endErr     error         // how it ended; nil: in order. It is set before done is closed.

	peer       Side          // which end connects: the server in active mode
	peerAt     port.Peer     // from where and to where it connected
	idleTime   time.Duration // after Close
	relay      *Relay
	ctx        context.Context // ends when the connection is severed, or over
	stop       context.CancelFunc
	unregister func() bool // from now on the end of the caller's context does not break the connection

	bytes        [2]atomic.Int64  // forwarded, by the end that sent them
	finReceived  [2]atomic.Bool   // the end has sent its FIN, and all data before it was forwarded
	finForwarded [2]chan struct{} // closed when the FIN was forwarded to the other end
	flowing      chan struct{}    // closed when data may flow: both ends are connected, handshakes are done
	broken       chan struct{}    // closed with the first failure

	mu             sync.Mutex
	detached       bool            // Close was called after the peer had connected
	finished       bool            // Finish was called: the server reported a complete download
	armed          bool            // the goroutine runs, or has run
	ends           [2]*socket.Conn // by side; read without a lock once both are connected
	keepAlive      *time.Timer     // until the ends are asked whether they are alive; nil: there is no end
	keptAlive      bool            // it has gone off
	watch          *time.Timer     // until watchDetached; nil: Close was not called
	delivered      bool            // Finish found everything delivered
	err            error           // the first failure; after it nothing is open
	unexpectedPeer netip.Addr      // the last one with another address than the peer's
	// called when the client has ended, before the server learns of it; may be nil
	beforeEnd func()
}

// copier is the part of a connection that differs with TLS.
type copier interface {
	// prepare is called once both ends are connected, does the TLS handshakes, and reports whether data may
	// flow. Else the connection has failed.
	prepare() bool
	// copy forwards everything that side sends, and then its end. It runs for both sides at once. The error
	// says which end broke the connection.
	copy(side Side) error
	// closedCleanly reports whether an end whose connection has just failed had ended in order before, and
	// nothing was left to be delivered to it.
	closedCleanly(side Side) bool
	// shortenHandshake limits handshakes that have not begun to HandshakeTime.
	shortenHandshake()
	// notResumed reports whether TLS with the server was set up without resuming a session.
	notResumed() bool
}

// BeforeClientEnds sets a function that is called when the client closes or breaks its connection, before the
// server learns of it. f may block briefly.
func (c *Connection) BeforeClientEnds(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beforeEnd = f
}

// announceEnd is called when a side has ended or broken, before the other side learns of it.
func (c *Connection) announceEnd(side Side) {
	c.mu.Lock()
	f := c.beforeEnd
	c.mu.Unlock()
	if side == Client && f != nil {
		f()
	}
}

// Arm admits the peer's connection: when it returns nil, the peer can connect to Listen. The wait time
// begins. A second Arm, and one on a bridge, does nothing. The error is, or wraps, ErrClosed on a connection
// that is over.
func (c *Connection) Arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed {
		return nil
	}
	if c.err != nil {
		return fmt.Errorf("relay: arm %s: %w", c.listen, c.err)
	}
	c.armed = true
	if !c.inUse {
		c.late.Reset(c.waitTime)
	}
	if c.ends[c.peer] != nil { // it connected before Arm
		c.markConnected()
	}
	c.start()
	return nil
}

func (c *Connection) isArmed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.armed
}

// Waiting reports whether a connection waits for Arm.
func (c *Connection) Waiting() bool {
	c.route.AcceptPending()
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.armed && c.err == nil && c.ends[c.peer] != nil
}

// Use keeps the pinhole open until Close: a transfer command waits for its connection.
func (c *Connection) Use() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inUse = true
	c.late.Stop()
}

// Unuse undoes Use: the wait time begins again.
func (c *Connection) Unuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inUse = false
	if c.armed {
		c.late.Reset(c.waitTime)
	}
}

// AwaitBothEnds returns at once if no peer has connected. Else it waits until both ends are connected, the
// connection has failed, or cancel is closed.
func (c *Connection) AwaitBothEnds(cancel <-chan struct{}) {
	if !c.isArmed() {
		return
	}
	if c.route != nil && c.ConnectedAt().IsZero() {
		if c.route.AcceptPending(); c.ConnectedAt().IsZero() {
			return
		}
	}
	select {
	case <-c.bothConnected:
	case <-c.broken:
	case <-c.done:
	case <-cancel:
	}
}

// Accept takes over a connection of the pinhole's peer: exactly one, and before Arm only in active mode.
func (c *Connection) Accept(conn *socket.Conn, peer port.Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.ends[c.peer] != nil || !c.armed && c.peer == Client {
		conn.Close() // a reset: see package socket
		return
	}
	c.addEnd(c.peer, conn)
	c.peerAt = peer
	if c.armed {
		c.markConnected()
	}
}

// Refused notes a connection from another address than the peer's.
func (c *Connection) Refused(from netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed {
		c.unexpectedPeer = from
	}
}

// unlisten releases the port: no peer can connect any more.
func (c *Connection) unlisten() {
	if c.route == nil {
		return
	}
	c.unlistened.Do(func() {
		c.route.Close()
		switch {
		case c.ports == nil:
		// a peer that knows it may still connect
		case c.peer == Server, c.isArmed() && c.ConnectedAt().IsZero():
			c.ports.Rest(c.from, c.listen)
		default:
			c.ports.Release(c.from, c.listen)
		}
	})
}

// start runs the connection in a goroutine of its own.
func (c *Connection) start() { c.relay.start(c, c.run) }

// run is the connection's goroutine, from Arm to the end.
func (c *Connection) run() {
	if err := c.work(); err != nil {
		c.fail(err)
	}
	c.unregister() // the context outlives the connection
	c.stop()
	c.unlisten()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopTimers()
	if c.err == nil {
		c.closeInOrder()
	}
	c.complete()
}

// stopTimers ends what waits for a connection that lasts. The caller holds the lock.
func (c *Connection) stopTimers() {
	for _, timer := range []*time.Timer{c.keepAlive, c.watch} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// setConn makes conn an end of the connection; if that has failed already, it resets conn and returns false.
func (c *Connection) setConn(side Side, conn *socket.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		conn.Close()
		return false
	}
	c.addEnd(side, conn)
	return true
}

// markConnected notes that the peer has connected. The caller holds the lock.
func (c *Connection) markConnected() {
	c.connectedAt = time.Now()
	close(c.connected)
}

// Listen returns the gateway's address and port where the peer is expected; not valid for a bridge.
func (c *Connection) Listen() netip.AddrPort { return c.listen }

// Bytes returns how many bytes were forwarded so far, from the client and to it.
func (c *Connection) Bytes() (up, down int64) {
	return c.bytes[Client].Load(), c.bytes[Server].Load()
}

// ConnectedAt returns when the pinhole's peer was accepted, or both legs of a bridge were connected; zero:
// not yet.
func (c *Connection) ConnectedAt() time.Time {
	select {
	case <-c.connected:
		return c.connectedAt
	default:
		return time.Time{}
	}
}

// LastUnexpectedPeer returns the last peer that was refused for having another address than the pinhole's;
// not valid: none was.
func (c *Connection) LastUnexpectedPeer() netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unexpectedPeer
}

// NotResumed reports whether TLS with the server was set up without resuming the session of the control
// connection: some servers then refuse data.
func (c *Connection) NotResumed() bool { return c.copier.notResumed() }

// Done is closed when the connection is over, its goroutines have ended and its sockets are closed.
func (c *Connection) Done() <-chan struct{} { return c.done }
