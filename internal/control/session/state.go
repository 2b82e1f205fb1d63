package session

import (
	"context"
	"sync"
	"time"

	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/dialogue"
)

// phase is what a session is doing.
//
//	New ──▶ reading; with implicit TLS ──▶ switching
//	reading ── takeTurn ──▶ working ── leaveWorking(None) ──▶ reading
//	working ── pause ──▶ delaying, delivering ── resume ──▶ working
//	working ── leaveWorking(Encrypt, Decrypt) ──▶ switching ── finishTransition ──▶ reading
//	working ── leaveWorking(Passthrough) ──▶ stopping ── stopServerReader ──▶ passthrough
//	passthrough ── endDirection ──▶ halfEnded
//	any phase ── setTerminated ──▶ terminated
//
// While a session is reading, a reader that has a line may take the turn. The reader that has the turn
// carries out one step: it alone uses the session's fields below the state, and it holds no lock. Once the
// session is terminated, the reader that returns last has the turn, or the one that took it from the other.
type phase uint8

const (
	reading     phase = iota // both ends are read, and no reader carries out a step
	working                  // a reader carries out a step; lines of both ends wait
	delaying                 // working, and the answer to a failed login is delayed
	delivering               // working, and the last reply of a transfer waits for its data
	switching                // the client's connection goes to TLS or back; lines of both ends wait
	stopping                 // the session is to be passed through; the server's reader still reads lines
	passthrough              // bytes go through unread, in both directions
	halfEnded                // passthrough, and one direction has ended
	terminated               // the session is over: both readers return
)

// inStep reports whether a reader has the turn.
func (p phase) inStep() bool { return p == working || p == delaying || p == delivering }

// inPassthrough reports whether the session is passed through or about to be, so that its lines cannot be
// read, or not for much longer.
func (p phase) inPassthrough() bool { return p == stopping || p == passthrough || p == halfEnded }

// state is what a session is doing, for its two readers, for the watch of timeouts and for operators. Its
// lock is held only briefly: never during a dial, a write, a log write or a call of the data path.
type state struct {
	mu         sync.Mutex
	changed    sync.Cond // of mu
	phase      phase
	transition dialogue.Transition // the last one that was requested, while it is not finished; else None

	serverAhead  bool      // the server has sent a line that is not handled yet: it answers no later command
	commands     int       // how many the client's reader has handled
	commandWaits bool      // it has one that waits for a reply of the server's
	clientEnded  bool      // the client has closed its side of the connection
	draining     error     // why to terminate as soon as no transfer runs; nil: not
	loginFrom    time.Time // when the time for the login began
	lastActive   time.Time // when either side sent a line, or the data of a half-closed session was live
	dataWasLive  bool      // at the last check of watchHalfClosed
	barrier      *replyBarrier

	ending         *ending       // why the session is over; nil: it is not
	terminatedCh   chan struct{} // closed when the session is over; nil: no goroutine waits for that
	severedCh      chan struct{} // closed when data connections are to end, too; nil: no goroutine waits
	killedAfterEnd bool          // an operator ended it when only its data connections were left
	// when the reader that has the turn began to wait for the data path; zero: it does not
	pathCallSince time.Time
	turnTaken     bool          // the other reader took the turn from it
	finished      chan struct{} // closed when the session is finished; nil: no reader has returned

	cancelDial context.CancelFunc // ends the dial of a server that the client named; nil: none is under way
}

// replyBarrier holds back a reply, while the session is delaying or delivering.
type replyBarrier struct {
	cancel   chan struct{} // closed: send the reply now
	released bool          // cancel is closed
}

// release sends the reply now. It is called with the state's lock held.
func (b *replyBarrier) release() {
	if !b.released {
		b.released = true
		close(b.cancel)
	}
}

func newReplyBarrier() *replyBarrier { return &replyBarrier{cancel: make(chan struct{})} }

// ending is why a session is over, and its last line for the client.
type ending struct {
	refusal refusal.Refusal
	goodbye string // without its line end; "": none
	severs  bool   // data connections end with the session: by an operator, or by a limit
}

func (s *state) init(p phase) {
	s.changed.L = &s.mu
	s.phase = p
	s.loginFrom = time.Now()
	s.lastActive = s.loginFrom
}

// takeTurn gives a reader the turn. It is called with the lock held, while the session is reading.
func (s *state) takeTurn() { s.phase = working }

// leaveWorking lets the next line be handled, unless the step requested a transition or the session is over.
// It is called with the lock held.
func (s *state) leaveWorking(t dialogue.Transition) {
	switch {
	case s.phase != working:
	case t == dialogue.None:
		s.phase = reading
	case t == dialogue.Passthrough:
		s.phase, s.transition = stopping, t
	default:
		s.phase, s.transition = switching, t
	}
	s.changed.Broadcast()
}

// pause sets the phase in which the reader that has the turn waits: delaying or delivering. It returns false
// if the session is over.
func (s *state) pause(p phase, barrier *replyBarrier) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == terminated {
		return false
	}
	s.phase, s.barrier = p, barrier
	if s.clientEnded { // it sends no further command
		barrier.release()
	}
	s.changed.Broadcast() // a line of the client's may be waiting
	return true
}

// resume continues the step after pause. It returns false if the session is over.
func (s *state) resume() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barrier = nil
	s.lastActive = time.Now()
	if s.phase == terminated {
		return false
	}
	s.phase = working
	return true
}

// terminatedSignal returns a channel that is closed when the session is over.
func (s *state) terminatedSignal() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminatedCh == nil {
		s.terminatedCh = make(chan struct{})
		if s.phase == terminated {
			close(s.terminatedCh)
		}
	}
	return s.terminatedCh
}

// severedSignal returns a channel that is closed when the data connections are to end with the session.
func (s *state) severedSignal() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.severedCh = make(chan struct{})
	if s.ending.severs {
		close(s.severedCh)
	}
	return s.severedCh
}

// severAfterEnd ends the data connections that continue after the session's end. It is called with the lock
// held.
func (s *state) severAfterEnd() {
	if s.ending.severs {
		return
	}
	s.ending.severs, s.killedAfterEnd = true, true
	if s.severedCh != nil {
		close(s.severedCh)
	}
}

// wasKilledAfterEnd reports whether an operator ended the data connections that continued after the session's
// end.
func (s *state) wasKilledAfterEnd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killedAfterEnd
}

// finishTransition lets the readers read lines again. It is called with the lock held, and returns false if
// the session is over.
func (s *state) finishTransition() bool {
	s.transition = dialogue.None
	s.changed.Broadcast()
	if s.phase == terminated {
		return false
	}
	s.phase = reading
	return true
}

// stopServerReader is called by the server's reader when it reads no more lines. It is called with the lock
// held.
func (s *state) stopServerReader() {
	if s.phase == stopping {
		s.phase = passthrough
	}
	s.changed.Broadcast()
}

// endDirection is called when one direction of a passthrough has ended. It returns false if the other one
// had ended before, or the session is over.
func (s *state) endDirection() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != passthrough {
		return false
	}
	s.phase = halfEnded
	return true
}

// setTerminated makes the session terminated; the first ending counts. It is called with the lock held, and
// returns the phase before.
func (s *state) setTerminated(e ending) (before phase) {
	before = s.phase
	if before == terminated {
		return before
	}
	s.phase, s.ending = terminated, &e
	if s.barrier != nil {
		s.barrier.release()
	}
	if s.terminatedCh != nil {
		close(s.terminatedCh)
	}
	if s.cancelDial != nil {
		s.cancelDial()
	}
	s.changed.Broadcast()
	return before
}

// isTerminated reports whether the session is terminated.
func (s *state) isTerminated() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == terminated
}

// setPathCallSince notes when the reader that has the turn began to wait for the data path; zero: it does not
// wait. It returns false if the reader has lost the turn.
func (s *state) setPathCallSince(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pathCallSince = since
	return !s.turnTaken
}

// readerOrder says in which order a reader returns.
type readerOrder uint8

const (
	returnedFirst readerOrder = iota
	returnedLast              // and it has the turn
	replaced                  // last, but the first one took the turn
)

// leaveTurn is called by a reader that returns. The caller closes finished when the session is finished.
func (s *state) leaveTurn() (finished chan struct{}, order readerOrder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.turnTaken:
		return s.finished, replaced
	case s.finished != nil:
		return s.finished, returnedLast
	}
	s.finished = make(chan struct{})
	return s.finished, returnedFirst
}

// takeTurnAway takes the turn from the other reader if that one has waited this long for the data path;
// false: it has not.
func (s *state) takeTurnAway(limit time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turnTaken = !s.pathCallSince.IsZero() && time.Since(s.pathCallSince) >= limit
	return s.turnTaken
}

// inPassthrough reports whether the session is passed through, or is about to be.
func (s *state) inPassthrough() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase.inPassthrough()
}

// severs reports whether the session's end ends its data connection, too.
func (s *state) severs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending != nil && s.ending.severs
}

// goodbye returns the last line for the client, without its line end; "": there is none, or the session is
// not over.
func (s *state) goodbye() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil {
		return ""
	}
	return s.ending.goodbye
}
