package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Result is what became of a transfer.
type Result struct {
	FromTo    int64     // bytes from From that were given to To's connection
	ToFrom    int64     // and the reverse
	Strangers int       // connections from other addresses than the pinhole's, all reset
	Began     time.Time // when the port was reserved, or the bridge began to dial
	Armed     time.Time // when the pinhole was armed; zero: never, or a bridge
	Connected time.Time // when the peer was accepted, or both legs of a bridge stood; zero: never
	Joined    time.Time // when both ends stood; zero: never
	Ended     time.Time
	// Err is nil only if both ends closed their direction in order and all they sent was passed
	// on. Else it is, or wraps, ErrNobody, ErrClosed, a *DialError, a *HandshakeError or a
	// *BrokenError; of a sealed end that may wrap a *TruncatedError.
	Err error
}

// Transfer is one data connection through the gateway, from the reserved port to the last byte. Its
// methods may be called by several goroutines at once.
//
// It has no goroutine of its own until it is armed, one until both ends stand, and then two; during TLS
// handshakes three.
type Transfer struct {
	at        netip.AddrPort // not valid for a bridge
	work      func() error   // all that is done between Arm and the end
	connected chan struct{}  // closed when the peer is there
	done      chan struct{}  // closed when result is complete
	result    Result         // of the running goroutine until done is closed

	ctx     context.Context // ends when Close is called or the caller's ends
	cancel  context.CancelCauseFunc
	release func() bool   // takes back the order to sever when ctx ends; false: too late
	severed chan struct{} // closed when that order has been carried out

	bytes [2]atomic.Int64 // passed on, by the end that sent them
	ended [2]atomic.Bool  // the end has sent its FIN, and all that came before it was passed on

	broken     chan struct{}    // closed with the first failure
	legTLS     [2]legTLS        // by side
	legs       [2]*leg          // of a sealed transfer, once both ends stand
	spoken     [2]chan struct{} // of a sealed transfer: closed when the end has sent data or has ended
	spokenOnce [2]sync.Once
	unresumed  atomic.Bool // the server has not resumed the TLS session of its control connection

	mu        sync.Mutex
	reserved  *os.File         // the socket that has the port, until it listens
	listener  *net.TCPListener // without a lock once the transfer is armed
	armed     bool             // the goroutine runs, or has run
	ends      [2]*net.TCPConn  // kept, by side; without a lock once both stand
	shaken    bool             // the handshakes of a sealed transfer are over
	hurried   bool             // Finish has come before shaken
	delivered bool             // Finish has found that nothing is left to be passed on
	err       error            // the first failure; after it nothing is open
	stranger  netip.Addr       // the last one that came from another address than the peer's
}

// newTransfer returns a transfer whose goroutine does not run yet.
func newTransfer(ctx context.Context) *Transfer {
	t := &Transfer{
		connected: make(chan struct{}),
		done:      make(chan struct{}),
		severed:   make(chan struct{}),
		broken:    make(chan struct{}),
	}
	t.result.Began = time.Now()
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	return t
}

// Arm lets the peer's connection come: when it returns nil, a peer can connect to At. The wait time
// runs from here. Armed once more, and on a bridge, it does nothing.
//
// The error is, or wraps, ErrClosed on a transfer that is over, and else the operating system's; the
// transfer stays to be closed.
func (t *Transfer) Arm() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed {
		return nil
	}
	if t.err != nil {
		return fmt.Errorf("relay: arm %s: %w", t.at, t.err)
	}
	if t.listener == nil {
		if err := t.listen(); err != nil {
			return fmt.Errorf("relay: arm %s: %w", t.at, err)
		}
	}
	t.armed = true
	t.result.Armed = time.Now()
	go t.run()
	return nil
}

// listen makes the reserved port one where connections wait. It is for who holds the lock, or nobody
// else has the transfer yet.
func (t *Transfer) listen() error {
	l, err := listenOn(t.reserved)
	if err != nil {
		return err
	}
	t.reserved.Close() // the listener has it
	t.listener = l
	return nil
}

// Waiting tells whether a connection waits to be let through by Arm.
func (t *Transfer) Waiting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed || t.listener == nil || t.err != nil {
		return false
	}
	raw, err := t.listener.SyscallConn()
	if err != nil {
		return false
	}
	return onSocket(raw, func(fd int) error {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err == nil && n == 0 {
			err = unix.EAGAIN
		}
		return err
	}) == nil
}

// run is the transfer's goroutine: it does the work and says what became of it.
func (t *Transfer) run() {
	if err := t.work(); err != nil {
		t.fail(err)
	}
	if !t.release() {
		<-t.severed
	}
	t.cancel(nil) // nothing listens for it any more: it lets go of the caller's context
	if t.err == nil {
		t.closeInOrder()
	}
	t.end()
}

// closeInOrder closes both ends so that what is still on its way is delivered.
func (t *Transfer) closeInOrder() {
	for _, c := range t.ends {
		_ = c.SetLinger(-1) // fails on no open socket
		c.Close()
	}
}

// end completes the result of a transfer of which nothing runs any more.
func (t *Transfer) end() {
	t.result.FromTo, t.result.ToFrom = t.Bytes()
	t.result.Ended = time.Now()
	if t.err != errDelivered {
		t.result.Err = t.err
	}
	close(t.done)
}

// callOff breaks the transfer because its context has ended.
func (t *Transfer) callOff() {
	t.fail(ErrClosed)
	if !t.isArmed() { // and never will be: see Arm
		t.end()
	}
	close(t.severed)
}

func (t *Transfer) isArmed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.armed
}

// errDelivered stands for the failure of a transfer that was closed after all of it was delivered.
var errDelivered = errors.New("delivered")

// fail breaks the transfer for both ends: both see a reset, never a FIN, unless all was delivered
// before. The first error counts; later ones tell what the first one did.
func (t *Transfer) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	// The end of the context comes out of every call that waits, in an order that nobody knows.
	if cause := context.Cause(t.ctx); errors.Is(cause, ErrClosed) {
		err = cause
	} else if cause != nil {
		err = fmt.Errorf("%w: %w", ErrClosed, cause)
	}
	close(t.broken)
	if t.delivered {
		t.err = errDelivered
		t.closeInOrder()
		return
	}
	t.err = err
	if t.reserved != nil {
		t.reserved.Close() // closed twice where Arm was faster: no harm
	}
	if t.listener != nil {
		t.listener.Close()
	}
	for _, c := range t.ends {
		if c != nil {
			c.Close() // a reset: see abortive
		}
	}
}

// setConn makes c an end of the transfer; where that has failed already, c is reset.
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

// At returns the gateway's address and port where the peer is expected; not valid for a bridge.
func (t *Transfer) At() netip.AddrPort { return t.at }

// Bytes returns what has been passed on so far: from From to To, and from To to From.
func (t *Transfer) Bytes() (fromTo, toFrom int64) {
	return t.bytes[From].Load(), t.bytes[To].Load()
}

// Came returns when the pinhole's peer was accepted, or both legs of a bridge stood, and who was refused
// last for coming from another address: so far nobody, where they are not set.
func (t *Transfer) Came() (at time.Time, stranger netip.Addr) {
	t.mu.Lock()
	stranger = t.stranger
	t.mu.Unlock()
	select {
	case <-t.connected:
		return t.result.Connected, stranger
	default:
		return time.Time{}, stranger
	}
}

// Connected is closed when the pinhole's peer was accepted, or both legs of a bridge stand. It
// stays open where that never happens: wait for Done beside it.
func (t *Transfer) Connected() <-chan struct{} { return t.connected }

// Unresumed tells that TLS with the server stands, or stood, and that the server did not resume the session
// of its control connection: there are servers that take no data then.
func (t *Transfer) Unresumed() bool { return t.unresumed.Load() }

// Done is closed when the transfer is over and all its goroutines and sockets are gone.
func (t *Transfer) Done() <-chan struct{} { return t.done }

// Result returns what became of the transfer; it waits for Done.
func (t *Transfer) Result() Result {
	<-t.done
	return t.result
}

// Close ends the transfer and waits for its end. Before a connection came the port is given back, and
// nothing can come; later both ends are reset, unless Finish has found that all was delivered: then
// they are closed in order. On a transfer that is over it does nothing.
func (t *Transfer) Close() {
	t.cancel(ErrClosed)
	<-t.done
}
