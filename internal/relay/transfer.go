package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Result is what became of a transfer.
type Result struct {
	FromTo    int64     // bytes from From that were given to To's connection
	ToFrom    int64     // and the reverse
	Strangers int       // connections from other addresses than the pinhole's, all reset
	Began     time.Time // when the pinhole opened, or the bridge began to dial
	Connected time.Time // when the peer was accepted, or both legs of a bridge stood; zero: never
	Joined    time.Time // when both ends stood; zero: never
	Ended     time.Time
	// Err is nil only if both ends closed their direction in order and all they sent was passed
	// on. Else it is, or wraps, ErrNobody, ErrClosed, a *DialError or a *BrokenError.
	Err error
}

// Transfer is one data connection through the gateway, from the open port to the last byte. Its
// methods may be called by several goroutines at once.
type Transfer struct {
	at        netip.AddrPort
	connected chan struct{} // closed when the peer is there
	done      chan struct{} // closed when result is complete
	result    Result        // of the running goroutine until done is closed

	ctx      context.Context // ends when Close is called or the caller's ends
	cancel   context.CancelCauseFunc
	release  func() bool   // takes back the order to sever when ctx ends; false: too late
	severed  chan struct{} // closed when that order has been carried out
	listener *net.TCPListener

	bytes [2]atomic.Int64 // passed on, by the end that sent them
	ended [2]atomic.Bool  // the end has sent its FIN, and all that came before it was passed on

	mu   sync.Mutex
	ends [2]*net.TCPConn // kept, by side; without a lock once both stand
	err  error           // the first failure; after it nothing is open
}

// newTransfer returns a transfer that has not started.
func newTransfer(ctx context.Context) *Transfer {
	t := &Transfer{
		connected: make(chan struct{}),
		done:      make(chan struct{}),
		severed:   make(chan struct{}),
	}
	t.result.Began = time.Now()
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	return t
}

// start runs work in the transfer's own goroutine, which ends with done.
func (t *Transfer) start(work func() error) {
	t.release = context.AfterFunc(t.ctx, t.callOff)
	go t.run(work)
}

// run is the transfer's goroutine: it does the work and says what became of it.
func (t *Transfer) run(work func() error) {
	defer close(t.done)
	if err := work(); err != nil {
		t.fail(err)
	}
	if !t.release() {
		<-t.severed
	}
	t.cancel(nil) // nothing listens for it any more: it lets go of the caller's context
	if t.err == nil {
		for _, c := range t.ends {
			_ = c.SetLinger(-1) // what is still on its way is delivered; fails on no open socket
			c.Close()
		}
	}
	t.result.FromTo, t.result.ToFrom = t.Bytes()
	t.result.Ended = time.Now()
	t.result.Err = t.err
}

// callOff breaks the transfer because its context has ended.
func (t *Transfer) callOff() {
	defer close(t.severed)
	t.fail(ErrClosed)
}

// fail breaks the transfer for both ends: both see a reset, never a FIN. The first error counts;
// later ones tell what the first one did.
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
	t.err = err
	if t.listener != nil {
		t.listener.Close()
	}
	for _, c := range t.ends {
		if c != nil {
			c.Close() // a reset: see abortive
		}
	}
}

// keep makes c an end of the transfer; where that has failed already, c is reset.
func (t *Transfer) keep(side Side, c *net.TCPConn) bool {
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

// Connected is closed when the pinhole's peer was accepted, or both legs of a bridge stand. It
// stays open where that never happens: wait for Done beside it.
func (t *Transfer) Connected() <-chan struct{} { return t.connected }

// Done is closed when the transfer is over and all its goroutines and sockets are gone.
func (t *Transfer) Done() <-chan struct{} { return t.done }

// Result returns what became of the transfer; it waits for Done.
func (t *Transfer) Result() Result {
	<-t.done
	return t.result
}

// Close ends the transfer and waits for its end. Before a connection came the port is closed, and
// nothing can come; later both ends are reset. On a transfer that is over it does nothing.
func (t *Transfer) Close() {
	t.cancel(ErrClosed)
	<-t.done
}
